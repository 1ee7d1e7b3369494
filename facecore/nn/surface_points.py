"""Image positions of surface points from the encoder's feature maps: one map per point, and the mean position in it.

Pooled features say where things are only after long training, maps almost at once, because a convolution that has
found a point finds it everywhere. The mean position under a softmax is finer than the map's cells and has a gradient
(integral regression, Sun et al. 2018).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from facecore.nn.resnet import EncoderFeatures

NECK_CHANNELS = 64
POSITION_WEIGHT = 10.0  # a tenth of NDC, 5 % of the picture's width, weighs as much as one nat
LEVELS = ("layer4", "layer3", "layer2", "layer1")  # coarse to fine; maps have the size of the last


class SurfacePoints(nn.Module):
    """Finds P points in the feature maps of a ResNet.

    Features are brought to NECK_CHANNELS channels, added from coarse to fine (a feature pyramid), and turned into one
    map per point, a quarter of the picture's size.

    Args:
        num_points: P.
        widths: channels of layer1 to layer4, ResNetEncoder.widths.

    Raises ValueError for num_points below 1 or another number of widths.
    """

    def __init__(self, num_points: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        if num_points < 1:
            raise ValueError(f"num_points must be at least 1, got {num_points}")
        if len(widths) != len(LEVELS):
            raise ValueError(f"widths must be the channels of layer1 to layer4, got {widths}")
        self.lateral = nn.ModuleDict(
            {name: nn.Conv2d(width, NECK_CHANNELS, 1) for name, width in zip(reversed(LEVELS), widths)}
        )
        self.maps = nn.Conv2d(NECK_CHANNELS, num_points, 1)

    def forward(self, features: EncoderFeatures) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions [N, P, 2] in NDC (q of METHODS 1.3), and logits of the maps [N, P, h, w]. Differentiable."""
        merged: torch.Tensor | None = None
        for name in LEVELS:
            feature = getattr(features, name)
            own = self.lateral[name](feature)
            if merged is not None:
                own = own + functional.interpolate(merged, feature.shape[2:], mode="bilinear")
            merged = own
        assert merged is not None
        logits = self.maps(merged.relu()).float()
        return logits.flatten(2).softmax(-1) @ cell_centers(*logits.shape[2:], like=logits), logits


def cell_centers(height: int, width: int, *, like: torch.Tensor) -> torch.Tensor:
    """NDC of a map's cells, [height * width, 2]: x to the right, y up, the picture's edges at -1 and 1."""
    x = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) * (2 / width) - 1
    y = 1 - (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) * (2 / height)
    return torch.stack((x.expand(height, width), y[:, None].expand(height, width)), -1).view(-1, 2)


def surface_point_loss(
    positions: torch.Tensor, logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Cross-entropy of the maps plus POSITION_WEIGHT times the absolute error of the positions, a scalar.

    A target is spread over the four cells around it by its bilinear weights, so that their mean position is the
    target; targets outside the picture are moved to its border.

    Args:
        positions, logits: of SurfacePoints, [N, P, 2] and [N, P, h, w].
        target: NDC, [N, P, 2].
        weight: [N, P], 0 = unknown: such a point never matters, even where it is NaN. None = all 1. The mean is over
            all N P points.
    """
    height, width = logits.shape[2:]
    if weight is not None:
        target = torch.where(weight[..., None] > 0, target, 0.0)
    column = ((target[..., 0] + 1) * (width / 2) - 0.5).clamp(0, width - 1)
    row = ((1 - target[..., 1]) * (height / 2) - 0.5).clamp(0, height - 1)
    left, top = column.floor().clamp_max(width - 2), row.floor().clamp_max(height - 2)
    right_share, bottom_share = column - left, row - top
    first = (top * width + left).long()
    cells = torch.stack((first, first + 1, first + width, first + width + 1), -1)
    share = torch.stack(
        (
            (1 - bottom_share) * (1 - right_share),
            (1 - bottom_share) * right_share,
            bottom_share * (1 - right_share),
            bottom_share * right_share,
        ),
        -1,
    )
    entropy = -(logits.flatten(2).log_softmax(-1).gather(2, cells) * share).sum(-1)
    error = entropy + POSITION_WEIGHT * (positions - target).abs().mean(-1)
    return (error if weight is None else error * weight).mean()
