"""identity_loss: values by hand, any length of the features, gradients, bad inputs."""

from __future__ import annotations

import pytest
import torch

from facecore.losses import identity_loss


def test_by_hand():
    predicted = torch.tensor([[3.0, 0.0], [1.0, 1.0], [2.0, 0.0]])
    target = torch.tensor([[1.0, 0.0], [-5.0, -5.0], [0.0, 7.0]])  # cosines 1, -1, 0
    assert float(identity_loss(predicted, target)) == pytest.approx((0 + 2 + 1) / 3)
    assert identity_loss(predicted[:0], target[:0]) == 0


def test_gradients(generator):
    predicted, target = (torch.randn(3, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    assert torch.autograd.gradcheck(identity_loss, (predicted.requires_grad_(), target.requires_grad_()))
    zero = torch.zeros(1, 4, requires_grad=True)
    identity_loss(zero, torch.ones(1, 4)).backward()
    assert torch.isfinite(zero.grad).all()


def test_bad_inputs():
    with pytest.raises(ValueError, match=r"target must have shape \[2, 4\]"):
        identity_loss(torch.zeros(2, 4), torch.zeros(2, 5))
