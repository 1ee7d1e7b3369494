"""gradient_difference_loss: hand-computed values, a loop as its definition, masks over NaN, gradients, bad inputs."""

from __future__ import annotations

import math

import pytest
import torch

from facecore.losses import gradient_difference_loss


def pictures(generator, shape=(2, 3, 4, 5)):
    rendered, image = (torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    mask = torch.rand(shape[0], *shape[2:], generator=generator, dtype=torch.float64)
    mask[mask < 0.3] = 0.0
    return rendered, image, mask


def by_loops(rendered, image, mask):
    """METHODS 1.11, with the product of the two mask values as the weight of a pair."""
    n, c, h, w = rendered.shape
    losses = []
    for k in range(n):
        loss = 0.0
        for down, right in ((0, 1), (1, 0)):
            total = weights = 0.0
            for i in range(h - down):
                for j in range(w - right):
                    weight = float(mask[k, i, j] * mask[k, i + down, j + right])
                    if weight <= 0:
                        continue
                    for channel in range(c):
                        steps = [
                            float(abs(p[k, channel, i, j] - p[k, channel, i + down, j + right]))
                            for p in (image, rendered)
                        ]
                        total += weight * abs(steps[0] - steps[1]) / c
                    weights += weight
            loss += total / max(weights, 1.0)
        losses.append(loss)
    return sum(losses) / n


def test_by_hand():
    rendered = torch.tensor([[[[0.0, 1.0], [0.5, 0.5]]]])
    image = torch.tensor([[[[0.2, 0.0], [0.2, 0.9]]]])
    # horizontal: | 1 - 0.2 | and | 0 - 0.7 |; vertical: | 0.5 - 0 | and | 0.5 - 0.9 |
    assert float(gradient_difference_loss(rendered, image)) == pytest.approx((0.8 + 0.7) / 2 + (0.5 + 0.4) / 2)
    mask = torch.tensor([[[1.0, 1.0], [1.0, 0.0]]])  # one pair in each direction is left
    assert float(gradient_difference_loss(rendered, image, mask)) == pytest.approx(0.8 + 0.5)
    # invariant to a constant and to the sign of a step, unlike a difference of gradients
    assert float(gradient_difference_loss(0.3 - image, image)) == pytest.approx(0.0, abs=1e-7)


def test_is_the_definition(generator):
    rendered, image, mask = pictures(generator)
    assert float(gradient_difference_loss(rendered, image, mask)) == pytest.approx(by_loops(rendered, image, mask))
    ones = torch.ones_like(mask)
    assert float(gradient_difference_loss(rendered, image)) == pytest.approx(by_loops(rendered, image, ones))
    small = mask * 0.1  # weights of pairs sum to less than 1
    assert float(gradient_difference_loss(rendered, image, small)) == pytest.approx(by_loops(rendered, image, small))


def test_what_the_mask_hides_changes_nothing(generator):
    rendered, image, mask = pictures(generator)
    hidden = (mask == 0)[:, None].expand_as(rendered)
    clean = [rendered.clone().requires_grad_(), image.clone().requires_grad_()]
    spoiled = [t.masked_fill(hidden, math.nan).requires_grad_() for t in (rendered, image)]
    values = [gradient_difference_loss(*inputs, mask) for inputs in (clean, spoiled)]
    assert values[0] == values[1]
    for grad, spoiled_grad in zip(*(torch.autograd.grad(v, i) for v, i in zip(values, (clean, spoiled)))):
        assert torch.equal(grad, spoiled_grad)
        assert (spoiled_grad[hidden] == 0).all()


@pytest.mark.parametrize("masked", [True, False])
def test_gradients(generator, masked):
    rendered, image, mask = pictures(generator, (2, 2, 3, 3))
    inputs = (rendered.requires_grad_(), image.requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: gradient_difference_loss(a, b, mask if masked else None), inputs)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (4, 1), (0, 3)])
def test_pictures_without_pairs(size):
    rendered = torch.ones(2, 3, *size, requires_grad=True)
    loss = gradient_difference_loss(rendered, torch.zeros(2, 3, *size), torch.ones(2, *size))
    assert loss == 0
    loss.backward()
    assert torch.equal(rendered.grad, torch.zeros_like(rendered))


def test_empty_batch_and_bad_inputs(generator):
    rendered, image, mask = pictures(generator)
    assert gradient_difference_loss(rendered[:0], image[:0]) == 0
    with pytest.raises(ValueError, match="image must have shape"):
        gradient_difference_loss(rendered, image[1:])
    with pytest.raises(ValueError, match="mask must have shape"):
        gradient_difference_loss(rendered, image, mask[..., 1:])
    with pytest.raises(ValueError, match="at least one channel"):
        gradient_difference_loss(rendered[:, :0], image[:, :0])
