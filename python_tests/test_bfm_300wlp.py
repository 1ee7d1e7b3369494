"""The 300W-LP cut of the Basel Face Model: expression mean, raw coefficients, mirrored pairs, files beside it."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
import scipy.io
from model_files import bfm_300wlp_fields, check_model, make_truth, small_truth

from facecore.morphable import load


def _write(folder: pathlib.Path, info: dict[str, Any] | None = None, **changes: Any) -> pathlib.Path:
    scipy.io.savemat(folder / "BFM.mat", {"model": bfm_300wlp_fields(small_truth()) | changes})
    if info is not None:
        scipy.io.savemat(folder / "BFM_info.mat", {"model_info": info})
    return folder / "BFM.mat"


def _info() -> dict[str, Any]:
    truth = small_truth()
    assert truth.mirror is not None
    left = np.flatnonzero(truth.mirror >= np.arange(len(truth.mirror)))
    pairs = np.stack([left, truth.mirror[left]]) + 1
    segments = np.eye(4)[np.arange(len(truth.vertices)) % 4].T
    return {"symlist": pairs.astype(np.float64), "segbin": segments}


def test_what_is_read_is_what_was_written(tmp_path: pathlib.Path) -> None:
    truth = small_truth()
    path = _write(tmp_path)
    model = load(path)
    check_model(model, truth)
    np.testing.assert_allclose(model.expression_std.numpy(), truth.expression_std * 1e3, rtol=1e-6)
    assert model.uv is None and model.mirror_map is not None  # found from the triangles
    assert np.array_equal(model.mirror_map.numpy(), truth.mirror)
    assert load(tmp_path).content_hash() == model.content_hash()  # the folder is the file in it


def test_the_files_beside_it(tmp_path: pathlib.Path) -> None:
    truth = small_truth()
    path = _write(tmp_path, _info())
    uv = np.random.default_rng(0).uniform(size=(len(truth.vertices), 2))
    scipy.io.savemat(tmp_path / "BFM_UV.mat", {"UV": uv})
    model = load(path)
    assert model.uv is not None and model.mirror_map is not None
    np.testing.assert_allclose(model.uv.numpy(), uv, atol=1e-6)
    assert np.array_equal(model.mirror_map.numpy(), truth.mirror)
    assert model.region("mouth").nonzero()[:2, 0].tolist() == [2, 6]


def test_raw_coefficients_are_those_of_the_parameter_files(tmp_path: pathlib.Path) -> None:
    """Shape_Para multiplies shapePC and Exp_Para expPC, in micrometres, without EV: x = coefficient * std."""
    import torch

    truth = small_truth()
    model = load(_write(tmp_path))
    shape_para, exp_para, _ = truth.raw()
    shape_para, exp_para = shape_para * 1e3, exp_para * 1e3
    fields = bfm_300wlp_fields(truth)
    expected = fields["shapeMU"][:, 0] + fields["expMU"][:, 0] + fields["shapePC"] @ shape_para
    expected = (expected + fields["expPC"] @ exp_para).reshape(-1, 3)
    identity = torch.from_numpy(shape_para).float() / model.identity_std
    expression = torch.from_numpy(exp_para).float() / model.expression_std
    assert model.origin is not None
    vertices = (model.shape(identity[None], expression[None])[0] + model.origin) * 1e3
    np.testing.assert_allclose(vertices.numpy(), expected, atol=1.0)  # micrometres


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kpt_ind": np.arange(1, 68)[None]}, "kpt_ind must hold 68 vertex indices, got 67"),
        ({"kpt_ind": np.arange(0, 68)[None]}, "kpt_ind must hold numbers from 1 to 2500, got 0"),
        (
            {"kpt_ind": (small_truth().landmarks68 + 1)[::-1][None]},
            "does not point",
        ),
        ({"expMU": np.zeros((3, 1))}, "expMU must have 7500 entries"),
        ({"expPC": np.zeros((7500, 3))}, "expEV must have 3 entries"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: pathlib.Path, changes: dict[str, Any], message: str) -> None:
    path = _write(tmp_path, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"symlist": np.zeros((2, 3))}, "symlist must hold numbers from 1 to 2500"),
        ({"symlist": np.array([[1, 1], [2, 3]])}, "some vertex two partners"),
        ({"symlist": np.stack([np.arange(1, 1251), np.arange(1251, 2501)])}, "does not pair opposite places"),
        ({"segbin": np.zeros((4, 7))}, "segbin must be a matrix 4 x 2500"),
    ],
)
def test_wrong_files_beside_it_are_refused(tmp_path: pathlib.Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(_write(tmp_path, _info() | changes))


def test_a_variable_that_is_not_the_struct_is_refused(tmp_path: pathlib.Path) -> None:
    scipy.io.savemat(tmp_path / "BFM.mat", {"model": np.zeros(3)})
    with pytest.raises(ValueError, match="the variable model must be a struct"):
        load(tmp_path / "BFM.mat")


def test_an_uneven_mesh_has_no_mirror_map(tmp_path: pathlib.Path) -> None:
    truth = small_truth()
    half = truth.triangles[(truth.vertices[truth.triangles, 0] - 12).min(axis=1) > -40]  # one temple cut off
    uneven = truth.vertices + np.random.default_rng(0).normal(scale=1.5, size=truth.vertices.shape)
    scipy.io.savemat(tmp_path / "BFM.mat", {"model": bfm_300wlp_fields(make_truth(uneven, half, truth.landmarks68))})
    model = load(tmp_path / "BFM.mat")
    assert model.mirror_map is None
    with pytest.raises(ValueError, match="has no mirror_map"):
        model.require("mirror_map")
