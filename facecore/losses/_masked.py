"""Checks and masked means that the picture losses share (METHODS 1.1)."""

from __future__ import annotations

import torch

from facecore.ops._library import check_tensor


def pixel_weights(
    rendered: torch.Tensor, image: torch.Tensor, mask: torch.Tensor | None, attention: torch.Tensor | None = None
) -> torch.Tensor | None:
    """Checks the arguments of a picture loss; returns mask * attention [N, H, W], 0 where either is not positive.

    None when every pixel counts 1. A NaN in the mask counts as 0, so what it covers changes nothing.
    """
    sizes = check_tensor("rendered", rendered, ("N", "C", "H", "W"))
    check_tensor("image", image, ("N", "C", "H", "W"), like=rendered, sizes=sizes)
    if sizes["C"] == 0:
        raise ValueError("rendered must have at least one channel, got 0")
    weights = None
    for name, factor in (("mask", mask), ("attention", attention)):
        if factor is None:
            continue
        check_tensor(name, factor, ("N", "H", "W"), (torch.bool, torch.float32, torch.float64), sizes=sizes)
        if factor.device != rendered.device:
            raise ValueError(f"{name} must be on {rendered.device} like rendered, got {factor.device}")
        if factor.requires_grad:
            raise ValueError(f"{name} is a constant of the loss and gets no gradient: pass {name}.detach()")
        positive = torch.where(factor > 0, factor.to(rendered.dtype), 0.0)
        weights = positive if weights is None else weights * positive
    return weights


def batch_mean(values: torch.Tensor) -> torch.Tensor:
    """The mean over images of per-image losses [N]; 0 for an empty batch."""
    return values.sum() / max(values.shape[0], 1)
