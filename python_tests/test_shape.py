"""shape_loss: hand-computed values, gradients, bad inputs."""

from __future__ import annotations

import functools

import pytest
import torch
from checks import check_matches_reference, check_registration

from facecore import reference_losses
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


def make_shapes(n, v, dtype):
    generator = torch.Generator().manual_seed(3)
    shapes = torch.randn(2, n, v, 3, generator=generator, dtype=torch.float64).to(dtype)
    std = (torch.rand(v, 3, generator=generator, dtype=torch.float64) + 0.5).to(dtype)
    return shapes[0].clone().requires_grad_(), shapes[1].clone().requires_grad_(), std


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", ["l1", "l2_squared"])
@pytest.mark.parametrize("whitened", [True, False])
@pytest.mark.parametrize("n, v", [(1, 1), (2, 7), (3, 1500), (0, 4), (2, 0)])
def test_matches_reference(dtype, norm, whitened, n, v):
    predicted, target, std = make_shapes(n, v, dtype)
    functions = (functools.partial(f, norm=norm) for f in (shape_loss, reference_losses.shape_loss))
    check_matches_reference(*functions, (predicted, target, std if whitened else 2.5))


def test_every_simd_level(simd_level):
    for norm in ("l1", "l2_squared"):
        functions = (functools.partial(f, norm=norm) for f in (shape_loss, reference_losses.shape_loss))
        check_matches_reference(*functions, make_shapes(2, 37, torch.float32))


def test_l2_by_hand():
    predicted = torch.zeros(1, 2, 3)
    predicted[0, 0] = torch.tensor([3.0, 4.0, 0.0])
    assert float(shape_loss(predicted, torch.zeros(1, 2, 3), norm="l2_squared")) == pytest.approx(25 / 2)
    assert float(shape_loss(predicted, torch.zeros(1, 2, 3), 5.0, norm="l2_squared")) == pytest.approx(1 / 2)


def test_registration_refusals_and_bad_options():
    predicted, target, std = make_shapes(2, 5, torch.float64)
    inputs = (predicted, target, std, True, 0.1)
    check_registration(torch.ops.facecore.shape_loss.default, lambda a, b, s, *_: shape_loss(a, b, s), inputs)
    (grad,) = torch.autograd.grad(shape_loss(predicted, target, norm="l2_squared"), predicted, create_graph=True)
    with pytest.raises(RuntimeError, match="shape_loss_backward has no derivative"):
        grad.sum().backward()
    with pytest.raises(ValueError, match="norm must be l1 or l2_squared, got 'l2'"):
        shape_loss(predicted, target, norm="l2")
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="scale must be positive everywhere"):
            shape_loss(predicted, target, torch.where(torch.arange(5)[:, None] == 2, bad, std))
    with pytest.raises(ValueError, match=r"scale must have shape \[5, 3\]"):
        shape_loss(predicted, target, std[:4])
