"""The ICT loader: quad refinement on tiny meshes, the OBJ folder against the npz, and the real model's facts."""

from __future__ import annotations

import json
import pathlib
import warnings

import numpy as np
import pytest
import torch

from facecore.morphable import MorphableModel, load
from facecore.morphable.ict import REGIONS, expression_prior
from facecore.morphable.ict_source import read_folder, read_obj
from facecore.morphable.quads import quad_mesh


@pytest.fixture(scope="module")
def ict_path(data_dir: pathlib.Path) -> pathlib.Path:
    return data_dir / "ict_facekit.npz"


@pytest.fixture(scope="module")
def face(ict_path: pathlib.Path) -> MorphableModel:
    return load(ict_path)


@pytest.fixture(scope="module")
def refined(ict_path: pathlib.Path) -> MorphableModel:
    return load(ict_path, refine=1, albedo=None)


# -- quads -------------------------------------------------------------------------------------------------------------

# Two unit squares side by side, mirrored about x = 0:   3 4 5
#                                                         0 1 2
VERTICES = np.array([[-1, 0, 0], [0, 0, 0], [1, 0, 0], [-1, 1, 0], [0, 1, 0], [1, 1, 0]], dtype=np.float64)
QUADS = np.array([[0, 1, 4, 3], [1, 2, 5, 4]])
MIRROR = np.array([2, 1, 0, 5, 4, 3])


def _area(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    return np.asarray(np.cross(b - a, c - a)[:, 2] / 2)


def test_quads_are_split_along_corners_0_and_2() -> None:
    mesh = quad_mesh(QUADS, 6)
    assert mesh.triangles.tolist() == [[0, 1, 4], [0, 4, 3], [1, 2, 5], [1, 5, 4]]
    assert np.array_equal(mesh.weights.toarray(), np.eye(6)) and np.array_equal(mesh.mirror(MIRROR), MIRROR)


def test_refinement_adds_midpoints_and_centres() -> None:
    mesh = quad_mesh(QUADS, 6, refine=1)
    vertices = mesh.weights @ VERTICES
    assert vertices.shape == (6 + 7 + 2, 3) and mesh.triangles.shape == (16, 3)
    assert np.array_equal(vertices[:6], VERTICES)
    edges = [[0, 1], [0, 3], [1, 2], [1, 4], [2, 5], [3, 4], [4, 5]]
    assert np.array_equal(vertices[6:13], VERTICES[np.array(edges)].mean(axis=1))
    assert np.array_equal(vertices[13:], [[-0.5, 0.5, 0], [0.5, 0.5, 0]])
    assert np.allclose(_area(vertices, mesh.triangles), 1 / 8, atol=1e-15)  # counter-clockwise, an eighth each
    mirror = mesh.mirror(MIRROR)
    assert np.array_equal(mirror[mirror], np.arange(15))
    assert np.array_equal(vertices[mirror], vertices * [-1, 1, 1])
    sides = {tuple(sorted(triangle)) for triangle in mesh.triangles.tolist()}
    assert sides == {tuple(sorted(mirror[list(triangle)])) for triangle in sides}  # symmetric, unlike the split quads


def test_bad_quads_are_refused() -> None:
    with pytest.raises(ValueError, match="indices from 0 to 4"):
        quad_mesh(QUADS, 5)
    with pytest.raises(ValueError, match="refine must be 0 or 1"):
        quad_mesh(QUADS, 6, refine=2)
    with pytest.raises(ValueError, match="not symmetric under the mirror map"):
        quad_mesh(QUADS, 6, refine=1).mirror(np.array([1, 0, 2, 3, 4, 5]))


# -- the folder reader -------------------------------------------------------------------------------------------------


def _write_obj(path: pathlib.Path, vertices: np.ndarray, polygons: np.ndarray, uv: np.ndarray | None = None) -> None:
    lines = ["# a comment", "o mesh", *(f"v {x:.7f} {y:.7f} {z:.7f}" for x, y, z in vertices)]
    lines += [] if uv is None else [f"vt {u:.6f} {v:.6f}" for u, v in uv]
    for polygon in polygons:
        corners = [str(k + 1) if uv is None else f"{k + 1}/{k + 1}/1" for k in polygon if k >= 0]
        lines.append("f " + " ".join(corners))
    path.write_text("\n".join(lines) + "\n")


def _write_folder(folder: pathlib.Path) -> pathlib.Path:
    model = folder / "FaceXModel"
    model.mkdir()
    polygons = np.array([[0, 1, 4, 3], [1, 2, 5, -1]])
    _write_obj(model / "generic_neutral_mesh.obj", VERTICES, polygons, VERTICES[:, :2])
    for k in range(2):
        _write_obj(model / f"identity{k:03d}.obj", VERTICES + np.array([0, 0, k + 1]), polygons)
    _write_obj(model / "jawOpen.obj", VERTICES * [1, 2, 1], polygons)
    config = {"expressions": ["jawOpen"], "idx_to_landmark_verts": [0] * 68}
    (model / "vertex_indices.json").write_text(json.dumps(config))
    return folder


def test_folder_reader(tmp_path: pathlib.Path) -> None:
    for path in (_write_folder(tmp_path), tmp_path / "FaceXModel"):
        source = read_folder(path)
        assert np.array_equal(source.neutral, VERTICES)
        assert np.array_equal(source.polygons, [[0, 1, 4, 3], [1, 2, 5, -1]])
        assert np.array_equal(source.uv_polygons, source.polygons) and np.array_equal(source.uv, VERTICES[:, :2])
        assert source.identity_names == ("identity000", "identity001") and source.expression_names == ("jawOpen",)
        assert np.allclose(source.identity[1], [0, 0, 2]) and np.allclose(source.expression[0], VERTICES * [0, 1, 0])
    with pytest.raises(ValueError, match="has 6 vertices, the region 'face' needs 9409"):
        load(tmp_path)


def test_incomplete_folders_are_refused(tmp_path: pathlib.Path) -> None:
    folder = _write_folder(tmp_path) / "FaceXModel"
    (folder / "jawOpen.obj").unlink()
    with pytest.raises(ValueError, match=r"damaged or incomplete .*jawOpen\.obj"):
        load(tmp_path)
    _write_obj(folder / "jawOpen.obj", VERTICES[:5], np.zeros((0, 4)))
    with pytest.raises(ValueError, match="damaged or incomplete"):
        load(tmp_path)
    (folder / "vertex_indices.json").unlink()
    with pytest.raises(ValueError, match=r"vertex_indices\.json is missing"):
        load(tmp_path)


def test_obj_reader_refuses_big_polygons(tmp_path: pathlib.Path) -> None:
    _write_obj(tmp_path / "a.obj", VERTICES, np.array([[0, 1, 2, 3, 4]]))
    with pytest.raises(ValueError, match="3 or 4 corners, got 5"):
        read_obj(tmp_path / "a.obj")


def test_folder_gives_the_same_model_as_the_npz(
    tmp_path: pathlib.Path, ict_path: pathlib.Path, face: MorphableModel
) -> None:
    folder = tmp_path / "FaceXModel"
    folder.mkdir()
    with np.load(ict_path) as file:
        neutral, faces = file["neutral"][:11248].astype(np.float64), file["faces"][:11144]
        identity, expression = file["identity"][:2, :11248], file["expression"]
        names, landmarks = [str(name) for name in file["expression_names"]], file["landmarks68"].tolist()
    chosen = [names.index(name) for name in ("jawOpen", "mouthClose", "eyeBlink_L", "eyeBlink_R")]
    _write_obj(folder / "generic_neutral_mesh.obj", neutral, faces)
    for k in range(2):
        _write_obj(folder / f"identity{k:03d}.obj", neutral + identity[k], faces[:0])
    for k in chosen:
        _write_obj(folder / f"{names[k]}.obj", neutral + expression[k, :11248], faces[:0])
    config = {"expressions": [names[k] for k in chosen], "idx_to_landmark_verts": landmarks}
    (folder / "vertex_indices.json").write_text(json.dumps(config))
    model = load(tmp_path)
    assert model.uv is None  # these files carry none
    assert torch.equal(model.triangles, face.triangles) and torch.equal(model.landmarks68, face.landmarks68)
    assert model.mirror_map is not None and face.mirror_map is not None
    assert torch.equal(model.mirror_map, face.mirror_map)
    # The files are written with 7 decimals of a centimetre.
    torch.testing.assert_close(model.template, face.template, rtol=0, atol=2e-5)
    torch.testing.assert_close(model.identity_basis, face.identity_basis[:2], rtol=0, atol=2e-5)
    torch.testing.assert_close(model.expression_basis, face.expression_basis[chosen], rtol=0, atol=2e-5)


# -- the prior ---------------------------------------------------------------------------------------------------------


def test_expression_prior_pairs_sides_and_gaze() -> None:
    names = ("eyeBlink_L", "eyeBlink_R", "eyeLookIn_L", "eyeLookIn_R", "eyeLookOut_L", "eyeLookOut_R", "jawOpen")
    prior = expression_prior((*names, "mouthClose", "jawLeft", "mouthSmile_R"))
    assert prior.partner.tolist() == [1, 0, 5, 4, 3, 2, 6, 7, 8, 9]
    assert prior.scaled_by.tolist() == [-1] * 7 + [6, -1, -1]


def test_samples_look_like_expressions(face: MorphableModel) -> None:
    names = face.expression_names
    weights = face.sample(20_000, torch.Generator().manual_seed(1)).expression
    assert float(weights.min()) == 0 and 0.99 < float(weights.max()) <= 1
    groups = {name[:-2] if name.endswith(("_L", "_R")) else name: k for k, name in enumerate(names)}
    active = (weights[:, sorted(groups.values())] > 0).sum(1).double()
    assert len(groups) == 33 and 3.5 < float(active.mean()) < 4.5
    close, jaw = names.index("mouthClose"), names.index("jawOpen")
    assert bool((weights[:, close] <= weights[:, jaw]).all()) and float(weights[:, close].max()) > 0.5
    left, right = weights[:, names.index("mouthSmile_L")], weights[:, names.index("mouthSmile_R")]
    assert float(torch.corrcoef(torch.stack([left, right]))[0, 1]) > 0.9
    # Exact moments; five standard errors of 20,000 draws.
    torch.testing.assert_close(weights.mean(0), face.prior.expression_mean, rtol=0, atol=5 * 0.2 / 20_000**0.5)


# -- the real model ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("region", REGIONS)
def test_regions(ict_path: pathlib.Path, region: str) -> None:
    model = load(ict_path, region=region, albedo=None)
    vertices, quads = REGIONS[region]
    assert (model.num_vertices, model.num_triangles) == (vertices, 2 * quads)
    assert (model.num_identity, model.num_expression, model.num_albedo) == (100, 53, 0)
    assert model.name == f"ict-{region}" and int(model.region("narrow").sum()) == 6706
    assert (model.uv is None) == (region == "head")  # the neck has texture seams
    with np.load(ict_path) as file:
        neutral = torch.from_numpy(10 * file["neutral"][:vertices])
        mirror = torch.from_numpy(file["mirror_index"][:vertices].astype(np.int64))
        offset = torch.from_numpy(10 * file["identity"][3, :vertices].astype(np.float32))
    torch.testing.assert_close(model.template, neutral - neutral.double().mean(0).float(), rtol=0, atol=1e-4)
    torch.testing.assert_close(model.identity_basis[3], offset, rtol=1e-6, atol=0)
    assert model.mirror_map is not None and torch.equal(model.mirror_map, mirror)
    assert float(model.template.mean(0).abs().max()) < 1e-4


def test_axes_and_units(face: MorphableModel) -> None:
    points = face.template[face.landmarks68]
    corners = points[45] - points[36]
    assert 85 < float(corners[0]) < 93  # mm; the subject's left eye is at +x
    assert points[27, 1] > points[8, 1] and points[30, 2] == points[:, 2].max()  # up is +y, the nose points to +z
    assert face.mirror_map is not None
    pairs = {36: 45, 48: 54, 31: 35, 0: 16, 17: 26}
    for right, left in pairs.items():
        assert int(face.mirror_map[face.landmarks68[right]]) == int(face.landmarks68[left])


def test_refined_face(face: MorphableModel, refined: MorphableModel) -> None:
    assert (refined.num_vertices, refined.num_triangles) == (37280, 73840)
    assert torch.equal(refined.landmarks68, face.landmarks68)
    shift = refined.template[0] - face.template[0]  # each has the origin at its own centroid
    torch.testing.assert_close(refined.template[:9409] - shift, face.template, rtol=0, atol=1e-4)
    torch.testing.assert_close(refined.expression_basis[:, :9409], face.expression_basis, rtol=1e-6, atol=1e-6)
    assert refined.mirror_map is not None
    mirrored = refined.template[refined.mirror_map] * torch.tensor([-1.0, 1.0, 1.0])
    assert float((mirrored - refined.template).abs().max()) < 0.06  # mm; the original is symmetric to 0.05
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Mesh warns about edges of three triangles and inverted winding
        assert refined.mesh.num_triangles == 73840


def test_random_identity_matches_the_formula_of_the_repository(ict_path: pathlib.Path, face: MorphableModel) -> None:
    with np.load(ict_path) as file:
        weights = file["sample_identity_coeffs"][:100], file["sample_expression_coeffs"]
        expected = file["neutral"].astype(np.float64)
        for w, key in zip(weights, ("identity", "expression")):
            expected = expected + np.tensordot(w.astype(np.float64), file[key].astype(np.float64), axes=1)
        centroid = file["neutral"][:9409].astype(np.float64).mean(0)
    shape = face.shape(*(torch.from_numpy(w).float()[None] for w in weights))[0]
    difference = shape.double().numpy() - 10 * (expected[:9409] - centroid)
    assert np.abs(difference).max() < 1e-3  # mm; float32 sums of 153 terms of up to 40 mm


def test_wrong_options_are_refused(ict_path: pathlib.Path) -> None:
    for options, match in (
        ({"region": "nose"}, "region must be one of narrow, face, head, got 'nose'"),
        ({"refine": 3}, "refine must be 0 or 1"),
        ({"albedo": "bfm"}, "albedo must be 'procedural' or None"),
        ({"vertices": 3}, "the ICT face model has no option vertices; it takes region, refine, albedo"),
    ):
        with pytest.raises(ValueError, match=match):
            load(ict_path, **options)
    with pytest.raises(ValueError, match="'ict-face' has no albedo; attach one"):
        load(ict_path, albedo=None).albedo(torch.zeros(1, 28))


def test_truncated_npz_is_refused(tmp_path: pathlib.Path, ict_path: pathlib.Path) -> None:
    whole = ict_path.read_bytes()
    path = tmp_path / "ict.npz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged or incomplete"):
        load(path)
    broken = bytearray(whole)
    broken[len(whole) // 3] ^= 0xFF
    path.write_bytes(broken)
    with pytest.raises(ValueError, match="damaged or incomplete"):
        load(path)
