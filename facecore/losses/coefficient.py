"""Coefficient regulariser: how unusual coefficients are under the morphable model's prior."""

from __future__ import annotations

from typing import Literal

import torch

from facecore.losses._masked import batch_mean
from facecore.ops._library import check_tensor, takes_halves_under_autocast


@takes_halves_under_autocast
def coefficient_loss(
    coefficients: torch.Tensor,
    mean: torch.Tensor | None = None,
    std: torch.Tensor | None = None,
    *,
    reduction: Literal["sum", "mean"] = "sum",
) -> torch.Tensor:
    """Returns ((c - mean) / std)^2, summed or averaged over the K coefficients, averaged over images: a scalar.

    Args:
        coefficients: float32 or float64 [N, K].
        mean, std: of the prior, [K]; None = 0 and 1, right for whitened coefficients.
        reduction: over K: "sum" (METHODS 4, L_coef) or "mean" (METHODS 5, L_rg).

    Differentiable in coefficients, mean, std. Deterministic on the CPU. Under torch.autocast half precision is taken as
    float32. Raises ValueError for a wrong shape, dtype, device or reduction. METHODS 1.4.
    """
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction must be sum or mean, got {reduction!r}")
    sizes = check_tensor("coefficients", coefficients, ("N", "K"))
    deviation = coefficients
    if mean is not None:
        check_tensor("mean", mean, ("K",), like=coefficients, sizes=sizes)
        deviation = deviation - mean
    if std is not None:
        check_tensor("std", std, ("K",), like=coefficients, sizes=sizes)
        deviation = deviation / std
    total = batch_mean((deviation * deviation).sum(1))
    return total if reduction == "sum" else total / max(sizes["K"], 1)
