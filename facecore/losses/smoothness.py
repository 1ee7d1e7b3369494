"""Smoothness loss: the displacement of a vertex should be near the mean of its neighbours'."""

from __future__ import annotations

import torch

from facecore import ops
from facecore.ops._library import check_tensor
from facecore.structures import SparseMatrix


def smoothness_loss(
    displacement: torch.Tensor, random_walk_laplacian: SparseMatrix, *, scale: float = 1.0
) -> torch.Tensor:
    """Returns mean |L displacement| / scale over images, vertices and coordinates: a scalar.

    Args:
        displacement: float32 or float64 [N, V, 3]. Pass (shape - template) for the template-difference form, which
            leaves the template's own rims alone; pass the shape itself for the conventional form.
        random_walk_laplacian: L = I - D^-1 A, [V, V]: mesh.laplacian(mesh, kind="random_walk").
        scale: divides the result, such as the model's standard deviation in the units of displacement.

    Differentiable in displacement. Deterministic. Raises ValueError for a wrong shape or dtype, or a scale that is not
    positive. METHODS 2.2 (L_smth).
    """
    sizes = check_tensor("displacement", displacement, ("N", "V", 3))
    if tuple(random_walk_laplacian.shape) != (sizes["V"], sizes["V"]):
        expected = f"[{sizes['V']}, {sizes['V']}]"
        raise ValueError(f"random_walk_laplacian must have shape {expected}, got {list(random_walk_laplacian.shape)}")
    if not scale > 0:
        raise ValueError(f"scale must be positive, got {scale}")
    return ops.sparse_matmul(random_walk_laplacian, displacement).abs().sum() / (max(displacement.numel(), 1) * scale)
