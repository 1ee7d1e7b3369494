"""photometric_loss: hand-computed values, a loop as its definition, masks over NaN, exact gradients, bad inputs."""

from __future__ import annotations

import math

import pytest
import torch

from facecore.losses import photometric_loss

NORMS = ["l2_squared", "l2", "l1"]


def pictures(generator, shape=(3, 2, 4, 5)):
    rendered, image = (torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    mask = torch.rand(shape[0], *shape[2:], generator=generator, dtype=torch.float64)
    mask[mask < 0.4] = 0.0
    return rendered, image, mask


def by_loops(rendered, image, weights, norm, reduction):
    """METHODS 1.1: sum of weight * error over pixels of positive weight, divided by max(sum of weights, 1)."""
    totals, sums = [], []
    for n in range(rendered.shape[0]):
        total = count = 0.0
        for i in range(rendered.shape[2]):
            for j in range(rendered.shape[3]):
                if not weights[n, i, j] > 0:
                    continue
                difference = [float(rendered[n, c, i, j] - image[n, c, i, j]) for c in range(rendered.shape[1])]
                squares = sum(d * d for d in difference)
                error = {"l2_squared": squares, "l2": math.sqrt(1e-6 + squares), "l1": sum(map(abs, difference))}[norm]
                total += float(weights[n, i, j]) * error
                count += float(weights[n, i, j])
        totals.append(total)
        sums.append(count)
    if reduction == "pooled":
        return sum(totals) / max(sum(sums), 1.0)
    return sum(t / max(s, 1.0) for t, s in zip(totals, sums)) / len(totals)


def test_by_hand():
    rendered, image = torch.zeros(1, 3, 1, 2), torch.zeros(1, 3, 1, 2)
    rendered[0, :, 0, 0] = torch.tensor([0.1, -0.2, 0.2])  # squares 0.09, absolute 0.5; the second pixel agrees
    assert float(photometric_loss(rendered, image)) == pytest.approx(0.09 / 2)
    assert float(photometric_loss(rendered, image, norm="l1")) == pytest.approx(0.5 / 2)
    assert float(photometric_loss(rendered, image, norm="l2")) == pytest.approx((math.sqrt(0.090001) + 1e-3) / 2)
    mask = torch.tensor([[[1.0, 0.5]]])
    assert float(photometric_loss(rendered, image, mask)) == pytest.approx(0.09 / 1.5)
    # a sum of weights below 1 divides by 1, METHODS 1.1
    assert float(photometric_loss(rendered, image, mask * 0.2)) == pytest.approx(0.2 * 0.09)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("reduction", ["per_image", "pooled"])
def test_is_the_definition(generator, norm, reduction):
    rendered, image, mask = pictures(generator)
    mask[1] *= 0.01  # an image whose weights sum to less than 1
    attention = torch.rand(mask.shape, generator=generator, dtype=torch.float64)
    expected = by_loops(rendered, image, mask * attention, norm, reduction)
    got = photometric_loss(rendered, image, mask, norm=norm, attention=attention, reduction=reduction)
    assert float(got) == pytest.approx(expected, rel=1e-12)
    everywhere = by_loops(rendered, image, torch.ones_like(mask), norm, reduction)
    assert float(photometric_loss(rendered, image, norm=norm, reduction=reduction)) == pytest.approx(everywhere)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_what_the_mask_hides_changes_nothing(generator, norm, poison):
    rendered, image, mask = pictures(generator)
    hidden = (mask == 0)[:, None].expand_as(rendered)
    attention = torch.ones_like(mask).masked_fill(mask == 0, poison)
    clean = [rendered.clone().requires_grad_(), image.clone().requires_grad_()]
    spoiled = [t.masked_fill(hidden, poison).requires_grad_() for t in (rendered, image)]
    values = [photometric_loss(*clean, mask, norm=norm), photometric_loss(*spoiled, mask, norm=norm)]
    grads = [torch.autograd.grad(value, inputs) for value, inputs in zip(values, (clean, spoiled))]
    assert values[0] == values[1]
    for grad, spoiled_grad in zip(*grads):
        assert torch.equal(grad, spoiled_grad)
        assert (spoiled_grad[hidden] == 0).all()
    if math.isinf(poison):
        return  # an infinite attention times a zero mask is not a number, and then counts 0 only through the mask
    assert photometric_loss(*clean, mask, norm=norm, attention=attention) == values[0]


def test_without_a_mask_nan_is_not_hidden(generator):
    rendered, image, _ = pictures(generator)
    rendered[0, 0, 0, 0] = math.nan
    assert torch.isnan(photometric_loss(rendered, image))


@pytest.mark.parametrize("norm", NORMS)
def test_gradients(generator, norm):
    rendered, image, mask = pictures(generator, (2, 3, 3, 2))
    inputs = (rendered.requires_grad_(), image.requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: photometric_loss(a, b, mask, norm=norm), inputs)
    assert torch.autograd.gradcheck(lambda a, b: photometric_loss(a, b, mask, norm=norm, reduction="pooled"), inputs)


@pytest.mark.parametrize("norm", NORMS)
def test_gradient_is_finite_where_pictures_agree(norm):
    rendered = torch.full((1, 3, 2, 2), 0.5, requires_grad=True)
    photometric_loss(rendered, rendered.detach().clone(), norm=norm).backward()
    assert torch.equal(rendered.grad, torch.zeros_like(rendered))


def test_bool_mask_layouts_and_empty_batch(generator):
    rendered, image, mask = pictures(generator)
    assert photometric_loss(rendered, image, mask > 0) == photometric_loss(rendered, image, (mask > 0).double())
    channels_last = rendered.to(memory_format=torch.channels_last)
    torch.testing.assert_close(photometric_loss(channels_last, image, mask), photometric_loss(rendered, image, mask))
    for reduction in ("per_image", "pooled"):
        assert photometric_loss(rendered[:0], image[:0], mask[:0], reduction=reduction) == 0


def test_bad_inputs(generator):
    rendered, image, mask = pictures(generator)
    with pytest.raises(ValueError, match=r"image must have shape \[3, 2, 4, 5\], got \[3, 2, 4, 4\]"):
        photometric_loss(rendered, image[..., :4])
    with pytest.raises(ValueError, match="image must have dtype"):
        photometric_loss(rendered, image.float())
    with pytest.raises(ValueError, match=r"mask must have shape"):
        photometric_loss(rendered, image, mask[:, None])
    with pytest.raises(ValueError, match="mask must have dtype bool or float32 or float64, got uint8"):
        photometric_loss(rendered, image, mask.to(torch.uint8))
    with pytest.raises(ValueError, match=r"mask\.detach\(\)"):
        photometric_loss(rendered, image, mask.requires_grad_())
    with pytest.raises(ValueError, match="norm must be one of"):
        photometric_loss(rendered, image, norm="huber")
    with pytest.raises(ValueError, match="reduction must be"):
        photometric_loss(rendered, image, reduction="sum")
