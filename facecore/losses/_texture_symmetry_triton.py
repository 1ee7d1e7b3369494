"""The symmetry loss of textures as Triton kernels (METHODS 1.9): same arguments and meaning as csrc/losses/symmetry.h.

A program takes a tile of the left half of a texture and the texels opposite, so each pair is read once, and both
gradients are written. The value is made in two stages without atomics.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from facecore.losses._triton import Launch, block_size, power_of_two, sum_dtype, tile_count, tile_shape
from facecore.losses._triton_blocks import (
    DTYPES,
    FINISH_NUMBERS,
    load_weights,
    sign_of,
    tile_place,
    total_launch,
    total_of_parts,
)

TILE_PIXELS = 512


@triton.jit
def _pairs(valid, n, y, x, height, width, valid_n, valid_y, valid_x, DTYPE: tl.constexpr):
    """How many texels of the pair (x, width - 1 - x) count: 2, or 1 in the middle, or 0 if one of them is not valid."""
    here = (y < height) & (x < (width + 1) // 2)
    at = n * valid_n + y * valid_y
    left = load_weights(valid, at + x * valid_x, here, DTYPE)
    right = load_weights(valid, at + (width - 1 - x) * valid_x, here, DTYPE)
    return here, tl.where((left > 0) & (right > 0), tl.where(2 * x + 1 == width, 1.0, 2.0), 0.0).to(DTYPE)


@triton.jit
def _sums_of_texels(
    texture,
    valid,
    parts,
    height,
    width,
    texture_n,
    texture_c,
    texture_y,
    texture_x,
    valid_n,
    valid_y,
    valid_x,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """Writes the sum of differences over pairs and the number of texels of a tile to parts [2, images, tiles]."""
    program = tl.program_id(0)
    n, y, x = tile_place(program, height, (width + 1) // 2, ROWS, COLUMNS)
    here, texels = _pairs(valid, n, y, x, height, width, valid_n, valid_y, valid_x, DTYPE)
    row = texture + n * texture_n + y * texture_y
    error = tl.zeros([ROWS, COLUMNS], DTYPE)
    for _ in range(CHANNELS):
        left = tl.load(row + x * texture_x, mask=here, other=0).to(DTYPE)
        right = tl.load(row + (width - 1 - x) * texture_x, mask=here, other=0).to(DTYPE)
        error += tl.where(texels > 0, tl.abs(left - right), 0.0)
        row += texture_c
    tl.store(parts + program, tl.sum(error))
    tl.store(parts + tl.num_programs(0) + program, tl.sum(texels))


@triton.jit
def _finish_images(
    parts, values, scales, images, tiles, CHANNELS: tl.constexpr, IMAGES: tl.constexpr, BLOCK: tl.constexpr
):
    """Writes per image its part of the loss and its derivative by a pair's difference, both [images].

    A pair is two of the texels over which the loss is a mean.
    """
    n = tl.program_id(0) * IMAGES + tl.arange(0, IMAGES)[:, None]
    texels = total_of_parts(parts + images * tiles, n, images, tiles, BLOCK)
    scale = 2.0 / (tl.maximum(texels, 1.0) * (max(CHANNELS, 1) * images))
    tl.store(scales + n, scale, mask=n < images)
    tl.store(values + n, total_of_parts(parts, n, images, tiles, BLOCK) * scale, mask=n < images)


@triton.jit
def _gradient_of_texels(
    grad,
    scales,
    texture,
    valid,
    grad_texture,
    height,
    width,
    texture_n,
    texture_c,
    texture_y,
    texture_x,
    valid_n,
    valid_y,
    valid_x,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """Writes the gradient [N, C, H, W], contiguous, of a tile and of the texels opposite."""
    n, y, x = tile_place(tl.program_id(0), height, (width + 1) // 2, ROWS, COLUMNS)
    here, texels = _pairs(valid, n, y, x, height, width, valid_n, valid_y, valid_x, DTYPE)
    row = texture + n * texture_n + y * texture_y
    to = grad_texture + (n * CHANNELS * height + y) * width
    scale = tl.load(grad) * tl.load(scales + n)
    for _ in range(CHANNELS):
        left = tl.load(row + x * texture_x, mask=here, other=0).to(DTYPE)
        right = tl.load(row + (width - 1 - x) * texture_x, mask=here, other=0).to(DTYPE)
        slope = scale * sign_of(tl.where(texels > 1, left - right, 0.0), DTYPE)
        tl.store(to + x, slope, mask=here)
        tl.store(to + (width - 1 - x), -slope, mask=here & (2 * x + 1 < width))  # the middle was written
        row += texture_c
        to += height * width


def value_launches(
    texture: torch.Tensor, valid: torch.Tensor | None, value: torch.Tensor, scales: torch.Tensor
) -> list[Launch]:
    """The kernels that write value [] and scales [N]; valid bool [N, H, W] or [H, W]."""
    arguments, tiles = _tiles(texture, valid)
    images = texture.shape[0]
    parts = torch.empty((2, images, tiles), dtype=value.dtype, device=value.device)
    values = torch.empty(images, dtype=torch.float64, device=value.device)
    block = min(power_of_two(tiles), FINISH_NUMBERS)
    at_once = block_size(images, max(FINISH_NUMBERS // block, 1))
    finish = {
        "parts": parts,
        "values": values,
        "scales": scales,
        "images": images,
        "tiles": tiles,
        "CHANNELS": texture.shape[1],
        "IMAGES": at_once,
        "BLOCK": block,
    }
    return [
        Launch(_sums_of_texels, images * tiles, {**arguments, "parts": parts}),
        Launch(_finish_images, -(-images // at_once), finish),
        total_launch(values, value, 1.0),
    ]


def gradient_launches(
    grad: torch.Tensor,
    texture: torch.Tensor,
    valid: torch.Tensor | None,
    scales: torch.Tensor,
    grad_texture: torch.Tensor,
) -> list[Launch]:
    """The kernel that reads grad [] and writes grad_texture, contiguous."""
    arguments, tiles = _tiles(texture, valid)
    more = {"grad": grad, "scales": scales.contiguous(), "grad_texture": grad_texture}
    return [Launch(_gradient_of_texels, texture.shape[0] * tiles, {**arguments, **more})]


def _tiles(texture: torch.Tensor, valid: torch.Tensor | None) -> tuple[dict[str, Any], int]:
    """What both kernels take, in any strides, and the tiles of an image."""
    _, channels, height, width = texture.shape
    half = (width + 1) // 2
    tile = tile_shape(height, half, TILE_PIXELS)
    strides = (0, 0, 0) if valid is None else (0, 0, 0, *valid.stride())[-3:]  # a mask of all images has no stride n
    arguments: dict[str, Any] = {"texture": texture, "valid": valid, "height": height, "width": width}
    arguments.update(zip((f"texture_{axis}" for axis in "ncyx"), texture.stride()))
    arguments.update(zip(("valid_n", "valid_y", "valid_x"), strides))
    constants = {"CHANNELS": channels, "ROWS": tile[0], "COLUMNS": tile[1], "DTYPE": DTYPES[sum_dtype(texture.dtype)]}
    return {**arguments, **constants}, tile_count(height, half, tile)
