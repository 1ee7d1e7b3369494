"""reconstruction_loss: the weighted sum of its two parts, in value and gradient."""

from __future__ import annotations

import pytest
import torch

from facecore.losses import gradient_difference_loss, photometric_loss, reconstruction_loss


@pytest.mark.parametrize("norm", ["l2_squared", "l2", "l1"])
@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("masked", [True, False])
def test_is_the_sum_of_its_parts(generator, norm, weight, masked):
    rendered, image = (torch.rand(2, 3, 6, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    mask = (torch.rand(2, 6, 7, generator=generator) > 0.3) if masked else None
    rendered.requires_grad_()
    expected = photometric_loss(rendered, image, mask, norm=norm)
    expected = expected + weight * gradient_difference_loss(rendered, image, mask)
    got = reconstruction_loss(rendered, image, mask, norm=norm, gradient_weight=weight)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    grads = [torch.autograd.grad(loss, rendered)[0] for loss in (got, expected)]
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-12, atol=1e-12)


def test_by_hand():
    rendered, image = torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)
    rendered[..., 1] = 0.4  # photometric (0 + 0.16) / 2, gradient difference 0.4
    assert float(reconstruction_loss(rendered, image, gradient_weight=0.5)) == pytest.approx(0.08 + 0.2)


def test_gradients_of_second_order(generator):
    rendered, image = (torch.rand(1, 2, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    inputs = (rendered.requires_grad_(), image.requires_grad_())
    assert torch.autograd.gradcheck(reconstruction_loss, inputs)
    assert torch.autograd.gradgradcheck(reconstruction_loss, inputs)


def test_bad_inputs():
    with pytest.raises(ValueError, match="image must have shape"):
        reconstruction_loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5))
    with pytest.raises(ValueError, match="norm must be one of"):
        reconstruction_loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), norm="huber")
