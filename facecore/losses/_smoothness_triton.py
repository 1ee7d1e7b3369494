"""The sum of |M x| for a sparse M as Triton kernels: smoothness_loss, and symmetry_loss with a barycentric map.

Same arguments and meaning as csrc/losses/smoothness.h. Four images share the reading of a row of the matrix. The value
is made in two stages without atomics; the forward pass leaves the signs of M x as bytes, which the gradient gathers by
the transpose: a quarter of the bytes of x or fewer.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from facecore.losses._triton import Launch, block_count, block_size, packed_images, sum_dtype
from facecore.losses._triton_blocks import DTYPES, sign_of, total_launch

# A tile is ROWS x LANES: four images, each with x, y, z and a lane that says nothing (kSmoothSigns in smooth_rows.h).
LANES = tl.constexpr(16)
TILE_ROWS = 64


@triton.jit
def _place(program, images, vertices, ROWS: tl.constexpr):
    """The group of images of a program, its rows [ROWS], and per lane [1, LANES] image, coordinate, whether it is real.

    The blocks of rows of a group are counted one after the other, then those of the next.
    """
    blocks = tl.cdiv(vertices, ROWS)
    group = (program // blocks).to(tl.int64)
    lane = tl.arange(0, LANES)[None, :]
    n, c = group * 4 + lane // 4, lane % 4
    return group, program % blocks * ROWS + tl.arange(0, ROWS), n, c, (n < images) & (c < 3)


@triton.jit
def _sums_of_rows(
    x,
    crow,
    col,
    values,
    parts,
    signs,
    images,
    vertices,
    x_n,
    DIAGONAL: tl.constexpr,
    FACTOR: tl.constexpr,
    ROWS: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """Writes the sum of |M x| of a block of rows of a group to parts [groups, blocks], and the signs if wanted."""
    program = tl.program_id(0)
    group, r, n, c, real = _place(program, images, vertices, ROWS)
    here = r < vertices
    at = x + n * x_n + c
    begin = tl.load(crow + r, mask=here, other=0)
    end = tl.load(crow + r + 1, mask=here, other=0)
    product = tl.zeros([ROWS, LANES], DTYPE)
    for k in range(0, tl.max(end - begin)):
        inside = begin + k < end
        value = tl.load(values + begin + k, mask=inside, other=0)
        v = tl.load(col + begin + k, mask=inside, other=0)
        product += value[:, None] * tl.load(at + 3 * v[:, None], mask=inside[:, None] & real, other=0).to(DTYPE)
    product = product * FACTOR
    if DIAGONAL != 0:
        product += DIAGONAL * tl.load(at + 3 * r[:, None], mask=here[:, None] & real, other=0).to(DTYPE)
    if signs is not None:
        to = (group * vertices + r[:, None]) * LANES + tl.arange(0, LANES)[None, :]
        tl.store(signs + to, sign_of(product, tl.int8), mask=here[:, None])
    tl.store(parts + program, tl.sum(tl.abs(product)))


@triton.jit
def _gradient_of_rows(
    grad,
    signs,
    crow,
    col,
    values,
    grad_x,
    images,
    vertices,
    scale: tl.float64,
    DIAGONAL: tl.constexpr,
    FACTOR: tl.constexpr,
    ROWS: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """Writes scale * grad * M^T signs [N, V, 3] of a block of rows of a group; the matrix given is the transpose."""
    group, r, n, c, real = _place(tl.program_id(0), images, vertices, ROWS)
    here = r < vertices
    at = signs + group * vertices * LANES + tl.arange(0, LANES)[None, :]
    begin = tl.load(crow + r, mask=here, other=0)
    end = tl.load(crow + r + 1, mask=here, other=0)
    product = tl.zeros([ROWS, LANES], DTYPE)
    for k in range(0, tl.max(end - begin)):
        inside = begin + k < end
        value = tl.load(values + begin + k, mask=inside, other=0)
        v = tl.load(col + begin + k, mask=inside, other=0)
        product += value[:, None] * tl.load(at + LANES * v[:, None], mask=inside[:, None], other=0).to(DTYPE)
    product = product * FACTOR
    if DIAGONAL != 0:
        product += DIAGONAL * tl.load(at + LANES * r[:, None], mask=here[:, None], other=0).to(DTYPE)
    product = product * (tl.load(grad).to(tl.float64) * scale).to(DTYPE)
    tl.store(grad_x + (n * vertices + r[:, None]) * 3 + c, product, mask=here[:, None] & real)


def value_launches(
    x: torch.Tensor,
    matrix: tuple[torch.Tensor, ...],
    options: tuple[float, float, float],
    value: torch.Tensor,
    signs: torch.Tensor | None,
) -> list[Launch]:
    """The kernels that write value [] and the signs; matrix is crow, col, values; options as in the schema."""
    x = packed_images(x)
    arguments, programs = _rows(x, matrix, options)
    parts = torch.empty(programs, dtype=value.dtype, device=value.device)
    more = {"x": x, "x_n": x.stride(0), "parts": parts, "signs": signs}
    return [Launch(_sums_of_rows, programs, {**arguments, **more}), total_launch(parts, value, options[2])]


def gradient_launches(
    grad: torch.Tensor,
    signs: torch.Tensor,
    transpose: tuple[torch.Tensor, ...],
    options: tuple[float, float, float],
    grad_x: torch.Tensor,
) -> list[Launch]:
    """The kernel that reads grad [] and writes grad_x, contiguous."""
    arguments, programs = _rows(grad_x, transpose, options)
    more = {"grad": grad, "signs": signs.contiguous(), "grad_x": grad_x, "scale": options[2]}
    return [Launch(_gradient_of_rows, programs, {**arguments, **more})]


def _rows(
    x: torch.Tensor, matrix: tuple[torch.Tensor, ...], options: tuple[float, float, float]
) -> tuple[dict[str, Any], int]:
    """What both kernels take, and the number of their programs."""
    images, vertices, _ = x.shape
    rows = block_size(vertices, TILE_ROWS)
    arguments = {
        **{name: array.contiguous() for name, array in zip(("crow", "col", "values"), matrix)},
        "images": images,
        "vertices": vertices,
        "DIAGONAL": options[0],
        "FACTOR": options[1],
        "ROWS": rows,
        "DTYPE": DTYPES[sum_dtype(x.dtype)],
    }
    return arguments, block_count(images, 4) * block_count(vertices, rows)
