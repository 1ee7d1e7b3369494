"""U-Net from a picture's texture, or from the picture itself, to a reflectance over UV space (METHODS 5, f_r)."""

from __future__ import annotations

import torch
from torch import nn

from facecore.nn.strided import HIDDEN, scaled, strided_block

WIDTHS = (64, 128, 256, 512, 512)  # at 1/2 to 1/32 of the texture's size
FINEST = 16  # at its full size, where each channel costs four times as much as at 1/2


class TextureUNet(nn.Module):
    """[N, in_channels, size, size] to a reflectance [N, 3, size, size] in (0, 1).

    Five 4x4 convolutions of stride 2 to 64, 128, 256, 512, 512 channels, as many transposed ones back to 512, 256, 128,
    64, 16, each but the first beside the map of its size from the way down; batch norm and ReLU after each; a 3x3
    convolution and a sigmoid.

    Args:
        in_channels: 4 for a texture and where it is visible, 3 for a picture.
        size: height and width of input and reflectance, a multiple of 32.
        width: factor of the numbers of channels.
        bottleneck: two fully connected layers, to 512 and back, at the coarsest level: for inputs that are not laid out
            as the reflectance is, a picture to a texture.

    Raises ValueError for another size. In training mode the inputs of a batch influence each other. Deterministic on a
    CPU.
    """

    def __init__(self, in_channels: int, size: int, width: float = 1.0, *, bottleneck: bool = False) -> None:
        super().__init__()
        if size < 2 ** len(WIDTHS) or size % 2 ** len(WIDTHS):
            raise ValueError(f"size must be a multiple of {2 ** len(WIDTHS)}, got {size}")
        self.in_channels, self.size = in_channels, size
        widths = [scaled(channels, width) for channels in WIDTHS]
        self.down = nn.ModuleList(strided_block(before, after) for before, after in zip([in_channels, *widths], widths))
        self.bottleneck: nn.Module = nn.Identity()
        if bottleneck:
            coarsest = size // 2 ** len(WIDTHS)
            features = widths[-1] * coarsest**2
            self.bottleneck = nn.Sequential(
                nn.Flatten(),
                nn.Linear(features, scaled(HIDDEN, width)),
                nn.ReLU(),
                nn.Linear(scaled(HIDDEN, width), features),
                nn.ReLU(),
                nn.Unflatten(1, (widths[-1], coarsest, coarsest)),
            )
        # from the coarsest map up; each gives what the map of its size beside it has
        beside = [*widths[-2::-1], scaled(FINEST, width)]
        inputs = [widths[-1], *(2 * channels for channels in widths[-2::-1])]
        self.up = nn.ModuleList(strided_block(i, o, transposed=True) for i, o in zip(inputs, beside))
        self.last = nn.Conv2d(beside[-1], 3, 3, padding=1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as the maps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The reflectance. Differentiable in x. Raises ValueError for another shape."""
        if x.ndim != 4 or tuple(x.shape[1:]) != (self.in_channels, self.size, self.size):
            raise ValueError(
                f"x must have shape [N, {self.in_channels}, {self.size}, {self.size}], got {list(x.shape)}"
            )
        maps = [x.contiguous(memory_format=torch.channels_last)]
        for step in self.down:
            maps.append(step(maps[-1]))
        x = self.bottleneck(maps.pop())
        for step in self.up:
            x = step(x)
            if len(maps) > 1:  # the input itself is not beside anything
                x = torch.cat([x, maps.pop()], 1)
        return torch.sigmoid(self.last(x))
