"""The symmetry losses of a list of vertices and of textures as Triton kernels (METHODS 1.9, 2.2).

Same arguments and meaning as csrc/losses/symmetry.h; a barycentric map is a matter of _smoothness_triton.py. The values
are made in two stages without atomics. The gradient of a list that is its own inverse is gathered; that of another is
a sum of signs, added as integers, so it has the same bits in whatever order they come.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from facecore.losses._triton import Launch, block_count, block_size, packed_images, sum_dtype
from facecore.losses._triton_blocks import DTYPES, FINISH_NUMBERS, block_place, sign_of, total_launch


@triton.jit
def _difference(values, opposite, i, here, vertices, CHANNELS: tl.constexpr, DTYPE: tl.constexpr):
    """a - flip(a) at the places i of an image, and where its other number lies.

    NaN, and no place (-1), for a vertex that there is not: a loss that is wrong must show, and no memory be touched.
    """
    v = tl.load(opposite + i // CHANNELS, mask=here, other=0)
    exists = here & (v >= 0) & (v < vertices)
    there = tl.where(exists, v * CHANNELS + i % CHANNELS, -1)
    a = tl.load(values + i, mask=here, other=0).to(DTYPE)
    b = tl.load(values + there, mask=exists, other=0).to(DTYPE)
    return tl.where(here & (there < 0), float("nan"), a - b), there


@triton.jit
def _sums_of_vertices(
    values,
    opposite,
    parts,
    vertices,
    values_n,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """Writes the sum of one block of an image to parts [images, blocks]; one program per block."""
    program = tl.program_id(0)
    n, i = block_place(program, vertices * CHANNELS, BLOCK)
    here = i < vertices * CHANNELS
    difference, _ = _difference(values + n * values_n, opposite, i, here, vertices, CHANNELS, DTYPE)
    tl.store(parts + program, tl.sum(tl.abs(difference)))


@triton.jit
def _find_strays(opposite, strays, vertices, BLOCK: tl.constexpr):
    """Writes to strays [blocks] how many vertices of a block are not the mirror of their mirror."""
    program = tl.program_id(0)
    v = program * BLOCK + tl.arange(0, BLOCK)
    there = tl.load(opposite + v, mask=v < vertices, other=0)
    exists = (v < vertices) & (there >= 0) & (there < vertices)
    back = tl.load(opposite + there, mask=exists, other=-1)
    tl.store(strays + program, tl.sum(tl.where((v < vertices) & (back != v), 1, 0)))


@triton.jit
def _any_stray(strays, count, BLOCK: tl.constexpr):
    found = tl.zeros([BLOCK], tl.int32)
    for start in range(0, count, BLOCK):
        i = start + tl.arange(0, BLOCK)
        found += tl.load(strays + i, mask=i < count, other=0)
    return tl.sum(found) > 0


@triton.jit
def _gradient_of_vertices(
    grad,
    values,
    opposite,
    strays,
    grad_values,
    signs,
    vertices,
    stray_blocks,
    values_n,
    scale: tl.float64,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
    STRAY_BLOCK: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """Writes the gradient of one block; with strays in its place, as integers, the signs of a - flip(a) themselves."""
    size = vertices * CHANNELS
    n, i = block_place(tl.program_id(0), size, BLOCK)
    here = i < size
    difference, _ = _difference(values + n * values_n, opposite, i, here, vertices, CHANNELS, DTYPE)
    if _any_stray(strays, stray_blocks, STRAY_BLOCK):
        tl.store(signs + n * size + i, sign_of(difference, tl.int32), mask=here)
    else:  # both terms with this number have the same slope
        slope = 2 * (tl.load(grad).to(tl.float64) * scale).to(DTYPE)
        tl.store(grad_values + n * size + i, slope * sign_of(difference, DTYPE), mask=here)


@triton.jit
def _add_partners(
    values,
    opposite,
    strays,
    signs,
    vertices,
    stray_blocks,
    values_n,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
    STRAY_BLOCK: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """With strays: adds the slopes of a - flip(a) by flip(a) to the signs. Integers: their sum knows no order."""
    if _any_stray(strays, stray_blocks, STRAY_BLOCK):
        size = vertices * CHANNELS
        n, i = block_place(tl.program_id(0), size, BLOCK)
        difference, there = _difference(values + n * values_n, opposite, i, i < size, vertices, CHANNELS, DTYPE)
        tl.atomic_add(signs + n * size + there, -sign_of(difference, tl.int32), mask=(i < size) & (there >= 0))


@triton.jit
def _scale_signs(
    grad,
    strays,
    signs,
    grad_values,
    numbers,
    stray_blocks,
    scale: tl.float64,
    BLOCK: tl.constexpr,
    STRAY_BLOCK: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """With strays: turns the signs into the gradient, which may lie in the same memory."""
    if _any_stray(strays, stray_blocks, STRAY_BLOCK):
        i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        slope = (tl.load(grad).to(tl.float64) * scale).to(DTYPE)
        tl.store(grad_values + i, tl.load(signs + i, mask=i < numbers, other=0).to(DTYPE) * slope, mask=i < numbers)


def value_launches(values: torch.Tensor, opposite: torch.Tensor, scale: float, value: torch.Tensor) -> list[Launch]:
    """The kernels that write value []; opposite int64 [V]."""
    arguments, programs = _blocks(values, opposite)
    parts = torch.empty(programs, dtype=value.dtype, device=value.device)
    return [Launch(_sums_of_vertices, programs, {**arguments, "parts": parts}), total_launch(parts, value, scale)]


def gradient_launches(
    grad: torch.Tensor, values: torch.Tensor, opposite: torch.Tensor, scale: float, grad_values: torch.Tensor
) -> list[Launch]:
    """The kernels that read grad [] and write grad_values, contiguous.

    Whether the list is its own inverse is found on the device, at every call, and not waited for: the last two kernels
    then leave at once.
    """
    arguments, programs = _blocks(values, opposite)
    vertices = values.shape[1]
    stray_block = block_size(vertices)
    strays = torch.empty(block_count(vertices, stray_block), dtype=torch.int32, device=values.device)
    of_strays = {
        "strays": strays,
        "stray_blocks": strays.numel(),
        "STRAY_BLOCK": block_size(strays.numel(), FINISH_NUMBERS),
        "signs": _signs_in(grad_values),
    }
    of_gradient = {"grad": grad, "scale": scale, "grad_values": grad_values}
    find = {"opposite": arguments["opposite"], "strays": strays, "vertices": vertices, "BLOCK": stray_block}
    block, numbers = block_size(values.numel()), values.numel()
    scaling = {"numbers": numbers, "BLOCK": block, "DTYPE": arguments["DTYPE"]}
    return [
        Launch(_find_strays, strays.numel(), find),
        Launch(_gradient_of_vertices, programs, {**arguments, **of_strays, **of_gradient}),
        Launch(_add_partners, programs, {**arguments, **of_strays}),
        Launch(_scale_signs, block_count(numbers, block), {**of_strays, **of_gradient, **scaling}),
    ]


def _signs_in(grad_values: torch.Tensor) -> torch.Tensor:
    """Memory for as many integers: the gradient's own, unless its numbers are too small."""
    integers = {4: torch.int32, 8: torch.int64}.get(grad_values.element_size())
    return torch.empty_like(grad_values, dtype=torch.int32) if integers is None else grad_values.view(integers)


def _blocks(values: torch.Tensor, opposite: torch.Tensor) -> tuple[dict[str, Any], int]:
    """What the kernels of values take, and the number of their programs."""
    values = packed_images(values)
    images, vertices, channels = values.shape
    block = block_size(vertices * channels)
    arguments = {
        "values": values,
        "opposite": opposite.contiguous(),
        "vertices": vertices,
        "values_n": values.stride(0),
        "CHANNELS": channels,
        "BLOCK": block,
        "DTYPE": DTYPES[sum_dtype(values.dtype)],
    }
    return arguments, images * block_count(vertices * channels, block)
