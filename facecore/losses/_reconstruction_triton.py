"""The picture losses as Triton kernels (METHODS 1.1, 1.11, 2.2): same arguments and meaning as csrc/losses.

The value is made in two stages without atomics: every program writes the sums of its tile, and one program adds those
in a fixed order, in float64. The gradient of both pictures is one pass over them.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from facecore.losses._triton import Launch, power_of_two, sum_dtype, tile_count, tile_shape
from facecore.losses._triton_blocks import DTYPES, FINISH_NUMBERS, load_weights, tile_place, total_of_parts
from facecore.losses._triton_picture_gradient import L1, L2, L2_EPSILON, gradient_of_tiles, laid_over, step_error

PARTS = 6  # of PictureSums in csrc/simd/picture_rows.h: three sums of errors, each with the sum of its weights
TILE_PIXELS = 512


@triton.jit
def _sums_of_tiles(
    rendered,
    image,
    weights,
    coverage,
    parts,
    height,
    width,
    rendered_n,
    rendered_c,
    rendered_y,
    rendered_x,
    image_n,
    image_c,
    image_y,
    image_x,
    weights_n,
    weights_y,
    weights_x,
    coverage_n,
    coverage_y,
    coverage_x,
    CHANNELS: tl.constexpr,
    NORM: tl.constexpr,
    WITH_ERROR: tl.constexpr,
    WITH_STEPS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """Writes the six sums of one tile to parts [6, images, tiles]; one program per tile of an image."""
    program = tl.program_id(0)
    n, y, x = tile_place(program, height, width, ROWS, COLUMNS)
    here = (y < height) & (x < width)
    has_right = here & (x + 1 < width)
    has_down = here & (y + 1 < height)
    at_r = rendered + n * rendered_n + y * rendered_y + x * rendered_x
    at_i = image + n * image_n + y * image_y + x * image_x
    at_w = n * weights_n + y * weights_y + x * weights_x
    at_c = n * coverage_n + y * coverage_y + x * coverage_x
    COVERED: tl.constexpr = coverage is not None
    weight = load_weights(weights, at_w, here, DTYPE)
    pixel = tl.zeros([ROWS, COLUMNS], DTYPE)
    right = tl.zeros([ROWS, COLUMNS], DTYPE)
    down = tl.zeros([ROWS, COLUMNS], DTYPE)
    right_pair = tl.zeros([ROWS, COLUMNS], DTYPE)
    down_pair = tl.zeros([ROWS, COLUMNS], DTYPE)
    if WITH_STEPS:
        right_pair = weight * load_weights(weights, at_w + weights_x, has_right, DTYPE)
        down_pair = weight * load_weights(weights, at_w + weights_y, has_down, DTYPE)
    cover = load_weights(coverage, at_c, here, DTYPE)
    cover_right = load_weights(coverage, at_c + coverage_x, has_right, DTYPE)
    cover_down = load_weights(coverage, at_c + coverage_y, has_down, DTYPE)
    for _ in range(CHANNELS):
        i = tl.load(at_i, mask=here, other=0).to(DTYPE)
        r = laid_over(tl.load(at_r, mask=here, other=0).to(DTYPE), i, cover, COVERED)
        if WITH_ERROR:
            difference = tl.where(weight > 0, r - i, 0.0)
            pixel += tl.abs(difference) if NORM == L1 else difference * difference
        if WITH_STEPS:
            next_r, next_i = at_r + rendered_x, at_i + image_x
            right += step_error(r, i, next_r, next_i, cover_right, has_right, right_pair, COVERED, DTYPE)
            next_r, next_i = at_r + rendered_y, at_i + image_y
            down += step_error(r, i, next_r, next_i, cover_down, has_down, down_pair, COVERED, DTYPE)
        at_r += rendered_c
        at_i += image_c
    if NORM == L2:
        pixel = tl.sqrt(pixel + L2_EPSILON)
    part = parts + program
    kind = tl.num_programs(0)
    tl.store(part, tl.sum(weight * pixel))
    tl.store(part + kind, tl.sum(weight))
    tl.store(part + 2 * kind, tl.sum(right_pair * right))
    tl.store(part + 3 * kind, tl.sum(right_pair))
    tl.store(part + 4 * kind, tl.sum(down_pair * down))
    tl.store(part + 5 * kind, tl.sum(down_pair))


@triton.jit
def _scaled(errors, scale, real):
    """scale * errors, 0 for what is switched off and for no image."""
    return tl.sum(tl.where(real & (scale != 0), scale * errors, 0.0))


@triton.jit
def _finish(
    parts,
    value,
    scales,
    images,
    tiles,
    error_weight: tl.float64,
    steps_weight: tl.float64,
    CHANNELS: tl.constexpr,
    POOLED: tl.constexpr,
    IMAGES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Writes the loss and per image its derivatives by the three sums of errors, scales [images, 3]; one program."""
    kind = images * tiles
    all_weights = tl.zeros([1, 1], tl.float64)
    if POOLED:
        for start in range(0, images, IMAGES):
            n = start + tl.arange(0, IMAGES)[:, None]
            weight = total_of_parts(parts + kind, n, images, tiles, BLOCK)
            all_weights += tl.sum(weight, axis=0, keep_dims=True)
    loss = tl.sum(all_weights) * 0.0
    steps = steps_weight / (CHANNELS * tl.maximum(images, 1)).to(tl.float64)  # interpreted, the weight is a plain float
    for start in range(0, images, IMAGES):
        n = start + tl.arange(0, IMAGES)[:, None]
        real = n < images
        if POOLED:
            divisor = tl.maximum(all_weights, 1.0) + tl.zeros_like(n).to(tl.float64)
        else:
            divisor = tl.maximum(total_of_parts(parts + kind, n, images, tiles, BLOCK), 1.0) * images
        scale_pixel = error_weight / divisor
        scale_right = steps / tl.maximum(total_of_parts(parts + 3 * kind, n, images, tiles, BLOCK), 1.0)
        scale_down = steps / tl.maximum(total_of_parts(parts + 5 * kind, n, images, tiles, BLOCK), 1.0)
        loss += _scaled(total_of_parts(parts, n, images, tiles, BLOCK), scale_pixel, real)
        loss += _scaled(total_of_parts(parts + 2 * kind, n, images, tiles, BLOCK), scale_right, real)
        loss += _scaled(total_of_parts(parts + 4 * kind, n, images, tiles, BLOCK), scale_down, real)
        tl.store(scales + 3 * n, scale_pixel, mask=real)
        tl.store(scales + 3 * n + 1, scale_right, mask=real)
        tl.store(scales + 3 * n + 2, scale_down, mask=real)
    tl.store(value, loss)


def value_launches(
    rendered: torch.Tensor,
    image: torch.Tensor,
    weights: torch.Tensor | None,
    coverage: torch.Tensor | None,
    options: tuple[int, bool, float, float],
    value: torch.Tensor,
    scales: torch.Tensor,
    tile: tuple[int, int] | None = None,
) -> list[Launch]:
    """The kernels that write value [] and scales [N, 3], both in sum_dtype; options as in the operator's schema."""
    norm, pooled, error_weight, steps_weight = options
    images, channels, height, width = rendered.shape
    tile = tile or tile_shape(height, width, TILE_PIXELS)
    tiles = tile_count(height, width, tile)
    parts = torch.empty((PARTS, images, tiles), dtype=value.dtype, device=value.device)
    sums = {
        **_pictures(rendered, image, weights, coverage),
        **_constants(rendered, norm, error_weight, steps_weight, tile),
        "parts": parts,
    }
    block = min(power_of_two(tiles), FINISH_NUMBERS)
    finish = {
        "parts": parts,
        "value": value,
        "scales": scales,
        "images": images,
        "tiles": tiles,
        "error_weight": error_weight,
        "steps_weight": steps_weight,
        "CHANNELS": channels,
        "POOLED": pooled,
        "IMAGES": min(power_of_two(images), FINISH_NUMBERS // block),
        "BLOCK": block,
    }
    return [Launch(_sums_of_tiles, images * tiles, sums), Launch(_finish, 1, finish, num_warps=8)]


def gradient_launch(
    grad: torch.Tensor,
    rendered: torch.Tensor,
    image: torch.Tensor,
    weights: torch.Tensor | None,
    coverage: torch.Tensor | None,
    scales: torch.Tensor,
    options: tuple[int, bool, float, float],
    wanted: tuple[torch.Tensor | None, torch.Tensor | None],
    tile: tuple[int, int] | None = None,
) -> Launch:
    """The kernel that reads grad [] and writes the wanted gradients, contiguous and in the dtype of the pictures."""
    norm, _, error_weight, steps_weight = options
    images, _, height, width = rendered.shape
    tile = tile or tile_shape(height, width, TILE_PIXELS)
    arguments = {
        **_pictures(rendered, image, weights, coverage),
        **_constants(rendered, norm, error_weight, steps_weight, tile),
        "grad": grad,
        "scales": scales.contiguous(),
        "grad_rendered": wanted[0],
        "grad_image": wanted[1],
    }
    # Eight warps: two pixels of a tile per thread, 79 registers in float32; four pixels took 124.
    return Launch(gradient_of_tiles, images * tile_count(height, width, tile), arguments, num_warps=8)


def _pictures(
    rendered: torch.Tensor, image: torch.Tensor, weights: torch.Tensor | None, coverage: torch.Tensor | None
) -> dict[str, Any]:
    """The pictures and their planes as they lie in memory: any strides, nothing is copied."""
    arguments: dict[str, Any] = {"rendered": rendered, "image": image, "weights": weights, "coverage": coverage}
    for name, picture in (("rendered", rendered), ("image", image)):
        arguments.update(zip((f"{name}_{axis}" for axis in "ncyx"), picture.stride()))
    for name, plane in (("weights", weights), ("coverage", coverage)):
        arguments.update(zip((f"{name}_{axis}" for axis in "nyx"), (0, 0, 0) if plane is None else plane.stride()))
    return {**arguments, "height": rendered.shape[2], "width": rendered.shape[3]}


def _constants(
    rendered: torch.Tensor, norm: int, error_weight: float, steps_weight: float, tile: tuple[int, int]
) -> dict[str, Any]:
    return {
        "CHANNELS": rendered.shape[1],
        "NORM": norm,
        "WITH_ERROR": error_weight != 0,
        "WITH_STEPS": steps_weight != 0,
        "ROWS": tile[0],
        "COLUMNS": tile[1],
        "DTYPE": DTYPES[sum_dtype(rendered.dtype)],
    }
