"""Convolutions of stride 2 down to a few pixels, then numbers: the regressors of conditional estimation (METHODS 5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

WIDTHS = (32, 64, 128, 256, 256, 512, 512)  # of the levels, at 1/2 to 1/128 of the input's size
HIDDEN, BRANCH, JOINED = 512, 256, 128  # fully connected layers
LEAST_SIZE = 32  # pixels; smaller inputs have too few levels


class StridedTrunk(nn.Module):
    """4x4 convolutions of stride 2 with batch norm and ReLU, until 2 pixels or an odd number of them are left.

    Args:
        in_channels: of the inputs, [N, in_channels, size, size].
        size: height and width, a multiple of 32: 256 gives 7 levels and 512 x 2 x 2 features, 224 gives 5 and 256 x 7 x
            7.
        width: factor of the numbers of channels 32, 64, 128, 256, 256, 512, 512.

    Raises ValueError for another size or a width that is not positive. In training mode the inputs of a batch influence
    each other. Deterministic on a CPU.
    """

    def __init__(self, in_channels: int, size: int, width: float = 1.0) -> None:
        super().__init__()
        self.in_channels, self.size = in_channels, size
        layers: list[nn.Module] = []
        channels = in_channels
        for level in WIDTHS[: _num_levels(size)]:
            layers.append(strided_block(channels, scaled(level, width)))
            channels, size = scaled(level, width), size // 2
        self.layers = nn.Sequential(*layers)
        self.layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as the maps
        self.num_features = channels * size * size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features [N, num_features]. Raises ValueError for another shape."""
        if x.ndim != 4 or tuple(x.shape[1:]) != (self.in_channels, self.size, self.size):
            raise ValueError(
                f"x must have shape [N, {self.in_channels}, {self.size}, {self.size}], got {list(x.shape)}"
            )
        return self.layers(x.contiguous(memory_format=torch.channels_last)).flatten(1)


class StridedRegressor(nn.Module):
    """StridedTrunk, FC 512, ReLU, FC: pictures [N, C, size, size] to [N, outputs]. The last layer starts at 0."""

    def __init__(self, in_channels: int, size: int, outputs: int, width: float = 1.0) -> None:
        super().__init__()
        self.trunk = StridedTrunk(in_channels, size, width)
        self.head = nn.Sequential(
            nn.Linear(self.trunk.num_features, scaled(HIDDEN, width)),
            nn.ReLU(),
            _zero_linear(scaled(HIDDEN, width), outputs),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, outputs]; 0 before training. Raises ValueError as StridedTrunk does."""
        return self.head(self.trunk(x))


class BranchedRegressor(nn.Module):
    """Several pictures to numbers: for each a StridedTrunk and FC 256, together FC 128 and FC; ReLU between.

    Args:
        branches: channels and size of each input.
        outputs: how many numbers; the last layer starts at 0.
        width: as for StridedTrunk.
    """

    def __init__(self, branches: Sequence[tuple[int, int]], outputs: int, width: float = 1.0) -> None:
        super().__init__()
        self.branches = nn.ModuleList()
        for in_channels, size in branches:
            trunk = StridedTrunk(in_channels, size, width)
            self.branches.append(nn.Sequential(trunk, nn.Linear(trunk.num_features, scaled(BRANCH, width)), nn.ReLU()))
        self.head = nn.Sequential(
            nn.Linear(len(branches) * scaled(BRANCH, width), scaled(JOINED, width)),
            nn.ReLU(),
            _zero_linear(scaled(JOINED, width), outputs),
        )

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """[N, outputs] of one tensor [N, C, size, size] for each branch. Raises ValueError for another number."""
        if len(inputs) != len(self.branches):
            raise ValueError(f"inputs must be {len(self.branches)}, one for each branch, got {len(inputs)}")
        return self.head(torch.cat([branch(x) for branch, x in zip(self.branches, inputs)], 1))


def scaled(channels: int, width: float) -> int:
    """Channels times a factor, at least 1. Raises ValueError for a factor that is not positive."""
    if not width > 0:
        raise ValueError(f"width must be positive, got {width}")
    return max(1, round(channels * width))


def strided_block(channels: int, width: int, *, transposed: bool = False) -> nn.Sequential:
    """4x4 convolution of stride 2, batch norm, ReLU: half the size, or transposed: twice."""
    layer = nn.ConvTranspose2d if transposed else nn.Conv2d
    convolution = layer(channels, width, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


def _num_levels(size: int) -> int:
    if size < LEAST_SIZE or size % LEAST_SIZE:
        raise ValueError(f"size must be a multiple of {LEAST_SIZE}, got {size}")
    levels = 0
    while levels < len(WIDTHS) and size % 2 == 0 and size > 2:
        levels, size = levels + 1, size // 2
    return levels


def _zero_linear(num_inputs: int, num_outputs: int) -> nn.Linear:
    layer = nn.Linear(num_inputs, num_outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
