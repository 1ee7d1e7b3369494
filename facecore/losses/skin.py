"""Skin probability of a pixel's colour: two Gaussian mixtures in YCbCr (METHODS 1.10)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from facecore import reference_losses
from facecore.losses import _triton
from facecore.losses._constants import tensor_table
from facecore.losses._masked import check_floating_point
from facecore.losses._skin_model import LINEAR, LOG_WEIGHT, OFFSET, OTHER_MIXTURE, SKIN_MIXTURE, SKIN_PRIOR
from facecore.ops._library import call, check_tensor, check_tensors, make_op, takes_halves_under_autocast

__all__ = ["OTHER_MIXTURE", "SKIN_MIXTURE", "skin_attention", "skin_mask", "skin_probability"]


@takes_halves_under_autocast
def skin_probability(image: torch.Tensor) -> torch.Tensor:
    """Returns the probability that each pixel shows skin, [N, H, W], from its colour alone.

    image: RGB in [0, 1], float32 or float64 [N, 3, H, W]; on CUDA bfloat16 and float16, too, computed and returned in
    float32. Once differentiable; a second derivative is refused. Deterministic. In float32 the probability is exact to
    about 2e-4, because exponents are of order 100. The CUDA kernels need Triton, as reconstruction_loss says. Under
    torch.autocast half precision is taken as float32. Raises ValueError for a wrong shape or dtype.
    """
    check_floating_point(image=image)
    check_tensor("image", image, ("N", 3, "H", "W"), _triton.float_dtypes(image))
    dtype = _triton.sum_dtype(image.dtype)
    if _triton.missing_for(image):
        return reference_losses.skin_probability(image.to(dtype))
    return _skin_probability(image, _numbers(image.device, dtype))


def skin_attention(image: torch.Tensor, threshold: float = 0.5) -> torch.Tensor:
    """Returns the attention A [N, H, W] of photometric_loss: 1 where the skin probability exceeds `threshold`, else it.

    image: RGB in [0, 1], as for skin_probability. A constant: differentiable in nothing. Deterministic. Raises
    ValueError for a wrong shape or dtype. METHODS 1.10.
    """
    check_tensors(image=image)
    probability = skin_probability(image.detach())
    return torch.where(probability > threshold, 1.0, probability)


def skin_mask(image: torch.Tensor, threshold: float = 0.5) -> torch.Tensor:
    """Returns where the skin probability exceeds `threshold`, bool [N, H, W].

    image: RGB in [0, 1], as for skin_probability. Differentiable in nothing. Deterministic. Raises ValueError for a
    wrong shape or dtype. METHODS 1.10.
    """
    check_tensors(image=image)
    return skin_probability(image.detach()) > threshold


def _number_table() -> np.ndarray:
    """What csrc/simd/skin_pixels.h takes, [8, 13]: A by rows, b, the log of the weight (the prior in skin's)."""
    prior = np.repeat([math.log(SKIN_PRIOR / (1.0 - SKIN_PRIOR)), 0.0], 4)
    return np.concatenate([LINEAR.reshape(8, 9), OFFSET, (LOG_WEIGHT + prior)[:, None]], 1)


_numbers = tensor_table(_number_table())


def _check(image: torch.Tensor, numbers: torch.Tensor) -> dict[str, int]:
    sizes = check_tensor("image", image, ("N", 3, "H", "W"), _triton.float_dtypes(image))
    _triton.check_constant("gaussians", numbers, (8, 13), image)
    return sizes


def _fake(image: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    n, h, w = _check(image, numbers).values()
    return image.new_empty((n, h, w), dtype=_triton.sum_dtype(image.dtype))


def _kernel(image: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    out = _fake(image, numbers)
    if _triton.runs_on(image):
        from facecore.losses import _skin_triton as kernels

        _triton.run_all(kernels.value_launches(image, numbers, out), image.device)
    else:
        call("skin_probability", image, (out.shape[0], out[0].numel() if len(out) else 0), (numbers, image), (out,))
    return out


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
    return _skin_probability_backward(grad, *ctx.saved_tensors), None


def _backward_fake(grad: torch.Tensor, image: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    _triton.check_constant("grad", grad, ("N", "H", "W"), image, _check(image, numbers))
    return image.new_empty(image.shape)


def _backward_kernel(grad: torch.Tensor, image: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    out = _backward_fake(grad, image, numbers)
    if _triton.runs_on(image):
        from facecore.losses import _skin_triton as kernels

        _triton.run_all(kernels.gradient_launches(grad, image, numbers, out), image.device)
    else:
        sizes = (len(image), image.shape[2] * image.shape[3])
        call("skin_probability_backward", image, sizes, (grad, numbers, image), (out,))
    return out


_skin_probability_backward = make_op(
    "skin_probability_backward",
    "(Tensor grad, Tensor image, Tensor gaussians) -> Tensor",
    _backward_kernel,
    _backward_fake,
)
_skin_probability = make_op(
    "skin_probability",
    "(Tensor image, Tensor gaussians) -> Tensor",
    _kernel,
    _fake,
    setup=_setup,
    backward=_backward,
)
