"""Skin probability of a pixel's colour: two Gaussian mixtures in YCbCr (METHODS 1.10)."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch

from facecore import reference_losses
from facecore.losses._skin_model import OTHER_MIXTURE, SKIN_MIXTURE, SKIN_PRIOR, gaussians
from facecore.ops._library import FLOATS, call, check_tensor, make_op

__all__ = ["OTHER_MIXTURE", "SKIN_MIXTURE", "skin_attention", "skin_mask", "skin_probability"]


def skin_probability(image: torch.Tensor) -> torch.Tensor:
    """Returns the probability that each pixel shows skin, [N, H, W], from its colour alone.

    image: RGB in [0, 1], float32 or float64 [N, 3, H, W]. Once differentiable; a second derivative is refused on the
    CPU. Deterministic. In float32 the probability is exact to about 2e-4, because exponents are of order 100. Raises
    ValueError for a wrong shape or dtype.
    """
    if isinstance(image, torch.Tensor) and not image.is_floating_point():
        dtype = str(image.dtype).removeprefix("torch.")
        raise ValueError(f"image must have dtype float32 or float64, got {dtype}: convert bytes by image.float() / 255")
    check_tensor("image", image, ("N", 3, "H", "W"))
    if image.is_cuda:  # the kernel is the host's
        return reference_losses.skin_probability(image)
    return _skin_probability(image, _numbers(image.dtype))


def skin_attention(image: torch.Tensor, threshold: float = 0.5) -> torch.Tensor:
    """Returns the attention A [N, H, W] of photometric_loss: 1 where the skin probability exceeds `threshold`, else it.

    image: RGB in [0, 1], [N, 3, H, W]. A constant, without gradient. METHODS 1.10.
    """
    probability = skin_probability(image.detach())
    return torch.where(probability > threshold, 1.0, probability)


def skin_mask(image: torch.Tensor, threshold: float = 0.5) -> torch.Tensor:
    """Returns where the skin probability exceeds `threshold`, bool [N, H, W]; image: RGB in [0, 1], [N, 3, H, W]."""
    return skin_probability(image.detach()) > threshold


@functools.lru_cache(maxsize=2)
@torch.inference_mode(False)  # kept for later calls, so it must not become an inference tensor
def _numbers(dtype: torch.dtype) -> torch.Tensor:
    """What csrc/simd/skin_pixels.h takes, [8, 13]: A by rows, b, the log of the weight (the prior in skin's)."""
    linear, offset, log_weight = gaussians(torch.device("cpu"), torch.float64)
    prior = torch.tensor([math.log(SKIN_PRIOR / (1.0 - SKIN_PRIOR)), 0.0], dtype=torch.float64).repeat_interleave(4)
    return torch.cat([linear.reshape(8, 9), offset.reshape(8, 3), (log_weight + prior)[:, None]], 1).to(dtype)


def _check(image: torch.Tensor, numbers: torch.Tensor) -> dict[str, int]:
    sizes = check_tensor("image", image, ("N", 3, "H", "W"))
    check_tensor("gaussians", numbers, (8, 13), FLOATS, like=image)
    return sizes


def _fake(image: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    n, h, w = _check(image, numbers).values()
    return image.new_empty(n, h, w)


def _kernel(image: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    out = _fake(image, numbers)
    call("skin_probability", image, (out.shape[0], out[0].numel() if len(out) else 0), (numbers, image), (out,))
    return out


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
    return _skin_probability_backward(grad, *ctx.saved_tensors), None


def _backward_fake(grad: torch.Tensor, image: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    check_tensor("grad", grad, ("N", "H", "W"), FLOATS, like=image, sizes=_check(image, numbers))
    return image.new_empty(image.shape)


def _backward_kernel(grad: torch.Tensor, image: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    out = _backward_fake(grad, image, numbers)
    sizes = (len(image), image.shape[2] * image.shape[3])
    call("skin_probability_backward", image, sizes, (grad, numbers, image), (out,))
    return out


_skin_probability_backward = make_op(
    "skin_probability_backward",
    "(Tensor grad, Tensor image, Tensor gaussians) -> Tensor",
    _backward_kernel,
    _backward_fake,
    devices=("CPU",),
)
_skin_probability = make_op(
    "skin_probability",
    "(Tensor image, Tensor gaussians) -> Tensor",
    _kernel,
    _fake,
    setup=_setup,
    backward=_backward,
    devices=("CPU",),
)
