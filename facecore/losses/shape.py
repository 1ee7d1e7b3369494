"""Shape loss: predicted vertices against known ones (labelled data and pairs, METHODS 2.2)."""

from __future__ import annotations

import torch

from facecore.ops._library import check_tensor


def shape_loss(predicted: torch.Tensor, target: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """Returns mean |predicted - target| / scale over images, vertices and coordinates: a scalar.

    Args:
        predicted, target: vertices, float32 or float64 [N, V, 3], same units.
        scale: the model's standard deviation sigma_s in those units.

    Differentiable in predicted and target. Deterministic on the CPU. Raises ValueError for a wrong shape, dtype or
    device, or a scale that is not positive. METHODS 2.2 (L_shp, L_pair).
    """
    sizes = check_tensor("predicted", predicted, ("N", "V", 3))
    check_tensor("target", target, ("N", "V", 3), like=predicted, sizes=sizes)
    if not scale > 0:
        raise ValueError(f"scale must be positive, got {scale}")
    return (predicted - target).abs().sum() / (max(predicted.numel(), 1) * scale)
