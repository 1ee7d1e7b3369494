"""The Triton kernels of the flattening loss, interpreted on the CPU: test_triton_losses.py runs this file."""

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
    use_small_blocks,
    value_and_gradients,
)

from facecore import reference_losses
from facecore.losses import _flattening_triton as kernels
from facecore.losses import flattening_loss

__all__ = ["kernels_take_cpu_tensors"]
KINDS = ["float", "bool", "tiny", "empty"]


def make_inputs(n, v, c, kind="float", dtype=torch.float64):
    region = random(v) - 0.3
    region[v // 2] = math.nan  # counts 0
    regions = {"float": region.to(dtype), "bool": region > 0, "tiny": region.to(dtype) * 1e-3, "empty": region < -1}
    return random(n, v, c, dtype=dtype).requires_grad_(), regions[kind]


@pytest.mark.parametrize(
    "sizes, kind",
    [*(((2, 11, 3), kind) for kind in KINDS), *((sizes, "float") for sizes in ((1, 1, 1), (0, 4, 3), (2, 5, 0)))],
    ids=str,
)
def test_matches_reference(sizes, kind, monkeypatch):
    """Small blocks: the last program brings several to one mean, in more than one reading."""
    use_small_blocks(monkeypatch, kernels, 2)
    check_matches_reference(flattening_loss, reference_losses.flattening_loss, make_inputs(*sizes, kind))


def test_blocks_as_on_a_gpu():
    inputs = make_inputs(2, 700, 3, dtype=torch.float32)
    check_matches_reference(flattening_loss, reference_losses.flattening_loss, inputs)


def test_a_small_variance_far_from_zero():
    """A difference of large sums of squares in float32 would be off by far more than the result, of 1e-6 beside 1e6."""
    albedo = (random(1, 900, 2) > 0.5).double() * 2**-9 + 1000.0  # exact in float32
    region = torch.ones(900, dtype=torch.bool)
    exact, exact_grad = value_and_gradients(lambda a: reference_losses.flattening_loss(a, region), [albedo])
    value, grad = value_and_gradients(lambda a: flattening_loss(a, region), [albedo.float()])
    # means are rounded to 2^-15, a 64th of the steps and a 32nd of the slopes' differences, so squares to a 4096th
    torch.testing.assert_close(value.double(), exact, rtol=1e-3, atol=0)
    torch.testing.assert_close(grad.double(), exact_grad, rtol=0, atol=float(exact_grad.abs().max()) / 16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(dtype):
    albedo, region = make_inputs(2, 9, 3, "bool")
    losses = (lambda a, f=f: f(a, region) for f in (flattening_loss, reference_losses.flattening_loss))
    check_low_precision(*losses, [albedo], dtype)


def test_strides_and_hidden_vertices():
    albedo, region = make_inputs(2, 9, 3)
    check_layouts(lambda a: flattening_loss(a, region), [albedo])
    hidden = ~(region > 0)[:, None].expand_as(albedo)
    spoiled = albedo.detach().masked_fill(hidden, math.nan)
    clean, dirty = (value_and_gradients(lambda a: flattening_loss(a, region), [a]) for a in (albedo, spoiled))
    assert all(torch.equal(a, b) for a, b in zip(clean, dirty))
    assert (dirty[1][hidden] == 0).all()


def test_fakes():
    albedo, region = make_inputs(2, 5, 3, "bool", torch.float16)
    albedo = albedo.detach()
    check_fakes(torch.ops.facecore.flattening.default, (albedo, region))
    check_fakes(torch.ops.facecore.flattening_backward.default, (torch.ones(()), albedo, region, torch.rand(2, 3)))
