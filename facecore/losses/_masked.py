"""Checks and masked means that the picture losses share (METHODS 1.1)."""

from __future__ import annotations

import torch

from facecore.losses import _triton
from facecore.ops._library import FLOATS, check_tensor


def pixel_weights(
    rendered: torch.Tensor, image: torch.Tensor, mask: torch.Tensor | None, attention: torch.Tensor | None = None
) -> torch.Tensor | None:
    """Checks the arguments of a picture loss; returns mask * attention [N, H, W].

    On the CPU it has the dtype of the pictures; where Triton kernels run, one that stands alone comes back as it is.

    None when every pixel counts 1. What is not positive there, NaN included, is to count as 0 (so does the kernel): of
    two factors the product is 0 where either is not positive.
    """
    if isinstance(rendered, torch.Tensor) and isinstance(image, torch.Tensor):
        for name, picture in (("rendered", rendered), ("image", image)):
            if not picture.is_floating_point():
                raise ValueError(
                    f"{name} must be floating point, got {str(picture.dtype).removeprefix('torch.')}: convert it, "
                    f"{name}.float() / 255 for bytes"
                )
    dtypes = _triton.float_dtypes(rendered) if isinstance(rendered, torch.Tensor) else FLOATS
    sizes = check_tensor("rendered", rendered, ("N", "C", "H", "W"), dtypes)
    check_tensor("image", image, ("N", "C", "H", "W"), dtypes, like=rendered, sizes=sizes)
    if sizes["C"] == 0:
        raise ValueError("rendered must have at least one channel, got 0")
    factors: list[torch.Tensor] = []
    for name, factor in (("mask", mask), ("attention", attention)):
        if factor is None:
            continue
        check_tensor(name, factor, ("N", "H", "W"), (torch.bool, *dtypes), sizes=sizes)
        if factor.device != rendered.device:
            raise ValueError(f"{name} must be on {rendered.device} like rendered, got {factor.device}")
        if factor.requires_grad:
            raise ValueError(f"{name} is a constant of the loss and gets no gradient: pass {name}.detach()")
        factors.append(factor)
    if len(factors) == 1 and _triton.runs_on(rendered):
        return factors[0]
    factors = [factor.to(_triton.sum_dtype(rendered.dtype)) for factor in factors]
    if len(factors) == 2:
        return torch.where((factors[0] > 0) & (factors[1] > 0), factors[0] * factors[1], 0.0)
    return factors[0] if factors else None


def batch_mean(values: torch.Tensor) -> torch.Tensor:
    """The mean over images of per-image losses [N]; 0 for an empty batch."""
    return values.sum() / max(values.shape[0], 1)
