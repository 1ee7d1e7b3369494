"""The built-in face segmentation network."""

from __future__ import annotations

import pytest
import torch

from facecore.nn import SegmentationNet


@pytest.fixture(scope="module")
def network() -> SegmentationNet:
    torch.manual_seed(0)
    return SegmentationNet(4).eval()


def test_size_is_that_of_its_description():
    count = sum(parameter.numel() for parameter in SegmentationNet().parameters())
    assert f"{count:,}" in (SegmentationNet.__doc__ or "")


@pytest.mark.parametrize("size", [(16, 16), (32, 64), (96, 80)])
def test_one_logit_for_each_pixel(network, generator, size):
    images = torch.rand(2, 3, *size, generator=generator, requires_grad=True)
    logit = network(images)
    assert logit.shape == (2, 1, *size)
    (gradient,) = torch.autograd.grad(logit[0].sum(), images)
    assert torch.isfinite(gradient).all() and float(gradient[0].abs().sum()) > 0
    assert float(gradient[1].abs().sum()) == 0  # pictures of a batch do not influence each other


def test_it_learns_where_a_square_is(generator):
    """Thirty steps tell a bright square from the rest: every layer is connected and trains."""
    torch.manual_seed(0)
    network = SegmentationNet(4)
    mask = torch.zeros(4, 1, 32, 32)
    for i in range(4):
        mask[i, :, 4 * i : 4 * i + 12, 8:20] = 1
    images = 0.6 * mask.expand(-1, 3, -1, -1) + 0.3 * torch.rand(4, 3, 32, 32, generator=generator)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(images), mask)
        loss.backward()
        losses.append(float(loss.detach()))
        assert all(float(p.grad.abs().sum()) > 0 for p in network.parameters() if p.grad is not None)
        optimiser.step()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("shape", [(1, 3, 24, 32), (3, 32, 32), (1, 1, 32, 32)])
def test_bad_input_is_refused(network, shape):
    with pytest.raises(ValueError, match="multiples of 16"):
        network(torch.zeros(shape))
