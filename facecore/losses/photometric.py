"""Photometric loss: how far the rendered picture is from the photograph."""

from __future__ import annotations

from typing import Literal

import torch

from facecore.losses.reconstruction import Norm, picture_loss


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
        rendered, image: pictures, float32 or float64 [N, C, H, W]; on CUDA bfloat16 and float16, too, computed and
            returned in float32. Colours in [0, 1] by convention, any range allowed.
        mask: weight of each pixel, bool or float in [0, 1], [N, H, W]; None = all 1. Pixels of weight 0 never
            matter, in value or gradient, even where a picture is NaN.
        norm: the error of a pixel, summed over channels, not averaged: "l2_squared" sum of squares; "l2"
            sqrt(1e-6 + sum of squares); "l1" sum of absolute values.
        attention: a second weight [N, H, W] that multiplies the mask, such as skin_attention's.
        reduction: "per_image" divides by each image's sum of weights and averages images; "pooled" divides by the sum
            over the batch. Both divide by max(sum, 1). An empty batch gives 0.

    Once differentiable in rendered and image; a second derivative is refused; mask and attention are constants.
    Deterministic, and on CUDA without Triton: as reconstruction_loss. Under torch.autocast half precision is taken as
    float32. Raises ValueError for a wrong shape, dtype, device or option, or a mask that requires a gradient. METHODS
    1.1, 2.2 (L_recon), 4 (L_photo).
    """
    if reduction not in ("per_image", "pooled"):
        raise ValueError(f"reduction must be per_image or pooled, got {reduction!r}")
    return picture_loss(rendered, image, mask, attention, norm=norm, pooled=reduction == "pooled")
