"""The Triton kernels of texture symmetry, interpreted on the CPU: test_triton_losses.py runs this file."""

from __future__ import annotations

import math

import pytest
import torch
from checks import check_matches_reference
from interpreted_checks import (
    check_fakes,
    check_layouts,
    check_low_precision,
    in_every_other_number,
    kernels_take_cpu_tensors,
    random,
    use_small_blocks,
    value_and_gradients,
)

from facecore import reference_losses
from facecore.losses import _texture_symmetry_triton as kernels
from facecore.losses import texture_symmetry_loss

__all__ = ["kernels_take_cpu_tensors"]
KINDS = ["none", "each", "shared", "empty"]


def make_inputs(shape, kind, dtype=torch.float64):
    texture = random(*shape, dtype=dtype).requires_grad_()
    valid = random(shape[0], *shape[2:]) > 0.3
    return texture, {"none": None, "each": valid, "shared": valid[0], "empty": torch.zeros_like(valid)}[kind]


@pytest.mark.parametrize(
    "shape, kind",
    [*(((2, 2, 3, 7), kind) for kind in KINDS), ((1, 1, 1, 1), "none"), ((3, 1, 2, 70), "each")],
    ids=str,
)
def test_matches_reference(shape, kind, monkeypatch):
    """Several tiles, also inside of a row, and images that the last program takes one by one."""
    use_small_blocks(monkeypatch, kernels)
    monkeypatch.setattr(kernels, "TILE_PIXELS", 64)
    check_matches_reference(texture_symmetry_loss, reference_losses.texture_symmetry_loss, make_inputs(shape, kind))


def test_tiles_as_on_a_gpu():
    inputs = make_inputs((1, 2, 37, 70), "each", torch.float32)
    check_matches_reference(texture_symmetry_loss, reference_losses.texture_symmetry_loss, inputs)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 0, 4), (2, 3, 4, 0), (1, 0, 4, 4)], ids=str)
def test_nothing(shape):
    texture = torch.zeros(shape, requires_grad=True)
    value, grad = value_and_gradients(texture_symmetry_loss, [texture])
    assert value == 0 and grad.shape == texture.shape


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(dtype):
    texture, valid = make_inputs((2, 3, 4, 7), "each")
    losses = (lambda t, f=f: f(t, valid) for f in (texture_symmetry_loss, reference_losses.texture_symmetry_loss))
    check_low_precision(*losses, [texture], dtype)


def test_strides():
    texture, valid = make_inputs((2, 1, 3, 5), "each")
    check_layouts(lambda t: texture_symmetry_loss(t, valid), [texture])
    wide = valid.new_ones(2, 3, 11)[..., 1::2].copy_(valid)
    assert torch.equal(texture_symmetry_loss(texture, wide), texture_symmetry_loss(texture, valid))
    one = valid[:1].expand(2, 3, 5)
    check_matches_reference(texture_symmetry_loss, reference_losses.texture_symmetry_loss, (texture, one))


def test_hidden_texels_change_nothing():
    texture, valid = make_inputs((1, 2, 4, 7), "each")
    hidden = ~(valid & valid.flip(-1))[:, None].expand_as(texture)
    spoiled = in_every_other_number(texture.detach().masked_fill(hidden, math.nan))
    clean, dirty = (value_and_gradients(lambda t: texture_symmetry_loss(t, valid), [t]) for t in (texture, spoiled))
    assert all(torch.equal(a, b) for a, b in zip(clean, dirty))
    assert (dirty[1][hidden] == 0).all()


def test_fakes():
    texture, valid = make_inputs((2, 3, 4, 7), "each", torch.float16)
    check_fakes(torch.ops.facecore.texture_symmetry.default, (texture.detach(), valid))
    inputs = (torch.ones(()), texture.detach(), valid, torch.rand(2))
    check_fakes(torch.ops.facecore.texture_symmetry_backward.default, inputs)
