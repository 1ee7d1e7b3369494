"""Image gradient difference loss: edges of the render must be as strong as those of the photograph (Mathieu 2015)."""

from __future__ import annotations

import torch

from facecore.losses.reconstruction import picture_loss


def gradient_difference_loss(
    rendered: torch.Tensor, image: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Returns the sum over the two directions of mean | |I_a - I_b| - |Ih_a - Ih_b| |, a scalar.

    a, b are horizontally, then vertically adjacent pixels; a pair counts with the product of its mask values; the mean
    is over pairs and channels (divided by max(sum of pair weights, 1) times C), per image, then over images.

    Args:
        rendered, image: pictures, float32 or float64 [N, C, H, W]; on CUDA bfloat16 and float16, too, computed and
            returned in float32.
        mask: weight of each pixel, bool or float in [0, 1], [N, H, W]; None = all 1. A pair with a pixel of weight 0
            never matters, in value or gradient, even where a picture is NaN.

    Once differentiable in rendered and image, with slope 0 at the kinks; a second derivative is refused; the mask is a
    constant. Deterministic, and on CUDA without Triton: as reconstruction_loss. Under torch.autocast half precision is
    taken as float32. Raises ValueError for a wrong shape, dtype or device, or a mask that requires a gradient. METHODS
    1.11.
    """
    return picture_loss(rendered, image, mask, error_weight=0.0, steps_weight=1.0)
