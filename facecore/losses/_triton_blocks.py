"""What the losses' Triton kernels share: weights, slopes, the place of a tile or block, sums in a fixed order."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from facecore.losses._triton import Launch, power_of_two

DTYPES = {torch.float32: tl.float32, torch.float64: tl.float64}  # of sums, by sum_dtype
FINISH_NUMBERS = 1024  # that a program which adds parts reads at once


@triton.jit
def times_sign(a, b):
    """a sign(b), 0 at a kink and where b is NaN."""
    return tl.where(b > 0, a, tl.where(b < 0, -a, 0.0))


@triton.jit
def sign_of(a, DTYPE: tl.constexpr):
    """1, 0 or -1; 0 for NaN."""
    return tl.where(a > 0, 1, tl.where(a < 0, -1, 0)).to(DTYPE)


@triton.jit
def block_place(program, size, BLOCK: tl.constexpr):
    """The image of a program, int64, and the places [BLOCK] of its block among the image's numbers, 0 to size - 1.

    The blocks of an image are counted one after the other, then those of the next.
    """
    blocks = tl.cdiv(size, BLOCK)
    return (program // blocks).to(tl.int64), program % blocks * BLOCK + tl.arange(0, BLOCK)


@triton.jit
def tile_place(program, height, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The image of a program and the rows [ROWS, 1] and columns [1, COLUMNS] of its tile.

    The tiles of an image are counted row by row, then those of the next. All three are int64, since they are multiplied
    with strides.
    """
    across = tl.cdiv(width, COLUMNS)
    tiles = across * tl.cdiv(height, ROWS)
    tile = program % tiles
    y = tile // across * ROWS + tl.arange(0, ROWS)[:, None]
    x = tile % across * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    return (program // tiles).to(tl.int64), y.to(tl.int64), x.to(tl.int64)


@triton.jit
def load_weights(plane, offset, mask, DTYPE: tl.constexpr):
    """Weights at the offsets of a plane, or 1 where plane is None; 0 outside the mask.

    What is not positive, NaN included, counts 0.
    """
    if plane is None:
        weight = tl.where(mask, 1.0, 0.0).to(DTYPE)
    else:
        weight = tl.load(plane + offset, mask=mask, other=0).to(DTYPE)
        weight = tl.where(weight > 0, weight, 0.0)
    return weight


@triton.jit
def total_of_parts(parts, n, images, count, BLOCK: tl.constexpr):
    """Sums over the parts [images, count] of each image n [IMAGES, 1], in float64 and in a fixed order: [IMAGES, 1]."""
    total = tl.zeros_like(n).to(tl.float64)
    for start in range(0, count, BLOCK):
        i = start + tl.arange(0, BLOCK)[None, :]
        part = tl.load(parts + n * count + i, mask=(n < images) & (i < count), other=0)
        total += tl.sum(part.to(tl.float64), axis=1, keep_dims=True)
    return total


@triton.jit
def _finish_total(parts, value, count, scale: tl.float64, BLOCK: tl.constexpr):
    """Writes scale times the sum of parts [count] to value []; one program."""
    only = tl.arange(0, 1)[:, None]
    tl.store(value + only, total_of_parts(parts, only, 1, count, BLOCK) * scale)


def total_launch(parts: torch.Tensor, value: torch.Tensor, scale: float) -> Launch:
    """The kernel that writes scale times the sum of the parts to value []: the second stage of a sum."""
    count = parts.numel()
    block = min(power_of_two(count), FINISH_NUMBERS)
    return Launch(_finish_total, 1, {"parts": parts, "value": value, "count": count, "scale": scale, "BLOCK": block})
