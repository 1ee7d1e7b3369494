"""shape_loss: hand-computed values, gradients, bad inputs."""

from __future__ import annotations

import pytest
import torch

from facecore.losses import shape_loss


def test_by_hand():
    predicted, target = torch.zeros(1, 2, 3), torch.zeros(1, 2, 3)
    predicted[0, 0], target[0, 1] = torch.tensor([3.0, -3.0, 0.0]), torch.tensor([0.0, 0.0, 6.0])
    assert float(shape_loss(predicted, target)) == pytest.approx(12 / 6)
    assert float(shape_loss(predicted, target, 4.0)) == pytest.approx(12 / 6 / 4)


def test_gradients(generator):
    predicted, target = (torch.randn(2, 4, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    inputs = (predicted.requires_grad_(), target.requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: shape_loss(a, b, 3.0), inputs)


def test_empty_batch_and_bad_inputs():
    assert shape_loss(torch.zeros(0, 4, 3), torch.zeros(0, 4, 3)) == 0
    with pytest.raises(ValueError, match="target must have shape"):
        shape_loss(torch.zeros(1, 4, 3), torch.zeros(1, 5, 3))
    with pytest.raises(ValueError, match="target must have dtype"):
        shape_loss(torch.zeros(1, 4, 3), torch.zeros(1, 4, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match="scale must be positive"):
        shape_loss(torch.zeros(1, 4, 3), torch.zeros(1, 4, 3), -1.0)
