"""Affine maps between pictures, in continuous pixels (METHODS 1.2): applied to points, composed, resampled through."""

from __future__ import annotations

import torch
from torch.nn import functional


def apply_affine(matrix: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Affine maps [..., 2, 3] of points [..., P, 2] (a single map [2, 3]: of points of any shape [..., 2])."""
    offset = matrix[..., 2] if matrix.ndim == 2 else matrix[..., None, :, 2]
    return points @ matrix[..., :2].transpose(-1, -2) + offset


def invert_affine(matrix: torch.Tensor) -> torch.Tensor:
    """The inverse of affine maps [..., 2, 3]."""
    linear = torch.linalg.inv(matrix[..., :2])
    return torch.cat((linear, -linear @ matrix[..., 2:]), dim=-1)


def compose_affine(second: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """The affine map [..., 2, 3] that applies `first`, then `second`."""
    linear = second[..., :2] @ first[..., :2]
    return torch.cat((linear, second[..., :2] @ first[..., 2:] + second[..., 2:]), dim=-1)


def warp(
    image: torch.Tensor, matrix: torch.Tensor, height: int, width: int, *, padding_mode: str = "border"
) -> torch.Tensor:
    """Resamples pictures through affine maps: [N, C, H, W] -> [N, C, height, width].

    matrix: [N, 2, 3], source to result in continuous pixels; bilinear, edge pixels go on beyond the border (black with
    padding_mode="zeros"). Meant for scales near 1: it does not filter against aliasing (`FaceCrop.crop` does).
    Differentiable in `image`.
    """
    inverse = invert_affine(matrix.double())
    rows, columns = (torch.arange(n, dtype=torch.float64, device=inverse.device) + 0.5 for n in (height, width))
    v, u = torch.meshgrid(rows, columns, indexing="ij")
    source = apply_affine(inverse, torch.stack((u, v), dim=-1).reshape(1, -1, 2))
    relative = torch.stack((source[..., 0] / image.shape[3], source[..., 1] / image.shape[2]), dim=-1)
    grid = (2 * relative - 1).reshape(-1, height, width, 2).to(image)
    return functional.grid_sample(image, grid, mode="bilinear", padding_mode=padding_mode, align_corners=False)
