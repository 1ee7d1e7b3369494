"""The skin probability of pixels as Triton kernels (METHODS 1.10): same meaning as csrc/simd/skin_pixels.h.

A picture is read once and everything between it and the result stays in registers.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from facecore.losses._triton import Launch, sum_dtype, tile_count, tile_shape
from facecore.losses._triton_blocks import DTYPES, tile_place

TILE_PIXELS = 128  # one per thread: 40 registers in float32; with four it is 164, and float64 spills


@triton.jit
def _whitened(row, red, green, blue):
    """One number of z = A rgb + b; row: its three numbers of A."""
    return tl.load(row) * red + tl.load(row + 1) * green + tl.load(row + 2) * blue


@triton.jit
def _mixture(gaussians, red, green, blue):
    """The log of a mixture of four Gaussians [4, 13] (A by rows, b, log weight) and its derivatives by the colour.

    The sum of exponentials is kept relative to the largest so far, as each Gaussian comes.
    """
    largest = tl.full(red.shape, float("-inf"), red.dtype)
    total = tl.zeros_like(red)
    by_red = tl.zeros_like(red)
    by_green = tl.zeros_like(red)
    by_blue = tl.zeros_like(red)
    for k in tl.static_range(4):
        at = gaussians + 13 * k
        x = tl.load(at + 9) + _whitened(at, red, green, blue)
        y = tl.load(at + 10) + _whitened(at + 3, red, green, blue)
        z = tl.load(at + 11) + _whitened(at + 6, red, green, blue)
        exponent = tl.load(at + 12) - 0.5 * (x * x + y * y + z * z)
        before = largest
        largest = tl.maximum(before, exponent)
        rescale = tl.exp(before - largest)
        term = tl.exp(exponent - largest)
        total = total * rescale + term
        by_red = by_red * rescale - term * (tl.load(at) * x + tl.load(at + 3) * y + tl.load(at + 6) * z)
        by_green = by_green * rescale - term * (tl.load(at + 1) * x + tl.load(at + 4) * y + tl.load(at + 7) * z)
        by_blue = by_blue * rescale - term * (tl.load(at + 2) * x + tl.load(at + 5) * y + tl.load(at + 8) * z)
    return largest + tl.log(total), by_red / total, by_green / total, by_blue / total


@triton.jit
def _load_colors(image, n, y, x, here, image_n, image_c, image_y, image_x, DTYPE: tl.constexpr):
    at = image + n * image_n + y * image_y + x * image_x
    red = tl.load(at, mask=here, other=0).to(DTYPE)
    green = tl.load(at + image_c, mask=here, other=0).to(DTYPE)
    blue = tl.load(at + 2 * image_c, mask=here, other=0).to(DTYPE)
    return red, green, blue


@triton.jit
def _probability_of_tiles(
    image,
    gaussians,
    probability,
    height,
    width,
    image_n,
    image_c,
    image_y,
    image_x,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """Writes the probability [N, H, W], contiguous, of one tile; one program per tile of an image."""
    n, y, x = tile_place(tl.program_id(0), height, width, ROWS, COLUMNS)
    here = (y < height) & (x < width)
    red, green, blue = _load_colors(image, n, y, x, here, image_n, image_c, image_y, image_x, DTYPE)
    skin, _, _, _ = _mixture(gaussians, red, green, blue)
    other, _, _, _ = _mixture(gaussians + 4 * 13, red, green, blue)
    tl.store(probability + (n * height + y) * width + x, 1.0 / (1.0 + tl.exp(other - skin)), mask=here)


@triton.jit
def _gradient_of_tiles(
    grad,
    image,
    gaussians,
    grad_image,
    height,
    width,
    grad_n,
    grad_y,
    grad_x,
    image_n,
    image_c,
    image_y,
    image_x,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """Writes the gradient [N, 3, H, W], contiguous, of one tile; one program per tile of an image."""
    n, y, x = tile_place(tl.program_id(0), height, width, ROWS, COLUMNS)
    here = (y < height) & (x < width)
    red, green, blue = _load_colors(image, n, y, x, here, image_n, image_c, image_y, image_x, DTYPE)
    skin, skin_red, skin_green, skin_blue = _mixture(gaussians, red, green, blue)
    other, other_red, other_green, other_blue = _mixture(gaussians + 4 * 13, red, green, blue)
    less = tl.exp(-tl.abs(skin - other))  # of p and 1 - p, the smaller over the larger: no overflow
    slope = tl.load(grad + n * grad_n + y * grad_y + x * grad_x, mask=here, other=0) * less / ((1 + less) * (1 + less))
    plane = tl.cast(height, tl.int64) * width  # tl.cast: a Python int, where it is 1, has no .to
    to = grad_image + n * 3 * plane + y * width + x
    tl.store(to, slope * (skin_red - other_red), mask=here)
    tl.store(to + plane, slope * (skin_green - other_green), mask=here)
    tl.store(to + 2 * plane, slope * (skin_blue - other_blue), mask=here)


def value_launches(image: torch.Tensor, gaussians: torch.Tensor, probability: torch.Tensor) -> list[Launch]:
    """The kernel that writes the probability, contiguous."""
    arguments, programs = _tiles(image, gaussians)
    return [Launch(_probability_of_tiles, programs, {**arguments, "probability": probability})]


def gradient_launches(
    grad: torch.Tensor, image: torch.Tensor, gaussians: torch.Tensor, grad_image: torch.Tensor
) -> list[Launch]:
    """The kernel that reads grad [N, H, W], of any strides, and writes grad_image, contiguous."""
    arguments, programs = _tiles(image, gaussians)
    strides = dict(zip(("grad_n", "grad_y", "grad_x"), grad.stride()))
    return [Launch(_gradient_of_tiles, programs, {**arguments, **strides, "grad": grad, "grad_image": grad_image})]


def _tiles(image: torch.Tensor, gaussians: torch.Tensor) -> tuple[dict[str, Any], int]:
    """What both kernels take, the picture in any strides, and the number of their programs."""
    images, _, height, width = image.shape
    tile = tile_shape(height, width, TILE_PIXELS)
    arguments: dict[str, Any] = {"image": image, "gaussians": gaussians.contiguous(), "height": height, "width": width}
    arguments.update(zip((f"image_{axis}" for axis in "ncyx"), image.stride()))
    constants = {"ROWS": tile[0], "COLUMNS": tile[1], "DTYPE": DTYPES[sum_dtype(image.dtype)]}
    return {**arguments, **constants}, images * tile_count(height, width, tile)
