"""The Triton kernels of skin probability, interpreted on the CPU: test_triton_losses.py runs this file."""

from __future__ import annotations

import math

import pytest
import torch
from checks import check_matches_reference
from interpreted_checks import check_fakes, check_layouts, kernels_take_cpu_tensors, random

from facecore import reference_losses
from facecore.losses import _skin_triton as kernels
from facecore.losses import skin_attention, skin_probability
from facecore.losses.skin import _numbers

__all__ = ["kernels_take_cpu_tensors"]


@pytest.mark.parametrize("shape", [(2, 3, 1, 35), (1, 3, 1, 1), (0, 3, 4, 4)], ids=str)
def test_matches_reference(shape, monkeypatch):
    monkeypatch.setattr(kernels, "TILE_PIXELS", 64)
    check_matches_reference(skin_probability, reference_losses.skin_probability, (random(*shape).requires_grad_(),))


def test_tiles_as_on_a_gpu():
    image = random(1, 3, 17, 40).requires_grad_()
    check_matches_reference(skin_probability, reference_losses.skin_probability, (image,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision(dtype):
    """float32 keeps about 4 digits: exponents of order 100. The definition is taken in float64."""
    image = random(1, 3, 6, 7, dtype=dtype).requires_grad_()
    exact = image.detach().double().requires_grad_()
    got, expected = skin_probability(image), reference_losses.skin_probability(exact)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=2e-4)
    grads = [torch.autograd.grad((p * p).sum(), x)[0] for p, x in ((got, image), (expected, exact))]
    assert grads[0].dtype == dtype
    scale = grads[1].abs().max()
    rounding = max(2e-3, torch.finfo(dtype).eps)
    torch.testing.assert_close(grads[0].double() / scale, grads[1] / scale, rtol=rounding, atol=2e-3)


def test_strides_of_the_picture_and_of_the_incoming_gradient():
    image = random(2, 3, 2, 3)
    check_layouts(skin_probability, [image])
    leaf = image.requires_grad_()
    weights = random(2, 3, 2).mT
    grads = [torch.autograd.grad(skin_probability(leaf), leaf, w)[0] for w in (weights, weights.contiguous())]
    assert torch.equal(*grads)


def test_extreme_colours_and_a_pixel_that_is_nan():
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0, 20.0])] * 3).T.reshape(1, 3, 3, 9).requires_grad_()
    result = skin_probability(corners)
    (grad,) = torch.autograd.grad(result.sum(), corners)
    assert torch.isfinite(result).all() and torch.isfinite(grad).all()
    assert ((result >= 0) & (result <= 1)).all()
    spoiled = random(1, 3, 2, 2)
    spoiled[0, 1, 0, 1] = math.nan
    got = skin_probability(spoiled)
    assert got[0, 0, 1].isnan() and got.isnan().sum() == 1


def test_attention():
    image = random(1, 3, 4, 4)
    probability = skin_probability(image)
    assert torch.equal(skin_attention(image), torch.where(probability > 0.5, 1.0, probability))


def test_fakes():
    image, numbers = random(2, 3, 4, 5, dtype=torch.float16), _numbers(torch.device("cpu"), torch.float32)
    check_fakes(torch.ops.facecore.skin_probability.default, (image, numbers))
    check_fakes(torch.ops.facecore.skin_probability_backward.default, (torch.rand(2, 4, 5), image, numbers))
