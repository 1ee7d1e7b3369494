"""Skin probability: the mixtures of METHODS 1.10 evaluated directly in numpy, plain colours, gradients, bad inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from checks import check_matches_reference, check_registration

from facecore import reference_losses
from facecore.losses import skin_attention, skin_mask, skin_probability
from facecore.losses.skin import OTHER_MIXTURE, SKIN_MIXTURE, _numbers


def density(color: np.ndarray, mixture) -> float:
    """sum_k w_k N(mu_k, S_k) as printed, with the normalisation from the inverse covariance."""
    total = 0.0
    for w, y, cb, cr, p11, p12, p13, p22, p23, p33 in mixture:
        precision = np.array([[p11, p12, p13], [p12, p22, p23], [p13, p23, p33]]) * 1e-3
        d = color - np.array([y, cb, cr])
        total += w * np.sqrt(np.linalg.det(precision) / (2 * np.pi) ** 3) * np.exp(-0.5 * d @ precision @ d)
    return total


def probability(rgb: np.ndarray) -> float:
    r, g, b = rgb * 255
    ycbcr = np.array(
        [
            (65.481 * r + 128.553 * g + 24.966 * b) / 255 + 16,
            (-37.797 * r - 74.203 * g + 112 * b) / 255 + 128,
            (112 * r - 93.786 * g - 18.214 * b) / 255 + 128,
        ]
    )
    skin, other = 0.8 * density(ycbcr, SKIN_MIXTURE), 0.2 * density(ycbcr, OTHER_MIXTURE)
    return skin / (skin + other)


def test_is_the_formula(generator):
    image = torch.rand(2, 3, 4, 5, generator=generator, dtype=torch.float64) * 0.6 + 0.2
    expected = np.apply_along_axis(probability, 1, image.numpy())
    np.testing.assert_allclose(skin_probability(image).numpy(), expected, rtol=1e-9, atol=1e-12)
    # float32: exponents of order 100 keep about 5 digits of the probability
    np.testing.assert_allclose(skin_probability(image.float()).numpy(), expected, rtol=0, atol=2e-4)


def test_mixture_weights_sum_to_one():
    for mixture in (SKIN_MIXTURE, OTHER_MIXTURE):
        assert sum(row[0] for row in mixture) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    "color, is_skin",
    [
        ((0.85, 0.65, 0.55), True),  # light skin
        ((0.60, 0.42, 0.33), True),  # medium skin
        ((0.42, 0.27, 0.20), True),  # dark skin
        ((0.20, 0.35, 0.80), False),  # blue
        ((0.20, 0.60, 0.25), False),  # green
        ((0.50, 0.50, 0.50), False),  # grey
    ],
)
def test_plain_colours(color, is_skin):
    image = torch.tensor(color).view(1, 3, 1, 1)
    assert bool(skin_mask(image)) is is_skin


def test_extreme_colours_are_finite():
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3).T.reshape(1, 3, 2, 4)
    image = corners.clone().requires_grad_()
    result = skin_probability(image)
    result.sum().backward()
    assert torch.isfinite(result).all() and torch.isfinite(image.grad).all()
    assert ((result >= 0) & (result <= 1)).all()


def test_attention(generator):
    image = torch.rand(1, 3, 8, 8, generator=generator, requires_grad=True)
    probability_of_skin, attention = skin_probability(image), skin_attention(image)
    assert not attention.requires_grad
    expected = torch.where(probability_of_skin > 0.5, torch.ones(()), probability_of_skin)
    assert torch.equal(attention, expected.detach())
    assert torch.equal(skin_mask(image, 0.2), probability_of_skin > 0.2)


def test_gradients(generator):
    image = (torch.rand(1, 3, 2, 2, generator=generator, dtype=torch.float64) * 0.4 + 0.3).requires_grad_()
    assert torch.autograd.gradcheck(skin_probability, image)


def test_works_after_inference_mode(generator):
    image = torch.rand(1, 3, 2, 2, generator=generator)
    with torch.inference_mode():
        skin_probability(image)
    image.requires_grad_()
    skin_probability(image).sum().backward()
    assert image.grad is not None


def test_empty_batch_and_bad_inputs():
    assert skin_probability(torch.zeros(0, 3, 4, 4)).shape == (0, 4, 4)
    with pytest.raises(ValueError, match=r"image must have shape \[N, 3, H, W\]"):
        skin_probability(torch.zeros(1, 4, 4, 3))
    with pytest.raises(ValueError, match=r"image must be floating point, got uint8: .* image.float\(\) / 255"):
        skin_probability(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 3, 1, 1), (2, 3, 33, 37), (0, 3, 4, 4), (1, 3, 7, 16)], ids=str)
def test_matches_reference(shape, generator):
    image = torch.rand(shape, generator=generator, dtype=torch.float64).requires_grad_()
    # terms below 1e-152 of the largest are left out
    check_matches_reference(skin_probability, reference_losses.skin_probability, (image,))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-4)])
def test_every_simd_level(simd_level, dtype, tolerance, generator):
    """float32 keeps about 4 digits: exponents of order 100. The definition is taken in float64."""
    image = torch.rand(2, 3, 9, 31, generator=generator, dtype=dtype).requires_grad_()
    exact = image.detach().double().requires_grad_()
    got, expected = skin_probability(image), reference_losses.skin_probability(exact)
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=tolerance)
    grads = [torch.autograd.grad((p * p).sum(), x)[0].double() for p, x in ((got, image), (expected, exact))]
    scale = grads[1].abs().max()
    torch.testing.assert_close(grads[0] / scale, grads[1] / scale, rtol=0, atol=10 * tolerance)


def test_registration_refusal_and_a_pixel_that_is_nan(generator):
    image = torch.rand(2, 3, 4, 5, generator=generator, dtype=torch.float64).requires_grad_()
    inputs = (image, _numbers(torch.device("cpu"), torch.float64))
    check_registration(torch.ops.facecore.skin_probability.default, lambda i, _: skin_probability(i), inputs)
    (grad,) = torch.autograd.grad(skin_probability(image).sum(), image, create_graph=True)
    with pytest.raises(RuntimeError, match="skin_probability_backward has no derivative"):
        grad.sum().backward()
    spoiled = image.detach().clone()
    spoiled[0, 1, 2, 3] = float("nan")
    got = skin_probability(spoiled)
    assert got[0, 2, 3].isnan() and got.isnan().sum() == 1
