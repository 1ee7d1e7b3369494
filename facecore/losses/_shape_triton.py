"""The shape loss as Triton kernels (METHODS 2.2, 3): same arguments and meaning as csrc/losses/shape.h.

The value is made in two stages without atomics: every program writes the sum of its block, and one program adds those
in a fixed order, in float64. The gradient of both shapes is one pass over them.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from facecore.losses._triton import Launch, block_count, block_size, packed_images, sum_dtype
from facecore.losses._triton_blocks import DTYPES, block_place, times_sign, total_launch


@triton.jit
def _differences(predicted, target, weight, i, here, DTYPE: tl.constexpr):
    """weight (predicted - target) at the places i, and the weight; without weights 1."""
    difference = tl.load(predicted + i, mask=here, other=0).to(DTYPE)
    difference -= tl.load(target + i, mask=here, other=0).to(DTYPE)
    factor = tl.full(i.shape, 1.0, DTYPE)
    if weight is not None:
        factor = tl.load(weight + i, mask=here, other=0)
    return difference * factor, factor


@triton.jit
def _sums_of_blocks(
    predicted,
    target,
    weight,
    parts,
    size,
    predicted_n,
    target_n,
    SQUARED: tl.constexpr,
    BLOCK: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """Writes the sum of one block of an image to parts [images, blocks]; one program per block."""
    program = tl.program_id(0)
    n, i = block_place(program, size, BLOCK)
    difference, _ = _differences(predicted + n * predicted_n, target + n * target_n, weight, i, i < size, DTYPE)
    tl.store(parts + program, tl.sum(difference * difference if SQUARED else tl.abs(difference)))


@triton.jit
def _gradient_of_blocks(
    grad,
    predicted,
    target,
    weight,
    grad_predicted,
    grad_target,
    size,
    predicted_n,
    target_n,
    scale: tl.float64,
    SQUARED: tl.constexpr,
    BLOCK: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """Writes the gradients [N, size], contiguous, of one block; a None one is left out; one program per block."""
    n, i = block_place(tl.program_id(0), size, BLOCK)
    here = i < size
    difference, factor = _differences(predicted + n * predicted_n, target + n * target_n, weight, i, here, DTYPE)
    factor = factor * (tl.load(grad).to(tl.float64) * scale).to(DTYPE)
    slope = 2 * factor * difference if SQUARED else times_sign(factor, difference)
    if grad_predicted is not None:
        tl.store(grad_predicted + n * size + i, slope, mask=here)
    if grad_target is not None:
        tl.store(grad_target + n * size + i, -slope, mask=here)


def value_launches(
    predicted: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None,
    options: tuple[bool, float],
    value: torch.Tensor,
) -> list[Launch]:
    """The kernels that write value []; options as in the operator's schema."""
    arguments, programs = _blocks(predicted, target, weight, options[0])
    parts = torch.empty(programs, dtype=value.dtype, device=value.device)
    return [Launch(_sums_of_blocks, programs, {**arguments, "parts": parts}), total_launch(parts, value, options[1])]


def gradient_launches(
    grad: torch.Tensor,
    predicted: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None,
    options: tuple[bool, float],
    wanted: tuple[torch.Tensor | None, torch.Tensor | None],
) -> list[Launch]:
    """The kernel that reads grad [] and writes the wanted gradients, contiguous and in the dtype of the shapes."""
    arguments, programs = _blocks(predicted, target, weight, options[0])
    more = {"grad": grad, "scale": options[1], "grad_predicted": wanted[0], "grad_target": wanted[1]}
    return [Launch(_gradient_of_blocks, programs, {**arguments, **more})]


def _blocks(
    predicted: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None, squared: bool
) -> tuple[dict[str, Any], int]:
    """What both kernels take, and the number of their programs. A template that is expanded is read as it lies."""
    predicted, target = packed_images(predicted), packed_images(target)
    size = predicted.shape[1] * predicted.shape[2]
    block = block_size(size)
    arguments = {
        "predicted": predicted,
        "target": target,
        "weight": None if weight is None else weight.contiguous(),
        "size": size,
        "predicted_n": predicted.stride(0),
        "target_n": target.stride(0),
        "SQUARED": squared,
        "BLOCK": block,
        "DTYPE": DTYPES[sum_dtype(predicted.dtype)],
    }
    return arguments, predicted.shape[0] * block_count(size, block)
