"""From a foreign file's arrays to a model: origin, unit, whitening, and a frame that the landmarks contradict."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pytest
from model_files import check_model, small_truth

from facecore.errors import OptionError
from facecore.morphable.assembly import LinearSource, Modes, assemble, check_frame

PATH = pathlib.Path("model.mat")


def make_source(**changes: Any) -> LinearSource:
    """The small truth in centimetres, colours up to 100."""
    truth = small_truth()
    fields: dict[str, Any] = {
        "name": "test",
        "source": "a test",
        "millimetres": 10.0,
        "mean": truth.neutral() / 10,
        "triangles": truth.triangles[:, ::-1],
        "identity": Modes(truth.identity, truth.identity_std / 10),
        "expression": Modes(truth.expression, truth.expression_std / 10),
        "landmarks68": truth.landmarks68,
        "albedo_mean": truth.albedo_mean * 100,
        "albedo": Modes(truth.albedo, truth.albedo_std * 100),
        "white": 100.0,
    }
    return LinearSource(**(fields | changes))


def test_units_origin_and_winding() -> None:
    model = assemble(PATH, make_source())
    check_model(model, small_truth())
    np.testing.assert_allclose(model.identity_std.numpy(), small_truth().identity_std / 10, rtol=1e-6)
    assert {"skin", "lips", "brows"} <= set(model.regions) and "eyes" not in model.regions


def test_modes_are_cut_from_the_end() -> None:
    model = assemble(PATH, make_source(), num_identity=1, num_expression=0, num_albedo=2)
    assert (model.num_identity, model.num_expression, model.num_albedo) == (1, 0, 2)
    with pytest.raises(OptionError, match=r"^num_identity must be an integer from 0 to 3, got 4; .*model.mat"):
        assemble(PATH, make_source(), num_identity=4)
    with pytest.raises(ValueError, match="num_albedo must be 0, got 1: this file has no albedo"):
        assemble(PATH, make_source(albedo=None), num_albedo=1)
    none = Modes.none(5)
    assert none.basis.shape == (15, 0) and none.whitened(1.0, 5).shape == (0, 5, 3)


def test_landmarks_are_needed(tmp_path: pathlib.Path) -> None:
    bare = make_source(landmarks68=None)
    with pytest.raises(ValueError, match=r"model.mat has no 68 landmarks; give a file of their"):
        assemble(PATH, bare)
    np.save(tmp_path / "a.npy", small_truth().landmarks68)
    check_model(assemble(PATH, bare, tmp_path / "a.npy"), small_truth())


def test_a_contradicted_frame_is_refused() -> None:
    truth = small_truth()
    centred = truth.vertices - truth.vertices.mean(0)
    check_frame(centred, truth.landmarks68)
    for factor, message in (
        ([1, 1, -1], "z does not point out of the face"),
        ([1, -1, 1], "y does not point up"),
        ([-1, 1, 1], "x does not point to image right"),
        ([0.1] * 3, "outer eye corners .* mm apart, not 50 to 150"),
        ([100.0] * 3, "mm from the centroid, a head reaches 1000 at most"),
        ([np.nan] * 3, "nan mm from the centroid"),
    ):
        with pytest.raises(ValueError, match=message):
            check_frame(centred * factor, truth.landmarks68)


def test_colours_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match="the mean albedo must lie in 0 to 1, got"):
        assemble(PATH, dataclasses.replace(make_source(), white=1.0))
