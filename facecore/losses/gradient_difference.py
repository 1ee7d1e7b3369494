"""Image gradient difference loss: edges of the render must be as strong as those of the photograph (Mathieu 2015)."""

from __future__ import annotations

import torch

from facecore.losses._masked import batch_mean, pixel_weights


def gradient_difference_loss(
    rendered: torch.Tensor, image: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Returns the sum over the two directions of mean | |I_a - I_b| - |Ih_a - Ih_b| |, a scalar.

    a, b are horizontally, then vertically adjacent pixels; a pair counts with the product of its mask values; the mean
    is over pairs and channels (divided by max(sum of pair weights, 1) times C), per image, then over images.

    Args:
        rendered, image: pictures, float32 or float64 [N, C, H, W].
        mask: weight of each pixel, bool or float in [0, 1], [N, H, W]; None = all 1. A pair with a pixel of weight 0
            never matters, in value or gradient, even where a picture is NaN.

    Differentiable in rendered and image, with slope 0 at the kinks; the mask is a constant. Deterministic on the CPU.
    Raises ValueError for a wrong shape, dtype or device, or a mask that requires a gradient. METHODS 1.11.
    """
    weights = pixel_weights(rendered, image, mask)
    return _one_direction(rendered, image, weights, -1) + _one_direction(rendered, image, weights, -2)


def _one_direction(
    rendered: torch.Tensor, image: torch.Tensor, weights: torch.Tensor | None, axis: int
) -> torch.Tensor:
    """The loss over horizontal (axis -1) or vertical (axis -2) pairs."""
    (rendered_a, rendered_b), (image_a, image_b) = _neighbours(rendered, axis), _neighbours(image, axis)
    rendered_step, image_step = rendered_a - rendered_b, image_a - image_b
    if weights is None:
        pairs = torch.ones_like(rendered_step[:, 0])
    else:
        weight_a, weight_b = _neighbours(weights, axis)
        pairs = weight_a * weight_b
        rendered_step = torch.where(pairs[:, None] > 0, rendered_step, 0.0)
        image_step = torch.where(pairs[:, None] > 0, image_step, 0.0)
    error = (rendered_step.abs() - image_step.abs()).abs().sum(1) / rendered.shape[1]
    return batch_mean((pairs * error).sum((1, 2)) / pairs.sum((1, 2)).clamp_min(1.0))


def _neighbours(values: torch.Tensor, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
    if axis == -1:
        return values[..., :, 1:], values[..., :, :-1]
    return values[..., 1:, :], values[..., :-1, :]
