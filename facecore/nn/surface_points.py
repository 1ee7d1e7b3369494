"""Image positions of surface points from the encoder's feature maps: one map per point, and the mean position in it.

Pooled features say where things are only after long training, maps almost at once, because a convolution that has
found a point finds it everywhere. The mean position under a softmax is finer than the map's cells and has a gradient
(integral regression, Sun et al. 2018).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from facecore.nn.resnet import EncoderFeatures
from facecore.ops import uv_sample

NECK_CHANNELS = 64
POSITION_WEIGHT = 10.0  # a tenth of NDC, 5 % of the picture's width, weighs as much as one nat
POINT_SCALE = 4.0  # of point positions as features: their spread over pictures is then about 1
POINT_FEATURE_SCALE = 0.25  # there are many: an optimiser's step in all their weights at once shall not be large
LEVELS = ("layer4", "layer3", "layer2", "layer1")  # coarse to fine; maps have the size of the last


class PointMaps(NamedTuple):
    """Where P points are in N pictures.

    positions: mean positions under the maps' softmax, [N, P, 2] in NDC (q of METHODS 1.3).
    log_normalizer: log sum exp of each map, [N, P].
    logits: the maps, [N, P, h, w].
    """

    positions: torch.Tensor
    log_normalizer: torch.Tensor
    logits: torch.Tensor


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
        self.maps = nn.Linear(NECK_CHANNELS, num_points)

    def forward(self, features: EncoderFeatures) -> PointMaps:
        """Differentiable once."""
        merged: torch.Tensor | None = None
        for name in LEVELS:
            feature = getattr(features, name)
            own = self.lateral[name](feature)
            if merged is not None:
                own = own + functional.interpolate(merged, feature.shape[2:], mode="bilinear")
            merged = own
        assert merged is not None
        height, width = merged.shape[2:]
        neck = merged.relu().flatten(2)  # [N, 64, h w]: this product makes whole maps, one after the other in memory
        logits = self.maps.weight @ neck + self.maps.bias[:, None]
        with torch.autocast(logits.device.type, enabled=False):  # positions are to be finer than bfloat16's 1/256
            precise = logits if logits.dtype == torch.float64 else logits.float()
            return point_maps(precise.unflatten(-1, (height, width)))


class PointFeatures(nn.Module):
    """What a feature map shows at the surface points (shape-indexed features, Cao et al. 2012).

    Pooled features mix all places, and maps say only where a point is. The same place of every face is compared here,
    wherever it lies in the picture, so that a linear map reads it.

    Args:
        channels: of the map.
        num_features: of each point.

    Raises ValueError for num_features below 1.
    """

    def __init__(self, channels: int, num_features: int) -> None:
        super().__init__()
        if num_features < 1:
            raise ValueError(f"num_features must be at least 1, got {num_features}")
        self.reduce = nn.Conv2d(channels, num_features, 1)

    def forward(self, feature_map: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """[N, C, h, w] and NDC positions [N, P, 2] -> [N, P * num_features].

        Bilinear; beyond the outermost cells the border's value. Differentiable once, in the map alone: the gradient of
        the positions would be that of the map's noise.
        """
        reduced = self.reduce(feature_map).to(positions.dtype)  # half precision under autocast
        return uv_sample(reduced.contiguous(), (positions.detach() + 1) / 2).flatten(1)


def point_readings(
    maps: EncoderFeatures, points: PointMaps, features: PointFeatures | None, mean_positions: torch.Tensor
) -> torch.Tensor:
    """What linear heads read: pooled features, where the points are beyond those of the mean face [1, P, 2], and what
    the finest map shows there, [N, F]."""
    parts = [maps.pooled.to(points.positions.dtype), ((points.positions - mean_positions) * POINT_SCALE).flatten(1)]
    if features is not None:
        parts.append(features(maps.layer1, points.positions) * POINT_FEATURE_SCALE)
    return torch.cat(parts, 1)


def beyond_turn(away: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """What a face's pose does not explain of its points, away [N, P, 2], by itself and times pitch and yaw [N, 2],
    [N, 6 P].

    That is shape, and to first order how shape shows on a turned head, so a linear map reads it. An optimiser that
    trains such a map from the start diverges with the first wrong poses.
    """
    flat = (away * POINT_SCALE).flatten(1)
    return torch.cat([flat, flat * turn[:, :1], flat * turn[:, 1:]], 1)


def point_maps(logits: torch.Tensor) -> PointMaps:
    """Mean position and normalizer of maps [N, P, h, w], float32 or float64; differentiable once."""
    height, width = logits.shape[2:]
    centers = cell_centers(height, width, like=logits)
    positions, log_normalizer = _MapMoments.apply(logits.flatten(2), centers)
    return PointMaps(positions, log_normalizer, logits)


class _MapMoments(torch.autograd.Function):
    """Mean position [N, P, 2] under softmax(logits [N, P, L]), and log sum exp [N, P].

    With p the probabilities and m their mean: dm/dlogits_l = p_l (center_l - m), dlse/dlogits_l = p_l. Written out
    because the maps are the largest tensors of the encoder: one softmax serves both, and one product their gradient.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, centers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        largest = logits.amax(-1, keepdim=True)
        probability = (logits - largest).exp_()
        total = probability.sum(-1, keepdim=True)
        probability /= total
        positions = probability @ centers
        ctx.save_for_backward(probability, positions, centers)
        return positions, (largest + total.log())[..., 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        gradient, normalizer_gradient = gradients
        probability, positions, centers = ctx.saved_tensors
        constant = normalizer_gradient - (gradient * positions).sum(-1)
        return (gradient @ centers.T).add_(constant[..., None]).mul_(probability), None


def cell_centers(height: int, width: int, *, like: torch.Tensor) -> torch.Tensor:
    """NDC of a map's cells, [height * width, 2]: x to the right, y up, the picture's edges at -1 and 1."""
    x = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) * (2 / width) - 1
    y = 1 - (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) * (2 / height)
    return torch.stack((x.expand(height, width), y[:, None].expand(height, width)), -1).view(-1, 2)


def surface_point_loss(points: PointMaps, target: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Cross-entropy of the maps plus POSITION_WEIGHT times the absolute error of the positions, a scalar.

    A target is spread over the four cells around it by its bilinear weights, so that their mean position is the
    target. For a target outside the picture the cells are those at the border; its position error is to the target
    itself. Differentiable once, in the points; float32 or float64.

    Args:
        points: of N pictures.
        target: NDC, [N, P, 2].
        weight: [N, P], 0 = unknown: such a point never matters, even where it is NaN. None = all 1. The mean is over
            all N P points.
    """
    height, width = points.logits.shape[2:]
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
    entropy = points.log_normalizer - (points.logits.flatten(2).gather(2, cells) * share).sum(-1)
    error = entropy + POSITION_WEIGHT * (points.positions - target).abs().mean(-1)
    return (error if weight is None else error * weight).mean()


def spread_points(vertices: torch.Tensor, first: torch.Tensor, count: int, usable: torch.Tensor) -> torch.Tensor:
    """`count` vertices int64: `first`, then ever the usable one (bool [V]) that is farthest from all before.

    Raises ValueError when count is less than len(first) or more than there are of both.
    """
    distance = torch.cdist(vertices, vertices[first]).amin(1).masked_fill(~usable, -1.0)
    most = len(first) + int((distance > 0).sum())
    if not len(first) <= count <= most:
        raise ValueError(
            f"surface_points must be 0 or from {len(first)} (the landmarks) to {most} (with the vertices that are "
            f"seen on the mean face), got {count}"
        )
    chosen = first.tolist()
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (vertices - vertices[chosen[-1]]).norm(dim=1))  # unusable ones stay below 0
    return torch.tensor(chosen, device=vertices.device)
