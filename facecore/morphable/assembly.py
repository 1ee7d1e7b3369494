"""From the arrays of a foreign model file to a MorphableModel: units, whitening, origin, and whether it faces us."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np
import torch

from facecore.errors import OptionError
from facecore.morphable.landmark_vertices import read_landmark_vertices
from facecore.morphable.landmarks import landmark_regions
from facecore.morphable.mirror import mirror_from_pairs, mirror_from_topology
from facecore.morphable.model import MorphableModel
from facecore.morphable.prior import BlendshapePrior, Prior

EYE_CORNERS_MM = (50.0, 150.0)  # outer ones, of any human head; 89 on average. Tells one unit of length from another

ACTIVITY = 0.25  # of blendshapes without a prior of their own: one or two of six are seen at a time
FARTHEST_MM = 1000.0  # from the centroid to any vertex of a head


@dataclasses.dataclass(frozen=True, eq=False)
class Modes:
    """Linear modes as a file holds them: basis [3V, K], rows x0 y0 z0 x1 ...; std [K], standard deviations.

    One unit of a whitened coefficient moves the vertices by basis[:, k] * std[k].
    """

    basis: np.ndarray
    std: np.ndarray

    def first(self, count: int | None, name: str) -> Modes:
        """The first `count` modes; None = all. Raises ValueError when there are fewer."""
        if count is None:
            return self
        if not isinstance(count, int) or not 0 <= count <= len(self.std):
            raise OptionError(f"{name} must be an integer from 0 to {len(self.std)}, got {count!r}")
        return Modes(self.basis[:, :count], self.std[:count])

    def whitened(self, factor: float, num_vertices: int) -> torch.Tensor:
        """basis * std * factor, float32 [K, V, 3]."""
        scaled = self.basis.T * (self.std * factor)[:, None]
        return torch.from_numpy(np.ascontiguousarray(scaled, dtype=np.float32)).view(-1, num_vertices, 3)

    @classmethod
    def none(cls, num_vertices: int) -> Modes:
        return cls(np.zeros((3 * num_vertices, 0), dtype=np.float32), np.zeros(0))


@dataclasses.dataclass(frozen=True, eq=False)
class LinearSource:
    """A linear face model in the frame and unit of its file: y up, z out of the face, x to image right.

    mean: [V, 3] in units of `millimetres` mm each, expression mean included; triangles: [T, 3], 0-based, any winding;
    identity, expression: modes in the same unit; landmarks68: vertices, 0-based, or None = the file has none.
    albedo_mean: [V, 3] RGB, `white` being 1; albedo: its modes in the same scale. mirror_pairs: [2, P], 0-based, or
    None = derive. regions: bool [V]. uv: [V, 2], v upwards. blendshapes: the expression modes are
    shapes with weights in [0, 1], not principal components.
    """

    name: str
    source: str
    millimetres: float
    mean: np.ndarray
    triangles: np.ndarray
    identity: Modes
    expression: Modes
    landmarks68: np.ndarray | None = None
    albedo_mean: np.ndarray | None = None
    albedo: Modes | None = None
    white: float = 255.0
    mirror_pairs: np.ndarray | None = None
    regions: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    uv: np.ndarray | None = None
    blendshapes: bool = False
    expression_names: tuple[str, ...] = ()


def assemble(
    path: pathlib.Path,
    source: LinearSource,
    landmarks: str | os.PathLike[str] | None = None,
    *,
    num_identity: int | None = None,
    num_expression: int | None = None,
    num_albedo: int | None = None,
) -> MorphableModel:
    """The model in millimetres with its origin at the template's centroid (METHODS 1.2, 1.4).

    path: of the file, for messages. landmarks: a file of the 68 vertices (`read_landmark_vertices`) to be taken instead
    of the source's own. num_identity, num_expression, num_albedo: how many of the file's modes to keep; None = all.
    `identity_std` and the others stay in the unit of the file: the file's raw coefficient is coefficient * std.
    `origin` holds the place of the template's centroid in the file's frame (METHODS 1.2: t' = t + f R c). Winding is
    normalised by the container. Raises ValueError when there are no landmarks, when they contradict frame or unit, and
    for whatever the container refuses.
    """
    if landmarks is not None:
        found = read_landmark_vertices(landmarks, source.mean * source.millimetres)
        source = dataclasses.replace(source, landmarks68=found)
    if source.landmarks68 is None:
        raise ValueError(
            f"{path} has no 68 landmarks; give a file of their vertices (.npy, .txt, .json, .mat) by the option "
            "landmarks of facecore.morphable.load, or by 'facecore model convert MODEL OUT.npz --landmarks FILE'"
        )
    try:
        return _assembled(source, source.landmarks68, num_identity, num_expression, num_albedo)
    except OptionError as error:
        raise OptionError(f"{error}; the file is {path}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _assembled(
    source: LinearSource,
    landmarks68: np.ndarray,
    num_identity: int | None,
    num_expression: int | None,
    num_albedo: int | None,
) -> MorphableModel:
    count = len(source.mean)
    mean = source.mean.astype(np.float64) * source.millimetres
    origin = mean.mean(axis=0)
    vertices = mean - origin
    check_frame(vertices, landmarks68)
    template = torch.from_numpy(vertices.astype(np.float32))
    landmarks = torch.from_numpy(np.ascontiguousarray(landmarks68, dtype=np.int64))
    identity = source.identity.first(num_identity, "num_identity")
    expression = source.expression.first(num_expression, "num_expression")
    if source.mirror_pairs is not None:
        mirror: np.ndarray | None = mirror_from_pairs(source.mirror_pairs, vertices)
    else:
        mirror = mirror_from_topology(vertices, source.triangles, landmarks68)
    fields: dict[str, Any] = {
        "mirror_map": None if mirror is None else torch.from_numpy(mirror),
        "uv": None if source.uv is None else torch.from_numpy(np.ascontiguousarray(source.uv, dtype=np.float32)),
        "regions": landmark_regions(template, landmarks, eyes=False)
        | {name: torch.from_numpy(np.ascontiguousarray(mask)) for name, mask in source.regions.items()},
    }
    model = MorphableModel(
        name=source.name,
        template=template,
        triangles=torch.from_numpy(np.ascontiguousarray(source.triangles, dtype=np.int32)),
        identity_basis=identity.whitened(source.millimetres, count),
        identity_std=torch.from_numpy(identity.std.astype(np.float32)),
        expression_basis=expression.whitened(source.millimetres, count),
        expression_std=torch.from_numpy(expression.std.astype(np.float32)),
        landmarks68=landmarks,
        prior=_prior(len(identity.std), len(expression.std), source.blendshapes),
        origin=torch.from_numpy(origin.astype(np.float32)),
        expression_names=source.expression_names[: len(expression.std)],
        source=source.source,
        **fields,
    )
    return _with_albedo(model, source, num_albedo)


def _prior(num_identity: int, num_expression: int, blendshapes: bool) -> Prior:
    if not blendshapes:
        return Prior.normal(num_identity, num_expression)
    alone = BlendshapePrior(torch.arange(num_expression), torch.full((num_expression,), -1), ACTIVITY, symmetry=1.0)
    return Prior.with_blendshapes(num_identity, alone)


def _with_albedo(model: MorphableModel, source: LinearSource, num_albedo: int | None) -> MorphableModel:
    if source.albedo_mean is None or source.albedo is None:
        if num_albedo:
            raise OptionError(f"num_albedo must be 0, got {num_albedo}: this file has no albedo")
        return model
    albedo = source.albedo.first(num_albedo, "num_albedo")
    mean = source.albedo_mean.astype(np.float64) / source.white
    if not (mean.min() > -0.02 and mean.max() < 1.02):
        raise ValueError(f"the mean albedo must lie in 0 to {source.white:g}, got {mean.min():.3g} to {mean.max():.3g}")
    return model.with_albedo(
        torch.from_numpy(mean.clip(0, 1).astype(np.float32)),
        albedo.whitened(1 / source.white, model.num_vertices),
        torch.from_numpy(albedo.std.astype(np.float32)),
        source=source.name,
    )


def check_frame(vertices_mm: np.ndarray, landmarks68: np.ndarray) -> None:
    """Raises ValueError unless the landmarks lie as on a face in millimetres, y up, z out of the face, x image right.

    What it finds: a wrong unit, a flipped axis, landmarks of another mesh, and indices that are off by one only where
    that moves them far.
    """
    farthest = float(np.abs(vertices_mm).max())
    if not farthest <= FARTHEST_MM:
        raise ValueError(f"a vertex lies {farthest:.4g} mm from the centroid, a head reaches {FARTHEST_MM:g} at most")
    points = vertices_mm[landmarks68]
    right, left, nose, bridge, chin = (points[i] for i in (36, 45, 30, 27, 8))
    eyes = (points[36:48]).mean(axis=0)
    distance = float(np.linalg.norm(right - left))
    if not EYE_CORNERS_MM[0] <= distance <= EYE_CORNERS_MM[1]:
        low, high = EYE_CORNERS_MM
        raise ValueError(
            f"the outer eye corners (landmarks 36 and 45) are {distance:.4g} mm apart, not {low:g} to {high:g}: "
            "the landmarks are of another mesh, or the file is in another unit"
        )
    wrong = [
        text
        for text, holds in (
            ("x does not point to image right (landmark 36 must lie left of 45)", right[0] < left[0]),
            ("y does not point up (the chin must lie below the bridge of the nose)", chin[1] < bridge[1]),
            ("z does not point out of the face (the nose must lie in front of the eyes)", nose[2] > eyes[2]),
        )
        if not holds
    ]
    if wrong:
        raise ValueError(f"by its landmarks, {'; '.join(wrong)}: they are of another mesh, or the frame is another one")
