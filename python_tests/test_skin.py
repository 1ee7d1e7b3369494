"""Skin probability: the mixtures of METHODS 1.10 evaluated directly in numpy, plain colours, gradients, bad inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from facecore.losses import skin_attention, skin_mask, skin_probability
from facecore.losses.skin import OTHER_MIXTURE, SKIN_MIXTURE


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
    with pytest.raises(ValueError, match="image must have dtype"):
        skin_probability(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
