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


# Blocks of 512 vertices, one, three and other numbers of channels; none.
SIZES = [(2, 5, 3), (1, 1, 1), (3, 1500, 3), (2, 2049, 4), (2, 700, 1), (1, 513, 7), (0, 4, 3), (2, 5, 0)]


def test_by_hand():
    albedo = torch.tensor([[[0.2], [0.6], [9.0]]])  # variance of (0.2, 0.6): 0.04
    assert float(flattening_loss(albedo, torch.tensor([True, True, False]))) == pytest.approx(0.04)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["float", "bool", "tiny", "empty"])
@pytest.mark.parametrize("sizes", SIZES)
def test_matches_reference(dtype, kind, sizes):
    check_matches_reference(flattening_loss, reference_losses.flattening_loss, make_inputs(*sizes, dtype, kind))


def test_every_simd_level(simd_level):
    for sizes in ((2, 1037, 3), (1, 33, 5)):
        for dtype in (torch.float32, torch.float64):
            check_matches_reference(flattening_loss, reference_losses.flattening_loss, make_inputs(*sizes, dtype))


def test_same_bits_for_any_number_of_threads(thread_count):
    albedo, region = make_inputs(3, 9000, 3, torch.float32)
    runs = []
    for count in (1, 2, 4):
        thread_count(count)
        value = flattening_loss(albedo, region)
        runs.append((value, *torch.autograd.grad(value, albedo)))
    for run in runs[1:]:
        assert all(torch.equal(got, want) for got, want in zip(run, runs[0]))


@pytest.mark.parametrize(("dtype", "level"), [(torch.float32, 0.7), (torch.float64, 1e3)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("weights", [1.0, 1e-4])  # their sum: above 1 and below
def test_a_nearly_flat_albedo(dtype, level, channels, weights):
    """The variance is 1e-8 (1e-14) of the squares: those are summed in doubles, about a value of the albedo itself.

    1e-6 of the value, float32's rounding of it; in float64 the squares themselves would leave 10 % of it wrong. A sum
    of weights below 1 does not sum to a variance: the squares of the albedo are in the value.
    """
    albedo, region = make_inputs(2, 3000, channels)
    albedo, region = (level + 1e-4 * albedo.detach()).to(dtype), (weights * region).to(dtype)
    got = flattening_loss(albedo, region)
    expected = reference_losses.flattening_loss(albedo.double(), region.double())
    torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=0)


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
