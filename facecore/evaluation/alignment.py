"""Similarity alignment of corresponding point sets, and the errors that are left after it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import torch

Alignment = Literal["similarity", "rigid", "none"]


@dataclasses.dataclass(frozen=True, eq=False)
class Similarity:
    """N maps x -> scale * rotation x + translation: scale [N], rotation [N, 3, 3], translation [N, 3], float64."""

    scale: torch.Tensor
    rotation: torch.Tensor
    translation: torch.Tensor

    def apply(self, points: torch.Tensor) -> torch.Tensor:
        """Points [N, V, 3] moved, in their own dtype."""
        moved = self.scale[:, None, None] * points.double() @ self.rotation.transpose(1, 2)
        return (moved + self.translation[:, None]).to(points.dtype)


def fit_similarity(points: torch.Tensor, target: torch.Tensor, alignment: Alignment = "similarity") -> Similarity:
    """The least-squares similarity that moves `points` [N, V, 3] onto `target` [N, V, 3].

    Closed form of Umeyama (1991), without reflection; "rigid" keeps the scale 1, "none" is the identity. Computed
    in float64. Not meant for gradients. Deterministic. Raises ValueError for shapes that differ, fewer than three
    points or another alignment.
    """
    if points.shape != target.shape or points.ndim != 3 or points.shape[-1] != 3 or points.shape[1] < 3:
        raise ValueError(
            f"points and target must both be [N, V >= 3, 3], got {list(points.shape)}, {list(target.shape)}"
        )
    if alignment not in ("similarity", "rigid", "none"):
        raise ValueError(f"alignment must be 'similarity', 'rigid' or 'none', got {alignment!r}")
    source, goal = points.double(), target.double()
    ones = source.new_ones(len(source))
    if alignment == "none":
        return Similarity(ones, torch.eye(3).to(source).expand(len(source), 3, 3), source.new_zeros(len(source), 3))
    source_mean, goal_mean = source.mean(1, keepdim=True), goal.mean(1, keepdim=True)
    source, goal = source - source_mean, goal - goal_mean
    u, singular, vt = torch.linalg.svd(goal.transpose(1, 2) @ source)
    sign = torch.ones_like(singular)
    sign[:, 2] = torch.det(u @ vt).sign()
    rotation = (u * sign[:, None, :]) @ vt
    scale = ones
    if alignment == "similarity":
        scale = (singular * sign).sum(1) / source.square().sum((1, 2)).clamp_min(torch.finfo(torch.float64).tiny)
    translation = goal_mean - scale[:, None, None] * source_mean @ rotation.transpose(1, 2)
    return Similarity(scale, rotation, translation[:, 0])


def similarity_align(points: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """`points` [N, V, 3] moved onto `target` [N, V, 3] by the least-squares similarity (`fit_similarity`)."""
    return fit_similarity(points, target).apply(points)


def vertex_distances(
    points: torch.Tensor, target: torch.Tensor, alignment: Alignment = "similarity", fit_on: torch.Tensor | None = None
) -> torch.Tensor:
    """Distance of each corresponding vertex after alignment, [N, V], in the unit of the input.

    fit_on: the vertices that decide the alignment, bool [V] or int64 [P]; None = all. Raises ValueError as
    `fit_similarity` does.
    """
    if points.shape != target.shape:
        raise ValueError(f"points and target must have one shape, got {list(points.shape)}, {list(target.shape)}")
    chosen = slice(None) if fit_on is None else fit_on
    moved = fit_similarity(points[:, chosen], target[:, chosen], alignment).apply(points)
    return (moved - target).norm(dim=-1)


def vertex_error(points: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean distance over corresponding vertices after similarity alignment, [N], in the unit of the input."""
    return vertex_distances(points, target).mean(1)


def regional_errors(distances: torch.Tensor, regions: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Mean over the vertices of each region, [N] each, of `vertex_distances` [N, V]; regions: bool [V] by name.

    "all" comes first. Raises ValueError for a region of another shape or dtype, or without vertices.
    """
    errors = {"all": distances.mean(1)}
    for name, mask in regions.items():
        if mask.dtype != torch.bool or mask.shape != distances.shape[1:]:
            raise ValueError(
                f"the region '{name}' must be bool [{distances.shape[1]}], got {mask.dtype} {list(mask.shape)}"
            )
        if not bool(mask.any()):
            raise ValueError(f"the region '{name}' has no vertex; leave it out")
        errors[name] = distances[:, mask].mean(1)
    return errors
