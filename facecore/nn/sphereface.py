"""SphereFace-20: the recognition network of joint reconstruction and recognition (METHODS 3)."""

from __future__ import annotations

import torch
from torch import nn

from facecore.nn.recognition import EmbeddingNetwork, RecognitionFeatures

WIDTHS = (64, 128, 256, 512)
UNITS = (1, 2, 4, 1)  # residual units of each stage: with one convolution before them, twenty convolutions
EMBED = 512


class SphereFace(EmbeddingNetwork):
    """Aligned faces of 112 x 96 pixels to 512 features; 20 convolutions, 22,670,656 weights at width 1.

    Four stages, each a 3x3 convolution of stride 2 and residual units of two 3x3 convolutions, PReLU after every one,
    biases, no batch norm: pictures of a batch do not influence each other. The last stage's 7 x 6 map goes through one
    linear layer, whose result is both `embed` and `pooled`. width: a factor of all numbers of channels, for smaller
    networks. Random weights: train it before anything is concluded from it. Raises ValueError for a width that leaves
    a stage without channels.
    """

    input_size = (112, 96)

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        widths = [round(width * channels) for channels in WIDTHS]
        if min(widths) < 1:
            raise ValueError(f"width must leave every stage a channel, got {width}")
        channels = [3, *widths]
        self.stages = nn.Sequential(
            *(_stage(before, after, units) for before, after, units in zip(channels, channels[1:], UNITS))
        )
        self.head = nn.Linear(widths[-1] * 7 * 6, EMBED)

    def forward(self, images: torch.Tensor) -> RecognitionFeatures:
        """Embeds aligned faces, [N, 3, 112, 96] with RGB in [0, 1] (`facecore.perception.align_faces`).

        Differentiable. Raises ValueError for another shape.
        """
        if images.ndim != 4 or images.shape[1:] != (3, *self.input_size):
            raise ValueError(f"images must have shape [N, 3, 112, 96], got {list(images.shape)}; align them first")
        embed = self.head(self.stages(2 * images - 1).flatten(1))
        return RecognitionFeatures(embed, embed)


def _stage(channels: int, width: int, units: int) -> nn.Sequential:
    return nn.Sequential(_convolution(channels, width, 2), *(_ResidualUnit(width) for _ in range(units)))


class _ResidualUnit(nn.Module):
    """x plus two convolutions of it. Starts near x: without a normalisation, twenty layers would grow or die out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            _convolution(channels, channels, 1), _convolution(channels, channels, 1, deviation=0.01)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.branch(x)


def _convolution(channels: int, width: int, stride: int, deviation: float | None = None) -> nn.Sequential:
    """deviation: of the weights at the start; None = that which keeps the activations' size."""
    layer = nn.Conv2d(channels, width, 3, stride, 1)
    if deviation is None:
        nn.init.kaiming_normal_(layer.weight, mode="fan_in", a=0.25)  # PReLU starts with slope 0.25
    else:
        nn.init.normal_(layer.weight, std=deviation)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return nn.Sequential(layer, nn.PReLU(width))
