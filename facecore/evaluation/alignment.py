"""Similarity alignment of corresponding point sets."""

from __future__ import annotations

import torch


def similarity_align(points: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """`points` [N, V, 3] moved onto `target` [N, V, 3] by the least-squares similarity (scale, rotation, translation).

    Closed form of Umeyama (1991), without reflection. float32 or float64; computed in float64. Not meant for gradients.
    Raises ValueError for shapes that differ or fewer than three points.
    """
    if points.shape != target.shape or points.ndim != 3 or points.shape[-1] != 3 or points.shape[1] < 3:
        raise ValueError(
            f"points and target must both be [N, V >= 3, 3], got {list(points.shape)}, {list(target.shape)}"
        )
    source, goal = points.double(), target.double()
    source_mean, goal_mean = source.mean(1, keepdim=True), goal.mean(1, keepdim=True)
    source, goal = source - source_mean, goal - goal_mean
    u, singular, vt = torch.linalg.svd(goal.transpose(1, 2) @ source)
    sign = torch.ones_like(singular)
    sign[:, 2] = torch.det(u @ vt).sign()
    rotation = (u * sign[:, None, :]) @ vt
    scale = (singular * sign).sum(1) / source.square().sum((1, 2)).clamp_min(torch.finfo(torch.float64).tiny)
    return (scale[:, None, None] * source @ rotation.transpose(1, 2) + goal_mean).to(points.dtype)


def vertex_error(points: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean distance over corresponding vertices after similarity alignment, [N], in the unit of the input."""
    return (similarity_align(points, target) - target).norm(dim=-1).mean(1)
