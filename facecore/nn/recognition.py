"""The small built-in recognition network: an aligned face to what is the same in every picture of a person."""

from __future__ import annotations

import abc
from typing import NamedTuple

import torch
from torch import nn

STEM = 32
WIDTHS = (64, 128, 256)
EMBED = 128


class RecognitionFeatures(NamedTuple):
    """embed: [N, d], compared by its direction; pooled: [N, d_f], the layer before it, or the same."""

    embed: torch.Tensor
    pooled: torch.Tensor


class Readings(NamedTuple):
    """What linear heads read of N faces. features: [N, F]; corrections: [N, C], what more such heads read that are
    solved, not trained (C may be 0)."""

    features: torch.Tensor
    corrections: torch.Tensor


class EmbeddingNetwork(nn.Module, abc.ABC):
    """What every recognition network of this package has: its pictures' size, and a last layer that gives `embed`."""

    input_size: tuple[int, int]  # height, width of aligned faces
    head: nn.Linear

    @abc.abstractmethod
    def forward(self, images: torch.Tensor) -> RecognitionFeatures:
        """Aligned faces [N, 3, *input_size] with RGB in [0, 1]."""

    def read(self, images: torch.Tensor) -> Readings:
        """What a system's own heads are to read of aligned faces: the embedding, unless a network has better."""
        embed = self(images).embed
        return Readings(embed, embed[:, :0])

    @property
    def num_readings(self) -> tuple[int, int]:
        """F and C of `read`."""
        return self.head.out_features, 0


class RecognitionNet(EmbeddingNetwork):
    """Aligned faces of 112 x 112 pixels to embeddings (METHODS 7); 1,973,248 weights.

    A 3x3 convolution of stride 2 to 32 channels, then three stages of 64, 128 and 256: each a 3x3 convolution of stride
    2 and one residual unit of two 3x3 convolutions. Batch norm and PReLU after each convolution (the unit's last PReLU
    after the sum). The mean over the picture is `pooled`; one linear layer gives `embed`. Random weights: train it
    before anything is concluded from it.
    """

    input_size = (112, 112)

    def __init__(self) -> None:
        super().__init__()
        channels = [STEM, *WIDTHS]
        self.stem = _convolution(3, STEM, 2)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(_convolution(before, width, 2), _ResidualUnit(width))
                for before, width in zip(channels, channels[1:])
            )
        )
        self.head = nn.Linear(WIDTHS[-1], EMBED)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", a=0.25)  # PReLU starts with slope 0.25

    def forward(self, images: torch.Tensor) -> RecognitionFeatures:
        """Embeds aligned faces, [N, 3, 112, 112] with RGB in [0, 1] (`facecore.perception.align_faces`).

        Differentiable. In training mode the images of a batch influence each other. Raises ValueError for another
        shape.
        """
        if images.ndim != 4 or images.shape[1:] != (3, *self.input_size):
            raise ValueError(f"images must have shape [N, 3, 112, 112], got {list(images.shape)}; align them first")
        pooled = self.stages(self.stem(2 * images - 1)).mean((2, 3))
        return RecognitionFeatures(self.head(pooled), pooled)


class _ResidualUnit(nn.Module):
    """Two 3x3 convolutions and the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels, 1)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.activation = nn.PReLU(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(x + self.norm(self.second(self.first(x))))


def _convolution(channels: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width))
