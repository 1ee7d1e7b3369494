"""The gradient of the picture losses as a Triton kernel, and what it shares with the value: norms and steps."""

from __future__ import annotations

import triton
import triton.language as tl

from facecore.losses._triton_blocks import load_weights, tile_place, times_sign

# In the order of PictureNorm in csrc/simd/picture_rows.h.
L2_SQUARED = tl.constexpr(0)
L2 = tl.constexpr(1)
L1 = tl.constexpr(2)
L2_EPSILON = tl.constexpr(1e-6)  # facecore/reference_losses.py


@triton.jit
def laid_over(r, i, c, COVERED: tl.constexpr):
    """i + c (r - i) as torch.lerp: exact where r = i and where c is 0 or 1; r where the loss has no coverage."""
    if COVERED:
        mixed = tl.where(c < 0.5, i + c * (r - i), r - (1 - c) * (r - i))
        r = tl.where(c > 0, mixed, i)
    return r


@triton.jit
def steps_of(r, i, next_r, next_i, next_c, exists, pair, COVERED: tl.constexpr, DTYPE: tl.constexpr):
    """r - r' and i - i', with r', i' at the addresses of a neighbour, next_c its coverage; 0 where pair is 0."""
    other_i = tl.load(next_i, mask=exists, other=0).to(DTYPE)
    other_r = laid_over(tl.load(next_r, mask=exists, other=0).to(DTYPE), other_i, next_c, COVERED)
    return tl.where(pair > 0, r - other_r, 0.0), tl.where(pair > 0, i - other_i, 0.0)


@triton.jit
def step_error(r, i, next_r, next_i, next_c, exists, pair, COVERED: tl.constexpr, DTYPE: tl.constexpr):
    """| |r - r'| - |i - i'| |"""
    step_r, step_i = steps_of(r, i, next_r, next_i, next_c, exists, pair, COVERED, DTYPE)
    return tl.abs(tl.abs(step_r) - tl.abs(step_i))


@triton.jit
def _step_slopes(r, i, next_r, next_i, next_c, exists, pair, scale, COVERED: tl.constexpr, DTYPE: tl.constexpr):
    """pair * scale times the derivatives of step_error by r and by i, whichever of the two pixels they are."""
    step_r, step_i = steps_of(r, i, next_r, next_i, next_c, exists, pair, COVERED, DTYPE)
    outer = times_sign(pair * scale, tl.abs(step_r) - tl.abs(step_i))
    return times_sign(outer, step_r), times_sign(-outer, step_i)


@triton.jit
def gradient_of_tiles(
    grad,
    scales,
    rendered,
    image,
    weights,
    coverage,
    grad_rendered,
    grad_image,
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
    """Writes the gradients [N, C, H, W], contiguous, of one tile; a None one is left out; one program per tile."""
    n, y, x = tile_place(tl.program_id(0), height, width, ROWS, COLUMNS)
    here = (y < height) & (x < width)
    has_right = here & (x + 1 < width)
    has_left = here & (x > 0)
    has_down = here & (y + 1 < height)
    has_up = here & (y > 0)
    at_r = rendered + n * rendered_n + y * rendered_y + x * rendered_x
    at_i = image + n * image_n + y * image_y + x * image_x
    at_w = n * weights_n + y * weights_y + x * weights_x
    at_c = n * coverage_n + y * coverage_y + x * coverage_x
    COVERED: tl.constexpr = coverage is not None
    to = (n * CHANNELS * height + y) * width + x
    outer = tl.load(grad)
    weight = load_weights(weights, at_w, here, DTYPE)
    cover = load_weights(coverage, at_c, here, DTYPE)
    factor = weight * (outer * tl.load(scales + 3 * n))
    if WITH_ERROR and NORM == L2_SQUARED:
        factor = factor * 2
    if WITH_ERROR and NORM == L2:
        pixel = tl.zeros([ROWS, COLUMNS], DTYPE)
        for c in range(CHANNELS):
            i = tl.load(at_i + c * image_c, mask=here, other=0).to(DTYPE)
            r = laid_over(tl.load(at_r + c * rendered_c, mask=here, other=0).to(DTYPE), i, cover, COVERED)
            difference = tl.where(weight > 0, r - i, 0.0)
            pixel += difference * difference
        factor = factor / tl.sqrt(pixel + L2_EPSILON)
    if WITH_STEPS:
        scale_right = outer * tl.load(scales + 3 * n + 1)
        scale_down = outer * tl.load(scales + 3 * n + 2)
        right = weight * load_weights(weights, at_w + weights_x, has_right, DTYPE)
        left = weight * load_weights(weights, at_w - weights_x, has_left, DTYPE)
        down = weight * load_weights(weights, at_w + weights_y, has_down, DTYPE)
        up = weight * load_weights(weights, at_w - weights_y, has_up, DTYPE)
        cover_right = load_weights(coverage, at_c + coverage_x, has_right, DTYPE)
        cover_left = load_weights(coverage, at_c - coverage_x, has_left, DTYPE)
        cover_down = load_weights(coverage, at_c + coverage_y, has_down, DTYPE)
        cover_up = load_weights(coverage, at_c - coverage_y, has_up, DTYPE)
    for _ in range(CHANNELS):
        i = tl.load(at_i, mask=here, other=0).to(DTYPE)
        r = laid_over(tl.load(at_r, mask=here, other=0).to(DTYPE), i, cover, COVERED)
        slope_r = tl.zeros([ROWS, COLUMNS], DTYPE)
        slope_i = tl.zeros([ROWS, COLUMNS], DTYPE)
        if WITH_ERROR:
            difference = tl.where(weight > 0, r - i, 0.0)
            slope_r = times_sign(factor, difference) if NORM == L1 else factor * difference
            slope_i = -slope_r
        if WITH_STEPS:
            next_r, next_i = at_r + rendered_x, at_i + image_x
            step_r, step_i = _step_slopes(
                r, i, next_r, next_i, cover_right, has_right, right, scale_right, COVERED, DTYPE
            )
            slope_r += step_r
            slope_i += step_i
            next_r, next_i = at_r - rendered_x, at_i - image_x
            step_r, step_i = _step_slopes(r, i, next_r, next_i, cover_left, has_left, left, scale_right, COVERED, DTYPE)
            slope_r += step_r
            slope_i += step_i
            next_r, next_i = at_r + rendered_y, at_i + image_y
            step_r, step_i = _step_slopes(r, i, next_r, next_i, cover_down, has_down, down, scale_down, COVERED, DTYPE)
            slope_r += step_r
            slope_i += step_i
            next_r, next_i = at_r - rendered_y, at_i - image_y
            step_r, step_i = _step_slopes(r, i, next_r, next_i, cover_up, has_up, up, scale_down, COVERED, DTYPE)
            slope_r += step_r
            slope_i += step_i
        if COVERED:
            slope_i += (1 - cover) * slope_r
            slope_r *= cover
        if grad_rendered is not None:
            tl.store(grad_rendered + to, slope_r, mask=here)
        if grad_image is not None:
            tl.store(grad_image + to, slope_i, mask=here)
        at_r += rendered_c
        at_i += image_c
        to += height * width
