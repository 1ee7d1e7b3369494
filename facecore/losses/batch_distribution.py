"""Batch distribution loss: predicted codes are spread as the prior says, zero mean and unit variance (METHODS 6)."""

from __future__ import annotations

import torch

from facecore.ops._library import check_tensor, takes_halves_under_autocast


@takes_halves_under_autocast
def batch_distribution_loss(codes: torch.Tensor) -> torch.Tensor:
    """Returns |mean over images|^2 + |variance over images - 1|^2, summed over the K coefficients: a scalar.

    codes: whitened coefficients, float32 or float64 [N, K]; the variance is the biased one. Codes drawn from the prior
    give K (1/N + (2N - 1)/N^2) on average, not 0: log the excess, and use N >= 32. Differentiable (twice, too).
    Deterministic on the CPU. Under torch.autocast half precision is taken as float32. Raises ValueError for a wrong
    shape or dtype, or an empty batch. METHODS 6 (L_batch).
    """
    sizes = check_tensor("codes", codes, ("N", "K"))
    if sizes["N"] == 0:
        raise ValueError("codes must hold at least one image: an empty batch has no mean")
    mean = codes.mean(0)
    variance = (codes - mean).square().mean(0)
    return mean.square().sum() + (variance - 1.0).square().sum()


def expected_batch_distribution_loss(num_coefficients: int, num_images: int) -> float:
    """What the loss is on average for so many coefficients drawn from the prior: K (1/N + (2N - 1)/N^2). METHODS 6.

    Raises ValueError for no image.
    """
    if num_images < 1:
        raise ValueError(f"num_images must be at least 1, got {num_images}")
    return num_coefficients * (1 / num_images + (2 * num_images - 1) / num_images**2)
