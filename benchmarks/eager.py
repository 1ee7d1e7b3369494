"""What people write in plain PyTorch, where it is not the definition and more than one benchmark needs it."""

from __future__ import annotations

import torch


def sample_bilinear(picture: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """picture [N, C, H, W] at points [N, A, B, 2] in [-1, 1], y up, the border continued: [N, C, A, B]."""
    grid = points * points.new_tensor([1.0, -1.0])
    return torch.nn.functional.grid_sample(picture, grid, padding_mode="border", align_corners=False)
