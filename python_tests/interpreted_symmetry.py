"""The Triton kernels of symmetry by a list, interpreted on the CPU: test_triton_losses.py runs this file."""

from __future__ import annotations

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
from facecore.losses import _symmetry_triton as kernels
from facecore.losses import symmetry_loss
from facecore.ops import set_debug

__all__ = ["kernels_take_cpu_tensors"]
KINDS = ["involution", "shift", "to one"]


def make_map(count, kind):
    mirror = torch.arange(count - 1, -1, -1)
    return {"involution": mirror, "shift": (torch.arange(count) + 1) % count, "to one": torch.zeros_like(mirror)}[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(2, 5, 3), (1, 1, 1), (0, 4, 3), (2, 0, 3)], ids=str)
def test_matches_reference(kind, shape, monkeypatch):
    """Small blocks: a stray is found in one block and the gradient of all changes its way."""
    use_small_blocks(monkeypatch, kernels, 4)
    inputs = (random(*shape).requires_grad_(), make_map(shape[1], kind) if shape[1] else torch.zeros(0).long())
    check_matches_reference(symmetry_loss, reference_losses.symmetry_loss, inputs)


@pytest.mark.parametrize(
    "dtype, kind", [*((torch.bfloat16, kind) for kind in KINDS), (torch.float16, "shift"), (torch.float32, "to one")]
)
def test_low_precision(dtype, kind):
    """The signs of half precision have memory of their own."""
    mirror = make_map(9, kind)
    losses = (lambda a, f=f: f(a, mirror) for f in (symmetry_loss, reference_losses.symmetry_loss))
    check_low_precision(*losses, [random(2, 9, 3)], dtype)


def test_one_stray_among_many_blocks():
    mirror = make_map(1200, "involution")
    mirror[1199] = 5  # 0 has lost its mirror, 5 has two
    inputs = (random(1, 1200, 2, dtype=torch.float32).requires_grad_(), mirror)
    check_matches_reference(symmetry_loss, reference_losses.symmetry_loss, inputs)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_strides_and_kinks(kind):
    mirror = make_map(5, kind)
    check_layouts(lambda a: symmetry_loss(a, mirror), [random(2, 5, 3)])
    value, grad = value_and_gradients(lambda a: symmetry_loss(a, mirror), [torch.full((1, 5, 3), 0.5)])
    assert value == 0 and torch.equal(grad, torch.zeros_like(grad))


@pytest.mark.parametrize("bad", [3, -1, 2**40])
def test_a_vertex_that_there_is_not_shows_and_touches_no_memory(bad):
    albedo = random(1, 3, 3).requires_grad_()
    value = symmetry_loss(albedo, torch.tensor([0, bad, 1]))
    assert value.isnan()
    torch.autograd.grad(value, albedo)
    before = set_debug(True)
    try:
        with pytest.raises(ValueError, match="mirror_map must index 3 vertices"):
            symmetry_loss(albedo, torch.tensor([0, bad, 1]))
    finally:
        set_debug(before)


def test_fakes():
    albedo, mirror = random(2, 5, 3, dtype=torch.float16), make_map(5, "shift")
    check_fakes(torch.ops.facecore.vertex_symmetry.default, (albedo, mirror, 0.5))
    check_fakes(torch.ops.facecore.vertex_symmetry_backward.default, (torch.ones(()), albedo, mirror, 0.5))
