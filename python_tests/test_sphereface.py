"""SphereFace-20."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from facecore.nn import SphereFace


@pytest.fixture(scope="module")
def network() -> SphereFace:
    torch.manual_seed(0)
    return SphereFace(0.125).eval()


def test_size_is_that_of_its_description():
    network = SphereFace()
    count = sum(parameter.numel() for parameter in network.parameters())
    # convolutions and PReLU by hand, stage by stage (3x3 weights + biases, one slope a channel), and the last layer
    stages, before = 0, 3
    for width, units in ((64, 1), (128, 2), (256, 4), (512, 1)):
        stages += 9 * before * width + 2 * width + units * 2 * (9 * width * width + 2 * width)
        before = width
    assert count == stages + 512 * 7 * 6 * 512 + 512 == 22_670_656
    assert f"{count:,}" in (SphereFace.__doc__ or "")
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == 20  # METHODS 3
    assert sum(isinstance(module, nn.PReLU) for module in network.modules()) == 20
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_features_and_gradient(network, generator):
    images = torch.rand(2, 3, 112, 96, generator=generator, requires_grad=True)
    features = network(images)
    assert features.embed.shape == (2, 512) and features.pooled is features.embed
    (gradient,) = torch.autograd.grad(features.embed[0].sum(), images)
    assert torch.isfinite(gradient).all() and float(gradient[0].abs().sum()) > 0
    assert float(gradient[1].abs().sum()) == 0  # faces of a batch do not influence each other


def test_activations_keep_their_size_at_the_start(generator):
    """Without a normalisation twenty layers could grow or die out: each keeps the size of what it is given."""
    torch.manual_seed(0)
    network = SphereFace(0.5)
    x = 2 * torch.rand(4, 3, 112, 96, generator=generator) - 1
    with torch.no_grad():
        for stage in network.stages:
            before = float(x.square().mean().sqrt())
            x = stage(x)
            assert 0.4 < float(x.square().mean().sqrt()) / before < 2.5


def test_bad_input_is_refused(network):
    with pytest.raises(ValueError, match=r"images must have shape \[N, 3, 112, 96\]"):
        network(torch.zeros(1, 3, 112, 112))
    with pytest.raises(ValueError, match="width must leave"):
        SphereFace(0.001)
