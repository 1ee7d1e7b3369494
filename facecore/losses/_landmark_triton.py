"""The landmark structure loss as a Triton kernel (METHODS 2.2): same arguments and meaning as csrc/losses/landmark.h.

One program per image: its points stay in registers, the distances of ROWS points to all others make a tile. The
gradient of a point is gathered from its own row, and comes with the value, since the distances are at hand.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from facecore.losses._triton import Launch, packed_images, power_of_two, sum_dtype
from facecore.losses._triton_blocks import DTYPES, load_weights, times_sign, total_launch

ROWS = 16


@triton.jit
def _load_points(points, p, known, DTYPE: tl.constexpr):
    """x and y of the points p; 0 for the unknown ones, which may be NaN."""
    x = tl.load(points + 2 * p, mask=known, other=0).to(DTYPE)
    y = tl.load(points + 2 * p + 1, mask=known, other=0).to(DTYPE)
    return x, y


@triton.jit
def _lengths(points, p, weight, x, y, counts, DTYPE: tl.constexpr):
    """x, y of the vectors from the points x, y [1, POINTS] to the points p [ROWS, 1] and their lengths; 0 for pairs
    that do not count."""
    x_p, y_p = _load_points(points, p, weight > 0, DTYPE)
    x = tl.where(counts, x_p - x, 0.0)
    y = tl.where(counts, y_p - y, 0.0)
    return x, y, tl.sqrt(x * x + y * y)


@triton.jit
def _store_slopes(to, p, exists, slope, x, y, length):
    """Writes the derivative by the points p: slope [ROWS, POINTS] along each vector, 0 where it has no length."""
    along = slope / tl.where(length > 0, length, 1.0)
    tl.store(to + 2 * p, tl.sum(along * x, axis=1, keep_dims=True), mask=exists)
    tl.store(to + 2 * p + 1, tl.sum(along * y, axis=1, keep_dims=True), mask=exists)


@triton.jit
def _structure_of_images(
    predicted,
    target,
    weight,
    pairs,
    parts,
    gradient,
    images,
    predicted_n,
    target_n,
    weight_n,
    COUNT: tl.constexpr,
    POINTS: tl.constexpr,
    ROWS: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """Writes the mean error of an image to parts [N] and, if wanted, its derivatives, divided by N, to gradient."""
    n = tl.program_id(0).to(tl.int64)
    predicted += n * predicted_n
    target += n * target_n
    weight += n * weight_n
    b = tl.arange(0, POINTS)[None, :]
    weight_b = load_weights(weight, b, b < COUNT, DTYPE)
    weights = tl.zeros([ROWS, POINTS], DTYPE)
    for start in range(0, COUNT, ROWS):
        a = start + tl.arange(0, ROWS)[:, None]
        exists = (a < COUNT) & (b < COUNT)
        pair = tl.load(pairs + a * COUNT + b, mask=exists, other=0)
        weights += pair * load_weights(weight, a, a < COUNT, DTYPE) * weight_b
    divisor = tl.maximum(tl.sum(weights) / 2, 1.0)  # every pair is met from both of its points
    predicted_x, predicted_y = _load_points(predicted, b, weight_b > 0, DTYPE)
    target_x, target_y = _load_points(target, b, weight_b > 0, DTYPE)
    errors = tl.zeros([ROWS, POINTS], DTYPE)
    for start in range(0, COUNT, ROWS):
        a = start + tl.arange(0, ROWS)[:, None]
        exists = (a < COUNT) & (b < COUNT)
        weight_a = load_weights(weight, a, a < COUNT, DTYPE)
        pair = tl.load(pairs + a * COUNT + b, mask=exists, other=0) * weight_a * weight_b
        x, y, length = _lengths(predicted, a, weight_a, predicted_x, predicted_y, pair > 0, DTYPE)
        target_ab_x, target_ab_y, target_length = _lengths(target, a, weight_a, target_x, target_y, pair > 0, DTYPE)
        errors += pair * tl.abs(length - target_length)
        if gradient is not None:
            slope = times_sign(pair / (divisor * images), length - target_length)
            to = gradient + n * COUNT * 2
            _store_slopes(to, a, a < COUNT, slope, x, y, length)
            to = gradient + (n + images) * COUNT * 2  # of n, an int64: `images` is a Python int where it is 1
            _store_slopes(to, a, a < COUNT, -slope, target_ab_x, target_ab_y, target_length)
    tl.store(parts + n, tl.sum(errors) / 2 / divisor)


def value_launches(
    predicted: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor,
    pairs: torch.Tensor,
    value: torch.Tensor,
    gradient: torch.Tensor | None,
) -> list[Launch]:
    """The kernels that write value [] and, where it is wanted, gradient [2, N, P, 2] of both sets of points."""
    images, count, _ = predicted.shape
    predicted, target, weight = (packed_images(batch) for batch in (predicted, target, weight))
    parts = torch.empty(images, dtype=value.dtype, device=value.device)
    arguments = {
        "predicted": predicted,
        "target": target,
        "weight": weight,
        "pairs": pairs.contiguous(),
        "parts": parts,
        "gradient": gradient,
        "images": images,
        "predicted_n": predicted.stride(0),
        "target_n": target.stride(0),
        "weight_n": weight.stride(0),
        "COUNT": count,
        "POINTS": power_of_two(count),
        "ROWS": ROWS,
        "DTYPE": DTYPES[sum_dtype(predicted.dtype)],
    }
    launch = Launch(_structure_of_images, images, arguments, num_warps=8)
    return [launch, total_launch(parts, value, 1.0 / max(images, 1))]
