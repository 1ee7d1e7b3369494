"""Photometric loss: how far the rendered picture is from the photograph."""

from __future__ import annotations

from typing import Literal

import torch

from facecore.losses._masked import batch_mean, pixel_weights

Norm = Literal["l2_squared", "l2", "l1"]
NORMS = ("l2_squared", "l2", "l1")
L2_EPSILON = 1e-6  # inside the square root of "l2", METHODS section 4: its slope is then finite where pictures agree


def photometric_loss(
    rendered: torch.Tensor,
    image: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    norm: Norm = "l2_squared",
    attention: torch.Tensor | None = None,
    reduction: Literal["per_image", "pooled"] = "per_image",
) -> torch.Tensor:
    """Returns the masked mean over pixels of the colour error, a scalar.

    Args:
        rendered, image: pictures, float32 or float64 [N, C, H, W]; colours in [0, 1] by convention, any range allowed.
        mask: weight of each pixel, bool or float in [0, 1], [N, H, W]; None = all 1. Pixels of weight 0 never
            matter, in value or gradient, even where a picture is NaN.
        norm: the error of a pixel, summed over channels, not averaged: "l2_squared" sum of squares; "l2"
            sqrt(1e-6 + sum of squares); "l1" sum of absolute values.
        attention: a second weight [N, H, W] that multiplies the mask, such as skin_attention's.
        reduction: "per_image" divides by each image's sum of weights and averages images; "pooled" divides by the sum
            over the batch. Both divide by max(sum, 1). An empty batch gives 0.

    Differentiable in rendered and image; mask and attention are constants. Deterministic on the CPU.
    Raises ValueError for a wrong shape, dtype, device or option, or a mask that requires a gradient.
    METHODS 1.1, 2.2 (L_recon), 4 (L_photo).
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}")
    if reduction not in ("per_image", "pooled"):
        raise ValueError(f"reduction must be per_image or pooled, got {reduction!r}")
    weights = pixel_weights(rendered, image, mask, attention)
    difference = rendered - image
    if weights is None:
        weights = torch.ones_like(difference[:, 0])
    else:
        difference = torch.where(weights[:, None] > 0, difference, 0.0)
    error = weights * _pixel_error(difference, norm)
    if reduction == "pooled":
        return error.sum() / weights.sum().clamp_min(1.0)
    return batch_mean(error.sum((1, 2)) / weights.sum((1, 2)).clamp_min(1.0))


def _pixel_error(difference: torch.Tensor, norm: str) -> torch.Tensor:
    if norm == "l1":
        return difference.abs().sum(1)
    squared = (difference * difference).sum(1)
    return squared if norm == "l2_squared" else torch.sqrt(squared + L2_EPSILON)
