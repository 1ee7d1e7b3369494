"""A face model of the tests' own, and writers of it in the formats of foreign morphable models (FORMATS B1 to B8)."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import struct
from typing import Any

import numpy as np
import scipy.io
import torch

from facecore.morphable import MorphableModel, load

TOPOLOGY = "meshes/bfm_topology"
EXPRESSION_OFFSET = np.array([0.0, 1.0, 2.0])  # mm: what expMU and expression.mean add everywhere


@dataclasses.dataclass(frozen=True, eq=False)
class Truth:
    """Everything in millimetres in the frame of the file, whose origin is not the face's centroid.

    vertices [V, 3] without EXPRESSION_OFFSET; triangles [T, 3] counter-clockwise; bases orthonormal [3V, K];
    colours in [0, 1].
    """

    vertices: np.ndarray
    triangles: np.ndarray
    landmarks68: np.ndarray
    identity: np.ndarray
    identity_std: np.ndarray
    expression: np.ndarray
    expression_std: np.ndarray
    albedo_mean: np.ndarray
    albedo: np.ndarray
    albedo_std: np.ndarray
    mirror: np.ndarray | None = None

    def neutral(self) -> np.ndarray:
        """The mean face of a format that has an expression mean."""
        return np.asarray(self.vertices + EXPRESSION_OFFSET)

    def raw(self, seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coefficients of the orthonormal bases, in mm: of a face two standard deviations from the mean."""
        draw = np.random.default_rng(seed).standard_normal
        stds = (self.identity_std, self.expression_std, self.albedo_std)
        identity, expression, albedo = (2 * draw(len(std)) * std for std in stds)
        return identity, expression, albedo


def make_truth(
    vertices: np.ndarray, triangles: np.ndarray, landmarks68: np.ndarray, mirror: np.ndarray | None = None
) -> Truth:
    rng = np.random.default_rng(0)
    count = len(vertices)

    def modes(num: int) -> np.ndarray:
        return np.linalg.qr(rng.standard_normal((3 * count, num)))[0].astype(np.float32)

    root = np.sqrt(count)  # an orthonormal mode times root * x moves each coordinate by about x
    return Truth(
        vertices=vertices - vertices.mean(0) + [12.0, -30.0, 70.0],
        triangles=triangles,
        landmarks68=landmarks68,
        identity=modes(3),
        identity_std=root * np.array([3.0, 2.0, 1.0]),
        expression=modes(2),
        expression_std=root * np.array([1.5, 0.5]),
        albedo_mean=rng.uniform(0.3, 0.7, (count, 3)),
        albedo=modes(2),
        albedo_std=root * np.array([0.02, 0.01]),
        mirror=mirror,
    )


@functools.cache
def small_truth() -> Truth:
    """On the procedural template, 2,500 vertices."""
    model = load("procedural", num_vertices=2500)
    assert model.mirror_map is not None
    return make_truth(
        model.template.double().numpy(),
        model.triangles.long().numpy(),
        model.landmarks68.numpy(),
        model.mirror_map.numpy(),
    )


@functools.cache
def bfm_truth(data_dir: pathlib.Path) -> Truth:
    """On the 53,215 vertices of the Basel Face Model's topology: a fitted face, turned to the front, millimetres."""
    folder = data_dir / TOPOLOGY
    clockwise = scipy.io.loadmat(folder / "tri_53215.mat")["tri"].T.astype(np.int64) - 1
    posed = scipy.io.loadmat(folder / "image00427_vertices_53215.mat")["vertex"].T.astype(np.float64)
    landmarks = np.load(folder / "keypoints_flat_53215.npy")[::3] // 3
    standard = scipy.io.loadmat(folder / "similarity_Lm3D_all.mat")["lm"] * 100.0
    a, b = posed[landmarks] - posed[landmarks].mean(0), standard - standard.mean(0)
    left, _, right = np.linalg.svd(a.T @ b)
    turn = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
    scale = np.sqrt((b**2).sum() / (a**2).sum())
    return make_truth((posed - posed.mean(0)) @ turn * scale, clockwise[:, [0, 2, 1]], landmarks)


def check_model(
    model: MorphableModel, truth: Truth, *, expression: bool = True, albedo: bool = True, own_std: bool = True
) -> None:
    """The loaded model against the truth: shapes by the formula of the file, in the file's own coefficients.

    own_std: the model's std is the file's, in the unit in which the file's coefficients are the truth's mm; else it
    is 1 and a coefficient is a standard deviation. Tolerance: float32 of lengths up to 300 mm, summed over six modes.
    """
    neutral = truth.neutral() if expression else truth.vertices
    assert model.origin is not None
    np.testing.assert_allclose(model.origin.numpy(), neutral.mean(0), atol=1e-4)
    np.testing.assert_allclose(model.template.numpy(), neutral - neutral.mean(0), atol=1e-4)
    assert np.array_equal(model.triangles.numpy(), rotated(truth.triangles, model.triangles.numpy()))
    assert np.array_equal(model.landmarks68.numpy(), truth.landmarks68)
    raw = truth.raw()
    expected = neutral + (truth.identity @ raw[0]).reshape(-1, 3)
    coefficients = [torch.from_numpy(raw[0] / truth.identity_std).float()[None]]
    if expression:
        expected = expected + (truth.expression @ raw[1]).reshape(-1, 3)
        coefficients.append(torch.from_numpy(raw[1] / truth.expression_std).float()[None])
    else:
        assert model.num_expression == 0
    vertices = model.shape(*coefficients)[0] + model.origin
    np.testing.assert_allclose(vertices.numpy(), expected, atol=1e-3)
    if own_std:
        ratio = model.identity_std.numpy() / truth.identity_std
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)  # the unit of the file
    else:
        assert bool((model.identity_std == 1).all())
    if albedo:
        colours = model.albedo(torch.from_numpy(raw[2] / truth.albedo_std).float()[None])[0]
        expected = truth.albedo_mean + (truth.albedo @ raw[2]).reshape(-1, 3)
        np.testing.assert_allclose(colours.numpy(), expected, atol=1e-5)


def rotated(triangles: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The same triangles with each row turned so that it starts with the vertex that `like`'s row starts with."""
    shift = (triangles == like[:, :1]).argmax(axis=1)
    return np.take_along_axis(triangles, (shift[:, None] + np.arange(3)) % 3, axis=1)


def column(values: np.ndarray) -> np.ndarray:
    return np.asarray(values).reshape(-1, 1)


def bfm2009_fields(truth: Truth) -> dict[str, Any]:
    """Micrometres, EV = standard deviations, triangles from 1 and clockwise, colours 0 to 255."""
    return {
        "shapeMU": column(truth.vertices * 1e3).astype(np.float32),
        "shapePC": truth.identity,
        "shapeEV": column(truth.identity_std * 1e3).astype(np.float32),
        "texMU": column(truth.albedo_mean * 255).astype(np.float32),
        "texPC": truth.albedo,
        "texEV": column(truth.albedo_std * 255).astype(np.float32),
        "tl": (truth.triangles[:, [1, 0, 2]] + 1).astype(np.float64),
        "segbin": np.eye(4)[np.arange(len(truth.vertices)) % 4],
    }


def bfm_300wlp_fields(truth: Truth) -> dict[str, Any]:
    """The struct `model`: as B1, with expressions, landmarks from 1, triangles [3, T]."""
    fields = bfm2009_fields(truth)
    fields["tri"] = fields.pop("tl").T.astype(np.uint16)
    del fields["segbin"]
    return fields | {
        "expMU": column(np.tile(EXPRESSION_OFFSET * 1e3, len(truth.vertices))),
        "expPC": truth.expression,
        "expEV": column(truth.expression_std * 1e3),
        "tri_mouth": np.ones((3, 4), dtype=np.uint16),
        "kpt_ind": (truth.landmarks68 + 1).astype(np.uint16)[None],
    }


def deep3d_info(truth: Truth) -> dict[str, Any]:
    """facemodel_info.mat: float indices from 1, counter-clockwise."""
    count = len(truth.vertices)
    front = np.flatnonzero(truth.vertices[:, 2] > np.median(truth.vertices[:, 2]))
    return {
        "tri": (truth.triangles + 1).astype(np.float32),
        "keypoints": (truth.landmarks68 + 1).astype(np.float32)[None],
        "frontmask2_idx": column(front + 1).astype(np.float32),
        "skinmask": (np.arange(count) % 3 > 0).astype(np.float32)[None],
    }


def deep3d_fields(truth: Truth) -> dict[str, Any]:
    """BFM_model_front.mat: decimetres, bases times their standard deviations; the expression mean is in the mean."""
    return deep3d_info(truth) | {
        "meanshape": truth.neutral().reshape(1, -1) / 100,
        "idBase": truth.identity * truth.identity_std / 100,
        "exBase": truth.expression * truth.expression_std / 100,
        "meantex": truth.albedo_mean.reshape(1, -1) * 255,
        "texBase": truth.albedo * truth.albedo_std * 255,
    }


def write_statismo(path: pathlib.Path, truth: Truth, version: tuple[int, int] | None = (0, 9)) -> None:
    """BFM 2017: millimetres, variances, [3, V] points and cells from 0; version (0, 8) or none: bases times std."""
    import h5py

    with h5py.File(path, "w") as file:
        parts = {
            "shape": (truth.vertices, truth.identity, truth.identity_std),
            "expression": (np.tile(EXPRESSION_OFFSET, len(truth.vertices)), truth.expression, truth.expression_std),
            "color": (truth.albedo_mean, truth.albedo, truth.albedo_std),
        }
        for name, (mean, basis, std) in parts.items():
            scaled = basis * std if version is None or version <= (0, 8) else basis
            group = file.create_group(name)
            group["model/mean"] = mean.ravel().astype(np.float32)
            group["model/pcaBasis"] = scaled.astype(np.float32)
            group["model/pcaVariance"] = (std**2).astype(np.float32)
            group["representer/points"] = truth.vertices.T.astype(np.float32)
            group["representer/cells"] = truth.triangles.T.astype(np.int32)
            if version is not None:
                group["version/majorVersion"], group["version/minorVersion"] = version
        file["color/representer/colorspace"] = np.array(b"RGB", dtype="S4")  # filled with \0


def eos_content(truth: Truth, version: int = 4, *, landmarks: bool = True, blendshapes: bool = False) -> bytes:
    """eos: millimetres, variances, columns one after the other."""

    def matrix(values: np.ndarray) -> bytes:
        values = np.atleast_2d(values)
        return struct.pack("<ii", *values.shape) + values.astype("<f4").tobytes(order="F")

    def pca(mean: np.ndarray, basis: np.ndarray, std: np.ndarray) -> bytes:
        triangles = struct.pack("<Q", len(truth.triangles)) + truth.triangles.astype("<i4").tobytes()
        return matrix(column(mean)) + matrix(basis) + matrix(column(std**2)) + triangles

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    count = len(truth.vertices)
    mean = truth.vertices if version >= 2 and not blendshapes else truth.neutral()
    out = struct.pack("<I", version) + pca(mean, truth.identity, truth.identity_std)
    out += pca(truth.albedo_mean, truth.albedo, truth.albedo_std)
    scaled = truth.expression * truth.expression_std
    shapes = struct.pack("<Q", 2) + b"".join(text(f"shape {k}") + matrix(column(scaled[:, k])) for k in range(2))
    if version >= 2 and blendshapes:
        out += struct.pack("<Bi", 0, 1) + shapes
    elif version >= 2:
        offset = np.tile(EXPRESSION_OFFSET, count)
        out += struct.pack("<Bi", 0, 0) + pca(offset, truth.expression, truth.expression_std)
    if version >= 3 and landmarks:
        out += struct.pack("<BQ", 0, 68)
        out += b"".join(text(str(i + 1)) + struct.pack("<i", v) for i, v in enumerate(truth.landmarks68))
    elif version >= 3:
        out += struct.pack("<B", 1)
    out += struct.pack("<Q", count) + np.linspace(0, 1, 2 * count).astype("<f8").tobytes()
    return out + (struct.pack("<Q", 0) if version >= 4 else b"")


def blendshape_content(truth: Truth) -> bytes:
    """A file of eos blendshapes alone."""
    out = struct.pack("<Q", 2)
    for k in range(2):
        values = (truth.expression[:, k] * truth.expression_std[k]).astype("<f4")
        out += struct.pack("<Q", 5) + f"mode{k}".encode() + struct.pack("<ii", len(values), 1) + values.tobytes()
    return out
