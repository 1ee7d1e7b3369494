"""Checks and masked means that the picture losses share (METHODS 1.1)."""

from __future__ import annotations

import torch

from facecore.losses import _triton
from facecore.ops._library import FLOATS, check_tensor


def picture_factors(
    rendered: torch.Tensor, image: torch.Tensor, **factors: torch.Tensor | None
) -> list[torch.Tensor | None]:
    """Checks the arguments of a picture loss; returns the factors of its pixels [N, H, W] as its operator takes them.

    That is as they are, but for numbers of another dtype than the pictures', which the C++ kernel does not read. What
    is not positive in a factor, NaN included, is to count as 0 (so does the kernel).
    """
    check_floating_point(rendered=rendered, image=image)
    dtypes = _triton.float_dtypes(rendered) if isinstance(rendered, torch.Tensor) else FLOATS
    sizes = check_tensor("rendered", rendered, ("N", "C", "H", "W"), dtypes)
    check_tensor("image", image, ("N", "C", "H", "W"), dtypes, like=rendered, sizes=sizes)
    if sizes["C"] == 0:
        raise ValueError("rendered must have at least one channel, got 0")
    return [_checked(name, factor, rendered, sizes) for name, factor in factors.items()]


def _checked(
    name: str, factor: torch.Tensor | None, rendered: torch.Tensor, sizes: dict[str, int]
) -> torch.Tensor | None:
    if factor is None:
        return None
    check_tensor(name, factor, ("N", "H", "W"), (torch.bool, *_triton.float_dtypes(rendered)), sizes=sizes)
    _triton.check_device(name, factor, rendered)
    if factor.requires_grad:
        raise ValueError(f"{name} is a constant of the loss and gets no gradient: pass {name}.detach()")
    return factor if factor.dtype == torch.bool or _triton.runs_on(rendered) else factor.to(rendered.dtype)


def check_floating_point(**pictures: torch.Tensor) -> None:
    """Raises ValueError for a picture of integers, as files hold them; what is no tensor is left to check_tensor."""
    for name, picture in pictures.items():
        if isinstance(picture, torch.Tensor) and not picture.is_floating_point():
            raise ValueError(
                f"{name} must be floating point, got {str(picture.dtype).removeprefix('torch.')}: convert it, "
                f"{name}.float() / 255 for bytes"
            )


def product_of(mask: torch.Tensor | None, attention: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """mask * attention; the one that there is as it is. 0 where either is not positive, whatever the other is."""
    if mask is None or attention is None:
        return attention if mask is None else mask
    mask, attention = mask.to(dtype), attention.to(dtype)
    return torch.where((mask > 0) & (attention > 0), mask * attention, 0.0)


def batch_mean(values: torch.Tensor) -> torch.Tensor:
    """The mean over images of per-image losses [N]; 0 for an empty batch."""
    return values.sum() / max(values.shape[0], 1)
