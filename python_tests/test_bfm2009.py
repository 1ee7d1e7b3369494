"""The raw Basel Face Model 2009: units, indices, landmarks from beside the file or by option, refusals."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
import scipy.io
from model_files import bfm2009_fields, bfm_truth, check_model, deep3d_info, small_truth

from facecore.morphable import load


def _write(path: pathlib.Path, **changes: Any) -> pathlib.Path:
    fields = bfm2009_fields(small_truth()) | changes
    scipy.io.savemat(path, {name: value for name, value in fields.items() if value is not None})
    return path


@pytest.fixture
def landmarks(tmp_path: pathlib.Path) -> pathlib.Path:
    np.save(tmp_path / "landmarks.npy", small_truth().landmarks68)
    return tmp_path / "landmarks.npy"


def test_what_is_read_is_what_was_written(tmp_path: pathlib.Path, landmarks: pathlib.Path) -> None:
    path, truth = _write(tmp_path / "any_name.mat"), small_truth()
    model = load(path, landmarks=landmarks)
    check_model(model, truth, expression=False)
    np.testing.assert_allclose(model.identity_std.numpy(), truth.identity_std * 1e3, rtol=1e-6)  # micrometres, as there
    assert model.mirror_map is not None and np.array_equal(model.mirror_map.numpy(), truth.mirror)
    assert model.region("nose").nonzero()[:3, 0].tolist() == [0, 4, 8]
    assert model.name == "bfm2009" and "Paysan" in model.source and model.albedo_source == "bfm2009"
    fewer = load(path, landmarks=landmarks, num_identity=2, num_albedo=1)
    assert (fewer.num_identity, fewer.num_albedo) == (2, 1)
    assert bool((fewer.identity_basis == model.identity_basis[:2]).all())
    model.save(tmp_path / "own.npz")
    again = load(tmp_path / "own.npz")
    assert again.content_hash() == model.content_hash() and again.origin is not None and model.origin is not None
    assert bool((again.origin == model.origin).all())


def test_landmarks_of_the_deep3d_family_beside_the_file(tmp_path: pathlib.Path) -> None:
    truth = small_truth()
    path = _write(tmp_path / "01_MorphableModel.mat")
    with pytest.raises(ValueError, match=r"01_MorphableModel.mat has no 68 landmarks; give a file of their"):
        load(path)
    chosen = np.sort(np.random.default_rng(0).permutation(len(truth.vertices))[:2000])
    chosen = np.union1d(chosen, truth.landmarks68)
    scipy.io.savemat(tmp_path / "select_vertex_id.mat", {"select_id": (chosen + 1).astype(np.uint16)[:, None]})
    info = deep3d_info(truth) | {"keypoints": np.searchsorted(chosen, truth.landmarks68)[None] + 1.0}
    scipy.io.savemat(tmp_path / "facemodel_info.mat", info)
    check_model(load(path), truth, expression=False)
    (tmp_path / "raw").mkdir()
    path.rename(tmp_path / "raw" / path.name)
    for name in ("select_vertex_id.mat", "facemodel_info.mat"):
        (tmp_path / name).rename(tmp_path / "raw" / name)
    (tmp_path / "raw/facemodel_info.mat").rename(tmp_path / "info.mat")
    with pytest.raises(ValueError, match="no 68 landmarks"):
        load(tmp_path / "raw")  # without the other parts, the folder is the raw model


def test_on_the_topology_of_the_basel_face_model(tmp_path: pathlib.Path, data_dir: pathlib.Path) -> None:
    truth = bfm_truth(data_dir)
    scipy.io.savemat(tmp_path / "model.mat", bfm2009_fields(truth))
    model = load(tmp_path / "model.mat", landmarks=data_dir / "meshes/bfm_topology/keypoints_flat_53215.npy")
    check_model(model, truth, expression=False)
    assert model.mirror_map is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shapePC": np.zeros((12, 3))}, r"shapePC must be a matrix 7500 x K, got \[12, 3\]"),
        ({"shapeEV": np.ones((4, 1))}, r"shapeEV must have 3 entries"),
        ({"shapeEV": np.array([[1.0], [np.nan], [1.0]])}, "shapeEV must be finite"),
        ({"shapeEV": np.zeros((3, 1))}, "identity_std must be positive"),
        ({"texMU": None}, "the variable texMU is missing"),
        ({"texMU": np.full((7500, 1), 300.0)}, "mean albedo must lie in 0 to 255"),
        ({"tl": np.array([[0, 1, 2]])}, "tl must hold numbers from 1 to 2500, got 0 to 2"),
        ({"tl": np.array([[1, 2, 2501]])}, "tl must hold numbers from 1 to 2500, got 1 to 2501"),
        ({"tl": np.array([[1.5, 2, 3]])}, "tl must hold whole numbers"),
        ({"tl": np.array([[1, 2, 3, 4]])}, "tl must be T x 3 or 3 x T"),
        ({"shapeMU": np.array([["text"]])}, "shapeMU must hold real numbers"),
        ({"shapeMU": np.zeros((7501, 1))}, "shapeMU must have 3 entries per vertex"),
        ({"segbin": np.zeros((5, 4))}, "segbin must be a matrix 2500 x 4"),
    ],
)
def test_wrong_arrays_are_refused(
    tmp_path: pathlib.Path, landmarks: pathlib.Path, changes: dict[str, Any], message: str
) -> None:
    path = _write(tmp_path / "model.mat", **changes)
    with pytest.raises(ValueError, match=message) as caught:
        load(path, landmarks=landmarks)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_units_and_frames_are_checked(tmp_path: pathlib.Path, landmarks: pathlib.Path) -> None:
    mean = bfm2009_fields(small_truth())["shapeMU"]
    for turned, message in (
        (mean / 1e3, "outer eye corners .* are 0.0"),  # millimetres
        ((mean.reshape(-1, 3) * [1, -1, -1]).reshape(-1, 1), "y does not point up .*; z does not point out"),
        ((mean.reshape(-1, 3) * [-1, 1, 1]).reshape(-1, 1), "x does not point to image right"),
    ):
        with pytest.raises(ValueError, match=message):
            load(_write(tmp_path / "model.mat", shapeMU=turned), landmarks=landmarks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_identity": 4}, "num_identity must be an integer from 0 to 3, got 4"),
        ({"num_albedo": -1}, "num_albedo must be an integer from 0 to 2, got -1"),
        ({"num_expression": 3}, "has no option num_expression; it takes landmarks, num_identity, num_albedo"),
    ],
)
def test_wrong_options_are_refused(
    tmp_path: pathlib.Path, landmarks: pathlib.Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load(_write(tmp_path / "model.mat"), landmarks=landmarks, **options)


def test_damaged_files_are_refused(tmp_path: pathlib.Path, landmarks: pathlib.Path) -> None:
    content = _write(tmp_path / "whole.mat").read_bytes()
    rng = np.random.default_rng(1)
    for size in (200, 5_000, len(content) // 2, len(content) - 40_000):
        (tmp_path / "cut.mat").write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"cut\.mat"):
            load(tmp_path / "cut.mat", landmarks=landmarks)
    for _ in range(8):  # a wrong byte in the first kilobytes hits headers and names: refused, or not noticed
        damaged = bytearray(content)
        for place in rng.integers(128, 4000, 3):
            damaged[place] = rng.integers(0, 256)
        (tmp_path / "damaged.mat").write_bytes(damaged)
        try:
            load(tmp_path / "damaged.mat", landmarks=landmarks)
        except ValueError as error:
            assert "damaged.mat" in str(error) and "\n" not in str(error)
