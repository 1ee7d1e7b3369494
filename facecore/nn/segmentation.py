"""The small built-in face segmentation: a crop to the probability that each pixel shows visible face skin."""

from __future__ import annotations

import torch
from torch import nn

LEVELS = 4  # halvings between the picture and the coarsest map


class SegmentationNet(nn.Module):
    """Crops of any size that is a multiple of 16 to one logit for each pixel; 1,226,305 weights at width 16.

    A U-Net: at each of four halvings a 3x3 convolution of stride 2 and one of stride 1, to 2, 4, 8 and 8 times `width`
    channels; back by bilinear enlargement, the map of that size from the way down beside it, and two convolutions.
    Batch norm and ReLU after each; a 1x1 convolution gives the logit. Random weights: train it before use.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width, 8 * width]
        self.stem = nn.Sequential(_convolution(3, width), _convolution(width, width))
        self.down = nn.ModuleList(
            nn.Sequential(_convolution(before, after, 2), _convolution(after, after))
            for before, after in zip(widths, widths[1:])
        )
        self.up = nn.ModuleList(
            nn.Sequential(_convolution(coarse + fine, fine), _convolution(fine, fine))
            for coarse, fine in zip(widths[:0:-1], widths[-2::-1])
        )
        self.last = nn.Conv2d(width, 1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, 1, H, W] of crops [N, 3, H, W] with RGB in [0, 1].

        In training mode the images of a batch influence each other. Raises ValueError for another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3 or any(size % 2**LEVELS for size in images.shape[2:]):
            raise ValueError(
                f"images must have shape [N, 3, H, W] with sides that are multiples of {2**LEVELS}, "
                f"got {list(images.shape)}"
            )
        maps = [self.stem(2 * images - 1)]
        for stage in self.down:
            maps.append(stage(maps[-1]))
        x = maps.pop()
        for stage in self.up:
            x = nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = stage(torch.cat([x, maps.pop()], 1))
        return self.last(x)


def _convolution(channels: int, width: int, stride: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(layer, nn.BatchNorm2d(width), nn.ReLU(inplace=True))
