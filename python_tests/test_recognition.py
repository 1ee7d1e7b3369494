"""The built-in recognition network."""

from __future__ import annotations

import pytest
import torch

from facecore.nn import RecognitionNet


@pytest.fixture(scope="module")
def network() -> RecognitionNet:
    torch.manual_seed(0)
    return RecognitionNet().eval()


def test_size_is_that_of_its_description(network):
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == 1_973_248  # METHODS 7: about 2.0 million
    assert f"{count:,}" in (RecognitionNet.__doc__ or "")


def test_features_and_gradient(network, generator):
    images = torch.rand(2, 3, 112, 112, generator=generator, requires_grad=True)
    features = network(images)
    assert features.embed.shape == (2, 128) and features.pooled.shape == (2, 256)
    torch.testing.assert_close(features.embed, network.head(features.pooled))
    (gradient,) = torch.autograd.grad(features.embed[0].sum(), images)
    assert torch.isfinite(gradient).all() and float(gradient[0].abs().sum()) > 0
    assert float(gradient[1].abs().sum()) == 0  # faces of a batch do not influence each other


def test_it_learns_two_persons(generator):
    """Four steps tell two patterns under noise apart: every layer is connected and trains."""
    torch.manual_seed(0)
    network = RecognitionNet()
    person = torch.rand(2, 3, 112, 112, generator=generator)
    label = torch.arange(2).repeat(4)
    images = person[label] + 0.1 * torch.randn(8, 3, 112, 112, generator=generator)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    losses = []
    for _ in range(5):
        loss = torch.nn.functional.cross_entropy(network(images).embed[:, :2], label)
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("shape", [(1, 3, 112, 96), (3, 112, 112), (1, 1, 112, 112)])
def test_refuses_other_shapes(network, shape):
    with pytest.raises(ValueError, match=r"images must have shape \[N, 3, 112, 112\]"):
        network(torch.zeros(shape))
