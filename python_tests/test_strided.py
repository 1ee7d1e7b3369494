"""Regressors of stride-2 convolutions: levels by the size, METHODS' layers, first outputs, gradients, bad shapes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from facecore.nn import BranchedRegressor, StridedRegressor, StridedTrunk


def channels(trunk: StridedTrunk) -> list[int]:
    return [layer.out_channels for layer in trunk.modules() if isinstance(layer, nn.Conv2d)]


def test_the_papers_size_has_the_papers_layers():
    """METHODS 5: seven convolutions 256 -> 2, flatten 2048, FC 512."""
    regressor = StridedRegressor(3, 256, 7)
    assert channels(regressor.trunk) == [32, 64, 128, 256, 256, 512, 512]
    assert regressor.trunk.num_features == 2048
    assert [layer.out_features for layer in regressor.head if isinstance(layer, nn.Linear)] == [512, 7]


@pytest.mark.parametrize(
    ("size", "levels", "features"),
    [(32, 4, 256 * 4), (64, 5, 256 * 4), (96, 5, 256 * 9), (128, 6, 512 * 4), (224, 5, 256 * 49), (512, 7, 512 * 16)],
)
def test_levels_follow_from_the_size(size, levels, features):
    trunk = StridedTrunk(3, size)
    assert (len(channels(trunk)), trunk.num_features) == (levels, features)


def test_the_width_is_a_factor_of_the_channels():
    assert channels(StridedTrunk(3, 64, 0.25)) == [8, 16, 32, 64, 64]
    assert min(channels(StridedTrunk(3, 64, 0.001))) == 1


def test_starts_at_nothing_and_gradients_reach_every_layer():
    torch.manual_seed(0)
    regressor, branched = StridedRegressor(3, 32, 5, 0.25), BranchedRegressor(((3, 32), (6, 64)), 9, 0.25)
    first, second = torch.rand(4, 3, 32, 32), torch.rand(4, 6, 64, 64)
    assert not regressor(first).any() and not branched(first, second).any()
    for network, inputs in ((regressor, (first,)), (branched, (first, second))):
        nn.init.normal_(network.head[-1].weight)
        network(*inputs).square().sum().backward()
        assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("size", [0, 16, 48, 100])
def test_other_sizes_are_refused(size):
    with pytest.raises(ValueError, match=f"size must be a multiple of 32, got {size}"):
        StridedTrunk(3, size)


def test_bad_inputs():
    with pytest.raises(ValueError, match="width must be positive, got 0"):
        StridedTrunk(3, 32, 0)
    with pytest.raises(ValueError, match=r"x must have shape \[N, 3, 32, 32\], got \[2, 3, 32, 64\]"):
        StridedTrunk(3, 32, 0.25)(torch.rand(2, 3, 32, 64))
    with pytest.raises(ValueError, match="inputs must be 2, one for each branch, got 1"):
        BranchedRegressor(((3, 32), (6, 32)), 9, 0.25)(torch.rand(2, 3, 32, 32))
