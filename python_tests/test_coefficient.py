"""coefficient_loss: hand-computed values with and without a prior, gradients, bad inputs."""

from __future__ import annotations

import pytest
import torch

from facecore.losses import coefficient_loss


def test_by_hand():
    coefficients = torch.tensor([[1.0, -2.0], [3.0, 0.0]])
    assert float(coefficient_loss(coefficients)) == pytest.approx((5 + 9) / 2)
    assert float(coefficient_loss(coefficients, reduction="mean")) == pytest.approx((5 + 9) / 4)
    mean, std = torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.5])
    assert float(coefficient_loss(coefficients, mean, std)) == pytest.approx((0 + 16 + 1 + 0) / 2)
    assert coefficient_loss(mean[None], mean, std) == 0


def test_gradients(generator):
    coefficients = torch.randn(3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    std = torch.rand(4, generator=generator, dtype=torch.float64) + 0.5
    assert torch.autograd.gradcheck(lambda c: coefficient_loss(c, None, std), coefficients)
    assert torch.autograd.gradgradcheck(lambda c: coefficient_loss(c, None, std), coefficients)


def test_empty_batch_and_bad_inputs():
    assert coefficient_loss(torch.zeros(0, 4)) == 0
    with pytest.raises(ValueError, match=r"std must have shape \[4\], got \[3\]"):
        coefficient_loss(torch.zeros(1, 4), None, torch.ones(3))
    with pytest.raises(ValueError, match=r"coefficients must have shape \[N, K\]"):
        coefficient_loss(torch.zeros(4))
    with pytest.raises(ValueError, match="reduction must be"):
        coefficient_loss(torch.zeros(1, 4), reduction="none")
