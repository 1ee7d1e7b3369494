"""The Triton kernels of the shape loss, interpreted on the CPU: test_triton_losses.py runs this file."""

from __future__ import annotations

import functools

import pytest
import torch
from checks import check_matches_reference
from interpreted_checks import (
    check_fakes,
    check_layouts,
    check_low_precision,
    kernels_take_cpu_tensors,
    random,
    use_small_blocks,
)

from facecore import reference_losses
from facecore.losses import _shape_triton as kernels
from facecore.losses import shape_loss

__all__ = ["kernels_take_cpu_tensors"]
NORMS = ["l1", "l2_squared"]


def make_shapes(n, v, dtype=torch.float64):
    shapes = [random(n, v, 3, dtype=dtype, seed=side).requires_grad_() for side in (0, 1)]
    return shapes, random(v, 3, dtype=dtype) + 0.5


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("whitened", [True, False])
@pytest.mark.parametrize("n, v", [(1, 1), (2, 7)])
def test_matches_reference(norm, whitened, n, v, monkeypatch):
    use_small_blocks(monkeypatch, kernels)  # 21 numbers in three blocks
    shapes, std = make_shapes(n, v)
    functions = (functools.partial(f, norm=norm) for f in (shape_loss, reference_losses.shape_loss))
    check_matches_reference(*functions, (*shapes, std if whitened else 2.5))


@pytest.mark.parametrize("n, v", [(0, 4), (2, 0)])
def test_nothing(n, v):
    shapes, _ = make_shapes(n, v)
    check_matches_reference(shape_loss, reference_losses.shape_loss, shapes)


def test_blocks_as_on_a_gpu():
    shapes, std = make_shapes(2, 501, torch.float32)
    check_matches_reference(shape_loss, reference_losses.shape_loss, (*shapes, std))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(dtype):
    shapes, std = make_shapes(2, 5)
    std = std.float()
    check_low_precision(
        lambda a, b: shape_loss(a, b, std, norm="l2_squared"),
        lambda a, b: reference_losses.shape_loss(a, b, std.double(), norm="l2_squared"),
        shapes,
        dtype,
    )


def test_strides_and_a_template():
    shapes, std = make_shapes(2, 5)
    check_layouts(lambda a, b: shape_loss(a, b, std), shapes)
    template = random(1, 5, 3).expand(2, 5, 3)
    check_matches_reference(shape_loss, reference_losses.shape_loss, (shapes[0], template, 2.0))


def test_one_gradient_only_and_kinks():
    (predicted, target), _ = make_shapes(1, 4)
    both = torch.autograd.grad(shape_loss(predicted, target), (predicted, target))
    (alone,) = torch.autograd.grad(shape_loss(predicted.detach(), target), target)
    assert torch.equal(alone, both[1])
    (flat,) = torch.autograd.grad(shape_loss(predicted, predicted.detach().clone()), predicted)
    assert torch.equal(flat, torch.zeros_like(flat))


def test_fakes():
    (predicted, target), std = make_shapes(2, 5, torch.bfloat16)
    inputs = (predicted.detach(), target.detach(), std.float(), True, 0.5)
    check_fakes(torch.ops.facecore.shape_loss.default, inputs)
    check_fakes(torch.ops.facecore.shape_loss_backward.default, (torch.ones(()), *inputs, True, False))
