"""landmark_loss and landmark_structure_loss: hand-computed values, definitions by loops, unknown points, gradients."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from checks import check_matches_reference, check_registration

from facecore import reference_losses
from facecore.losses import landmark_loss, landmark_structure_loss
from facecore.losses._landmark_pairs import pair_matrix

APERTURES = {(37, 41), (38, 40), (43, 47), (44, 46), (61, 67), (62, 66), (63, 65)}


def points(generator, n=2, p=68):
    return tuple(torch.randn(n, p, 2, generator=generator, dtype=torch.float64) for _ in range(2))


def structure_by_loops(predicted, target, weight):
    losses = []
    for image in range(predicted.shape[0]):
        total = weights = 0.0
        for a, b in itertools.combinations(range(68), 2):
            w = float(weight[image, a] * weight[image, b]) * (20.0 if (a, b) in APERTURES else 1.0)
            if w > 0:
                lengths = [math.dist(p[image, a].tolist(), p[image, b].tolist()) for p in (predicted, target)]
                total += w * abs(lengths[0] - lengths[1])
                weights += w
        losses.append(total / max(weights, 1.0))
    return sum(losses) / len(losses)


def test_distance_by_hand():
    predicted, target = torch.zeros(1, 4, 2), torch.zeros(1, 4, 2)
    predicted[0, 0], predicted[0, 2] = torch.tensor([3.0, 4.0]), torch.tensor([-1.0, 0.0])
    assert float(landmark_loss(predicted, target)) == pytest.approx((25 + 1) / 4)
    assert float(landmark_loss(predicted, target, norm="l1")) == pytest.approx((7 + 1) / 4)
    weight = torch.tensor([[0.5, 1.0, 20.0, 0.0]])
    assert float(landmark_loss(predicted, target, weight)) == pytest.approx((0.5 * 25 + 20 * 1) / 4)


def test_structure_by_hand():
    target = torch.zeros(1, 68, 2)
    predicted = target.clone()
    predicted[0, 37, 1] = 0.3  # moves one upper lid point: 66 plain pairs and one lid pair lengthen by 0.3
    total = 2278 + 19 * 7
    assert float(landmark_structure_loss(predicted, target)) == pytest.approx(0.3 * (66 + 20) / total)
    # a translation or a rotation of all points changes no distance
    angle = torch.tensor(0.4)
    turn = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
    shape = torch.randn(1, 68, 2, generator=torch.Generator().manual_seed(1))
    assert float(landmark_structure_loss(shape @ turn + 5.0, shape)) < 1e-5


def test_structure_is_the_definition(generator):
    predicted, target = points(generator)
    weight = torch.rand(2, 68, generator=generator, dtype=torch.float64)
    weight[weight < 0.4] = 0.0
    expected = structure_by_loops(predicted, target, weight)
    assert float(landmark_structure_loss(predicted, target, weight)) == pytest.approx(expected, rel=1e-12)
    expected = structure_by_loops(predicted, target, torch.ones_like(weight))
    assert float(landmark_structure_loss(predicted, target)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", [landmark_loss, landmark_structure_loss])
def test_unknown_points_change_nothing(generator, loss):
    predicted, target = points(generator)
    weight = (torch.rand(2, 68, generator=generator) > 0.4).double()
    hidden = (weight == 0)[..., None].expand_as(predicted)
    clean = [predicted.clone().requires_grad_(), target.clone().requires_grad_()]
    spoiled = [t.masked_fill(hidden, math.nan).requires_grad_() for t in (predicted, target)]
    values = [loss(*inputs, weight) for inputs in (clean, spoiled)]
    assert values[0] == values[1]
    for grad, spoiled_grad in zip(*(torch.autograd.grad(v, i) for v, i in zip(values, (clean, spoiled)))):
        assert torch.equal(grad, spoiled_grad)
        assert (spoiled_grad[hidden] == 0).all()


@pytest.mark.parametrize("loss", [landmark_loss, landmark_structure_loss])
def test_gradients(generator, loss):
    predicted, target = points(generator, n=1)
    inputs = (predicted.requires_grad_(), target.requires_grad_())
    weight = torch.rand(1, 68, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, weight), inputs, fast_mode=True)
    if loss is landmark_loss:
        assert torch.autograd.gradgradcheck(lambda a, b: loss(a, b, weight), inputs, fast_mode=True)
        return
    (grad,) = torch.autograd.grad(loss(*inputs, weight), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="landmark_structure_backward has no derivative"):
        grad.sum().backward()


def test_structure_gradient_is_finite_where_points_coincide(generator):
    target = torch.randn(1, 68, 2, generator=generator)
    predicted = target.clone()
    predicted[0, 61] = predicted[0, 67]  # a closed mouth
    predicted.requires_grad_()
    landmark_structure_loss(predicted, target).backward()
    assert torch.isfinite(predicted.grad).all()


def test_structure_works_after_inference_mode(generator):
    predicted, target = (t.to(torch.float32) for t in points(generator))
    with torch.inference_mode():
        landmark_structure_loss(predicted, target)
    predicted.requires_grad_()
    landmark_structure_loss(predicted, target).backward()
    assert predicted.grad is not None


def test_empty_batch_and_bad_inputs(generator):
    predicted, target = points(generator)
    assert landmark_loss(predicted[:0], target[:0]) == 0
    assert landmark_structure_loss(predicted[:0], target[:0]) == 0
    with pytest.raises(ValueError, match=r"predicted must have shape \[N, P, 2\]"):
        landmark_loss(torch.zeros(2, 68, 3), torch.zeros(2, 68, 3))
    with pytest.raises(ValueError, match="target must have shape"):
        landmark_loss(predicted, target[:, :5])
    with pytest.raises(ValueError, match=r"weight must have shape \[2, 68\]"):
        landmark_loss(predicted, target, torch.ones(68, dtype=torch.float64))
    with pytest.raises(ValueError, match="norm must be"):
        landmark_loss(predicted, target, norm="l2")
    with pytest.raises(ValueError, match=r"weight\.detach\(\)"):
        landmark_loss(predicted, target, torch.ones(2, 68, dtype=torch.float64, requires_grad=True))
    with pytest.raises(ValueError, match=r"predicted must have shape \[N, 68, 2\]"):
        landmark_structure_loss(predicted[:, :5], target[:, :5])


def test_structure_gradient_repeats_to_the_bit(generator):
    """More than 32,768 gradient values on several threads, where a parallel sum could change its order."""
    predicted = torch.randn(32, 68, 2, generator=generator, requires_grad=True)
    target = torch.randn(32, 68, 2, generator=generator)
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        gradients = [torch.autograd.grad(landmark_structure_loss(predicted, target), predicted)[0] for _ in range(5)]
    finally:
        torch.set_num_threads(threads)
    assert all(gradient.equal(gradients[0]) for gradient in gradients[1:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_structure_at_every_simd_level(simd_level, dtype, generator):
    predicted, target = (t.to(dtype).requires_grad_() for t in points(generator, n=5))
    weight = torch.rand(5, 68, generator=generator, dtype=torch.float64).to(dtype) - 0.3
    weight[3] = 0.0  # an image without a known point
    for w in (None, weight):
        inputs = (predicted, target, w)
        check_matches_reference(landmark_structure_loss, reference_losses.landmark_structure_loss, inputs)


def test_structure_is_registered_correctly(generator):
    predicted, target = points(generator)
    weight = torch.rand(2, 68, generator=generator, dtype=torch.float64)
    inputs = (predicted.requires_grad_(), target, weight, pair_matrix(torch.device("cpu"), torch.float64), True)
    op = torch.ops.facecore.landmark_structure.default
    check_registration(op, lambda p, t, w, *_: landmark_structure_loss(p, t, w), inputs)
