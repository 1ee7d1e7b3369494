"""C-Net: how far each identity coefficient of one picture is to be trusted, Deng et al. 2019 (METHODS 4)."""

from __future__ import annotations

import torch
from torch import nn


class ConfidenceNet(nn.Module):
    """A map and the pooled features of a face network to confidences in (0, 1).

    Three 3x3 convolutions of stride 2 over the map, its mean beside the pooled features, a hidden layer, a sigmoid.
    The last layer starts at 0: all pictures count the same. 2,991,440 weights at the paper's sizes.

    Args:
        map_channels: of the network's first map, at a quarter of the picture's resolution.
        num_features: of its pooled features.
        num_confidences: K; 1 = one for all coefficients.
        width: channels of the convolutions; the hidden layer has twice as many.

    Raises ValueError for a width or a number of confidences below 1.
    """

    def __init__(self, map_channels: int, num_features: int, num_confidences: int, width: int = 256) -> None:
        super().__init__()
        if width < 1 or num_confidences < 1:
            raise ValueError(f"width and num_confidences must be at least 1, got {width} and {num_confidences}")
        layers: list[nn.Module] = []
        for channels in (map_channels, width, width):
            layers += [nn.Conv2d(channels, width, 3, 2, 1), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.hidden = nn.Linear(num_features + width, 2 * width)
        self.head = nn.Linear(2 * width, num_confidences)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, first_map: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        """[N, C, h, w] and [N, F] -> [N, K]. Differentiable.

        Every second row and column of the map is used: the paper's ResNet has that stride at the end of its first
        block, torchvision's at the start of the second.
        """
        seen = self.convolutions(first_map[..., ::2, ::2]).mean((2, 3))
        return self.head(torch.relu(self.hidden(torch.cat([pooled, seen], 1)))).sigmoid()


def aggregate(values: torch.Tensor, confidence: torch.Tensor) -> torch.Tensor:
    """Weighted mean over a set, element by element: sum_j c_j x_j / sum_j c_j (METHODS 4).

    values: of M pictures of one person, [..., M, K]; confidence: positive, [..., M, K] or [..., M, 1]. Returns
    [..., K]. Differentiable in both.
    """
    total = confidence.sum(-2).clamp_min(torch.finfo(confidence.dtype).tiny)  # sigmoids can underflow
    return (values * confidence).sum(-2) / total
