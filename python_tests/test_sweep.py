"""Renders of one face at many poses."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from facecore.data import LabelledRenders
from facecore.data.crop import BOX_FACTOR
from facecore.data.sweep import ExpressionRenders, SweepRenders
from facecore.morphable import load
from facecore.morphable.named_expressions import EXPRESSIONS, named_expressions

SIZE = 48


@pytest.fixture(scope="module")
def model():
    return load("procedural", num_vertices=2500)


def test_only_the_pose_changes(model):
    renders = SweepRenders(model, SIZE, SIZE, 4, yaws=(-40, 0, 80), pitches=(-15, 20))
    assert renders.poses == [(-40, -15), (-40, 20), (0, -15), (0, 20), (80, -15), (80, 20)]
    batch = renders.batch(torch.arange(12))  # two faces
    plain = LabelledRenders(model, SIZE, SIZE, 4).coefficients(torch.arange(2))
    for name in ("identity", "expression", "albedo"):
        assert torch.equal(getattr(batch, name), getattr(plain, name).repeat_interleave(6, 0)), name
    assert torch.equal(batch.sh_coefficients[:6], batch.sh_coefficients[:1].expand(6, -1, -1))
    expected = torch.tensor([(pitch, yaw, 0.0) for yaw, pitch in renders.poses] * 2).deg2rad()
    torch.testing.assert_close(batch.pose[:, :3], expected)
    assert not torch.equal(batch.image[0], batch.image[2])
    assert bool((batch.mask.sum((1, 2)) > 0.15 * SIZE * SIZE).all()), "every picture shows a face"


def test_the_landmarks_fill_the_picture_alike(model):
    renders = SweepRenders(model, SIZE, SIZE, 0, yaws=(0, 90))
    points = renders.batch(torch.arange(4)).landmarks
    size = (points.amax(1) - points.amin(1)).mean(1)
    torch.testing.assert_close(size, torch.full((4,), SIZE / BOX_FACTOR), rtol=1e-4, atol=0)
    torch.testing.assert_close((points.amax(1) + points.amin(1)) / 2, torch.full((4, 2), SIZE / 2), rtol=0, atol=1e-3)


def test_angles_are_checked(model):
    with pytest.raises(ValueError, match="at least one each"):
        SweepRenders(model, SIZE, SIZE, 0, yaws=())
    with pytest.raises(ValueError, match="finite degrees"):
        SweepRenders(model, SIZE, SIZE, 0, yaws=(float("nan"),))


def test_only_the_expression_changes(model):
    renders = ExpressionRenders(model, SIZE, SIZE, 4)
    assert renders.variants == len(EXPRESSIONS) == 7
    batch = renders.batch(torch.arange(14))  # two faces
    assert torch.equal(batch.identity[:7], batch.identity[:1].expand(7, -1))
    assert torch.equal(batch.sh_coefficients[:7], batch.sh_coefficients[:1].expand(7, -1, -1))
    assert torch.equal(batch.expression[:7], batch.expression[7:]) and not bool(batch.expression[0].any())
    assert float(batch.pose[:, :3].abs().max()) == 0.0
    for i in range(7):
        for j in range(i):
            assert not torch.equal(batch.expression[i], batch.expression[j])


def test_expressions_do_what_their_names_say(model):
    """Happy mouth corners rise, sad ones fall, a surprised mouth opens; left and right together."""
    points = model.shape(torch.zeros(7, model.num_identity), named_expressions(model))[:, model.landmarks68]
    names = list(EXPRESSIONS)
    corners = points[:, [48, 54], 1].mean(1)
    neutral, happy, sad, surprised = (names.index(n) for n in ("neutral", "happiness", "sadness", "surprise"))
    assert corners[happy] > corners[neutral] + 1 and corners[sad] < corners[neutral] - 1
    opening = (points[:, 62] - points[:, 66]).norm(dim=-1)
    assert opening[surprised] > opening[neutral] + 5
    torch.testing.assert_close(points[:, 48, 1], points[:, 54, 1], rtol=0, atol=0.1)  # mm; the model is symmetric


def test_models_without_such_names_are_refused(model):
    other = dataclasses.replace(model, expression_names=tuple(f"mode{k}" for k in range(model.num_expression)))
    with pytest.raises(ValueError, match="no expression mode named cheekSquint or cheek_raise"):
        named_expressions(other)
