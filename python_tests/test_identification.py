"""identification_loss: hand-computed values, unknown persons, gradients, bad inputs."""

from __future__ import annotations

import math

import pytest
import torch

from facecore.losses import identification_loss


def test_by_hand():
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0], [7.0, -5.0]])
    labels = torch.tensor([1, 0, -1])  # probabilities 3/4 and 1/2; the third person is unknown
    assert float(identification_loss(logits, labels)) == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2)


def test_no_known_person_is_zero_with_a_gradient():
    logits = torch.randn(2, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = identification_loss(logits, torch.tensor([-1, -1]))
    loss.backward()
    assert loss == 0 and torch.equal(logits.grad, torch.zeros_like(logits))
    assert identification_loss(logits[:0], torch.zeros(0, dtype=torch.int64)) == 0


def test_logits_of_the_unknown_reach_nothing():
    logits = torch.zeros(3, 4)
    logits[1] = math.nan
    loss = identification_loss(logits.requires_grad_(), torch.tensor([2, -1, 0]), margin=0.2, scale=3.0)
    loss.backward()
    assert bool(loss.isfinite()) and not logits.grad[1].any() and bool(logits.grad[0].all())


def test_gradients(generator):
    logits = torch.randn(4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 2, -1, 1])
    assert torch.autograd.gradcheck(lambda x: identification_loss(x, labels), logits)


def test_bad_inputs():
    logits = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"labels must lie in \[-1, 3\).*got 0 to 3"):
        identification_loss(logits, torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="labels must lie in"):
        identification_loss(logits, torch.tensor([0, -2]))
    with pytest.raises(ValueError, match="labels must have dtype int64"):
        identification_loss(logits, torch.tensor([0, 1], dtype=torch.int32))
    with pytest.raises(ValueError, match=r"labels must have shape \[2\]"):
        identification_loss(logits, torch.tensor([0]))


def test_additive_margin(generator):
    cosines = torch.rand(3, 4, generator=generator, dtype=torch.float64) * 2 - 1
    labels = torch.tensor([1, -1, 3])
    shifted = cosines.clone()
    shifted[0, 1] -= 0.35
    shifted[2, 3] -= 0.35
    expected = torch.nn.functional.cross_entropy(30 * shifted[[0, 2]], labels[[0, 2]])
    torch.testing.assert_close(identification_loss(cosines, labels, margin=0.35, scale=30.0), expected)
    with pytest.raises(ValueError, match="margin must not be negative and scale must be positive, got -1"):
        identification_loss(cosines, labels, margin=-1.0)
