"""Reconstruction loss: the photometric and the gradient difference loss together."""

from __future__ import annotations

import torch

from facecore.losses.gradient_difference import gradient_difference_loss
from facecore.losses.photometric import Norm, photometric_loss


def reconstruction_loss(
    rendered: torch.Tensor,
    image: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    norm: Norm = "l2_squared",
    gradient_weight: float = 1.0,
) -> torch.Tensor:
    """Returns photometric_loss + gradient_weight * gradient_difference_loss, both per image: a scalar.

    Args:
        rendered, image: pictures, float32 or float64 [N, C, H, W].
        mask: weight of each pixel, bool or float in [0, 1], [N, H, W]; None = all 1.
        norm: of the photometric part, see photometric_loss.
        gradient_weight: w_g of METHODS 2.2.

    Differentiable in rendered and image. Deterministic on the CPU. Raises ValueError like its two parts.
    """
    photometric = photometric_loss(rendered, image, mask, norm=norm)
    return photometric + gradient_weight * gradient_difference_loss(rendered, image, mask)
