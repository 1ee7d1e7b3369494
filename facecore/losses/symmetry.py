"""Symmetry loss: the left and right half of a face have the same albedo, so that side light is not painted into it."""

from __future__ import annotations

import torch

from facecore import ops
from facecore.losses._masked import batch_mean
from facecore.ops._library import check_tensor
from facecore.structures import SparseMatrix


def symmetry_loss(albedo: torch.Tensor, mirror_map: torch.Tensor | SparseMatrix) -> torch.Tensor:
    """Returns mean |albedo - flip(albedo)| over images, vertices and channels: a scalar.

    Args:
        albedo: per vertex, float32 or float64 [N, V, C].
        mirror_map: the vertex opposite to each, int64 [V]; or the rows of barycentric weights of the opposite points,
            a SparseMatrix [V, V], for a mesh that is not symmetric.

    Differentiable in albedo. Deterministic on the CPU. Raises ValueError for a wrong shape or dtype. METHODS 1.9, 2.2.
    """
    sizes = check_tensor("albedo", albedo, ("N", "V", "C"))
    if isinstance(mirror_map, SparseMatrix):
        if tuple(mirror_map.shape) != (sizes["V"], sizes["V"]):
            raise ValueError(f"mirror_map must have shape [{sizes['V']}, {sizes['V']}], got {list(mirror_map.shape)}")
        flipped = ops.sparse_matmul(mirror_map, albedo)
    else:
        check_tensor("mirror_map", mirror_map, ("V",), (torch.int64,), like=albedo, sizes=sizes)
        flipped = albedo.index_select(1, mirror_map)
    return (albedo - flipped).abs().sum() / max(albedo.numel(), 1)


def texture_symmetry_loss(texture: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    """Returns mean |A - A mirrored left to right| over valid texels and channels, per image, then averaged: a scalar.

    Args:
        texture: over the symmetric UV layout, float32 or float64 [N, C, Hu, Wu].
        valid: which texels belong to the face, bool [N, Hu, Wu] or [Hu, Wu]; a texel counts if it and its mirror image
            are valid, others never matter even where NaN. None = all.

    Differentiable in texture. Deterministic on the CPU. Raises ValueError for a wrong shape or dtype. METHODS 1.9.
    """
    sizes = check_tensor("texture", texture, ("N", "C", "Hu", "Wu"))
    difference = texture - texture.flip(3)
    if valid is None:
        return difference.abs().sum() / max(texture.numel(), 1)
    if isinstance(valid, torch.Tensor) and valid.dim() == 2:
        valid = valid.expand(sizes["N"], -1, -1)
    check_tensor("valid", valid, ("N", "Hu", "Wu"), (torch.bool,), like=texture, sizes=sizes)
    both = valid & valid.flip(2)
    error = torch.where(both[:, None], difference, 0.0).abs().sum((1, 2, 3)) / max(sizes["C"], 1)
    return batch_mean(error / both.sum((1, 2)).clamp_min(1))
