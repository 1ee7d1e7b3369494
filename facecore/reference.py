"""The definition of every operator in plain PyTorch: the oracle of the tests and the baseline of the benchmarks.

Differentiable to any order through autograd, on any device and floating dtype; slow on purpose where clarity asks.
"""

from __future__ import annotations

import torch


def interpolate(
    attributes: torch.Tensor, triangles: torch.Tensor, triangle_id: torch.Tensor, barycentric: torch.Tensor
) -> torch.Tensor:
    """Definition of facecore.ops.interpolate: [N, H, W, C]."""
    n = attributes.shape[0]
    if triangles.shape[0] == 0 or triangle_id.numel() == 0:
        return attributes.new_zeros(*triangle_id.shape, attributes.shape[2])
    corners = triangles.long()[triangle_id.clamp_min(0).long()]  # [N, H, W, 3]
    image = torch.arange(n, device=attributes.device).view(n, 1, 1, 1)
    values = attributes[image, corners]  # [N, H, W, 3, C]
    color = (barycentric.unsqueeze(-1) * values).sum(-2)
    return torch.where((triangle_id >= 0).unsqueeze(-1), color, color.new_zeros(()))
