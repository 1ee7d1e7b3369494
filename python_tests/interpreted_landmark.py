"""The Triton kernel of landmark structure, interpreted on the CPU: test_triton_losses.py runs this file."""

from __future__ import annotations

import math

import pytest
import torch
from checks import check_matches_reference
from interpreted_checks import (
    check_fakes,
    check_layouts,
    check_low_precision,
    kernels_take_cpu_tensors,
    random,
    value_and_gradients,
)

from facecore import reference_losses
from facecore.losses import landmark_structure_loss

__all__ = ["kernels_take_cpu_tensors"]


def make_points(n, dtype=torch.float64):
    points = [random(n, 68, 2, dtype=dtype, seed=side).requires_grad_() for side in (0, 1)]
    return points, random(n, 68) - 0.3


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("n", [0, 2])
def test_matches_reference(n, weighted):
    points, weight = make_points(n)
    weight[1:] = 0.0  # an image without a known point
    inputs = (*points, weight if weighted else None)
    check_matches_reference(landmark_structure_loss, reference_losses.landmark_structure_loss, inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision(dtype):
    points, weight = make_points(1)
    weight = weight.to(dtype)
    check_low_precision(
        lambda a, b: landmark_structure_loss(a, b, weight),
        lambda a, b: reference_losses.landmark_structure_loss(a, b, weight.double()),
        points,
        dtype,
    )


def test_strides_and_no_gradient():
    points, weight = make_points(2)
    check_layouts(lambda a, b: landmark_structure_loss(a, b, weight), points)
    with torch.no_grad():
        value = landmark_structure_loss(*points, weight)
    assert value == landmark_structure_loss(*points, weight)


def test_unknown_points_change_nothing():
    points, weight = make_points(1)
    hidden = (weight <= 0)[..., None].expand(1, 68, 2)
    weight[0, 5] = math.nan  # counts 0, too
    hidden = hidden | weight.isnan()[..., None]
    spoiled = [p.detach().masked_fill(hidden, math.nan) for p in points]
    clean, dirty = (
        value_and_gradients(lambda a, b: landmark_structure_loss(a, b, weight), p) for p in (points, spoiled)
    )
    assert all(torch.equal(a, b) for a, b in zip(clean, dirty))
    assert (dirty[1][hidden] == 0).all()


def test_slope_is_zero_where_points_coincide():
    points, _ = make_points(1)
    predicted = points[0].detach().clone()
    predicted[0, 61] = predicted[0, 67]
    inputs = (predicted.requires_grad_(), points[1])
    check_matches_reference(landmark_structure_loss, reference_losses.landmark_structure_loss, inputs)


def test_fakes():
    points = [p.detach() for p in make_points(2, torch.float16)[0]]
    pairs, weight = torch.ones(68, 68), torch.ones(2, 68, dtype=torch.float16)
    check_fakes(torch.ops.facecore.landmark_structure.default, (*points, weight, pairs, True))
    inputs = (torch.ones(()), torch.rand(2, 2, 68, 2), *points)
    check_fakes(torch.ops.facecore.landmark_structure_backward.default, inputs)
