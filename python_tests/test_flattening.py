"""flattening_loss: values by hand, equality with the definition, vertices that do not count, bad inputs."""

from __future__ import annotations

import math

import pytest
import torch
from checks import check_matches_reference, check_registration

from facecore import reference_losses
from facecore.losses import flattening_loss


def make_inputs(n, v, c, dtype=torch.float64, kind="float"):
    generator = torch.Generator().manual_seed(5)
    albedo = torch.rand(n, v, c, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    region = torch.rand(v, generator=generator, dtype=torch.float64) - 0.3
    regions = {"float": region.to(dtype), "bool": region > 0, "tiny": region.to(dtype) * 1e-3, "empty": region < -1}
    return albedo, regions[kind]


def test_by_hand():
    albedo = torch.tensor([[[0.2], [0.6], [9.0]]])  # variance of (0.2, 0.6): 0.04
    assert float(flattening_loss(albedo, torch.tensor([True, True, False]))) == pytest.approx(0.04)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["float", "bool", "tiny", "empty"])
@pytest.mark.parametrize("sizes", [(2, 5, 3), (1, 1, 1), (3, 1500, 3), (2, 2049, 4), (0, 4, 3)])
def test_matches_reference(dtype, kind, sizes):
    check_matches_reference(flattening_loss, reference_losses.flattening_loss, make_inputs(*sizes, dtype, kind))


def test_hidden_vertices_and_an_empty_region():
    albedo, region = make_inputs(2, 30, 3)
    spoiled = albedo.detach().masked_fill((region <= 0)[:, None], math.nan).requires_grad_()
    values = [flattening_loss(a, region) for a in (albedo, spoiled)]
    grads = [torch.autograd.grad(value, a)[0] for value, a in zip(values, (albedo, spoiled))]
    assert values[0] == values[1] and torch.equal(*grads)
    nothing = flattening_loss(spoiled, torch.zeros(30, dtype=torch.bool))
    assert nothing == 0 and (torch.autograd.grad(nothing, spoiled)[0] == 0).all()


def test_gradients_and_registration():
    albedo, region = make_inputs(2, 4, 3)
    assert torch.autograd.gradcheck(flattening_loss, (albedo, region))
    check_registration(torch.ops.facecore.flattening.default, flattening_loss, make_inputs(2, 4, 3))
    (grad,) = torch.autograd.grad(flattening_loss(albedo, region), albedo, create_graph=True)
    with pytest.raises(RuntimeError, match="flattening_backward has no derivative"):
        grad.sum().backward()


def test_bad_inputs():
    with pytest.raises(ValueError, match=r"region must have shape \[4\]"):
        flattening_loss(torch.zeros(1, 4, 3), torch.ones(5))
    with pytest.raises(ValueError, match=r"region\.detach\(\)"):
        flattening_loss(torch.zeros(1, 4, 3), torch.ones(4, requires_grad=True))
