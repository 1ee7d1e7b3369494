"""batch_distribution_loss: values by hand, its floor for codes of the prior, gradients, bad inputs."""

from __future__ import annotations

import pytest
import torch

from facecore.losses import batch_distribution_loss


def test_by_hand():
    codes = torch.tensor([[1.0, 0.0], [3.0, 0.0]])  # means 2, 0; variances 1, 0
    assert float(batch_distribution_loss(codes)) == pytest.approx(4 + 0 + 0 + 1)


def test_the_floor_of_the_prior(generator):
    n, k, draws = 32, 199, 200
    values = [float(batch_distribution_loss(torch.randn(n, k, generator=generator))) for _ in range(draws)]
    floor = k * (1 / n + (2 * n - 1) / n**2)
    assert sum(values) / draws == pytest.approx(floor, rel=0.03)  # their mean has a standard error below 1 %


def test_gradients_and_bad_inputs(generator):
    codes = torch.randn(4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(batch_distribution_loss, codes)
    assert torch.autograd.gradgradcheck(batch_distribution_loss, codes)
    with pytest.raises(ValueError, match="at least one image"):
        batch_distribution_loss(torch.zeros(0, 3))
    with pytest.raises(ValueError, match=r"codes must have shape \[N, K\]"):
        batch_distribution_loss(torch.zeros(3))
