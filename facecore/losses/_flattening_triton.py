"""The flattening loss as Triton kernels (METHODS 4): same arguments and meaning as csrc/losses/flattening.h.

The variance is made without atomics and without a difference of large sums: every program writes weight, mean and
squared deviations from that mean of its block, and one program per image brings those to the mean of the image, in
float64 and in a fixed order (the parallel form of Chan, Golub and LeVeque 1983).
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from facecore.losses._triton import Launch, block_count, block_size, packed_images, power_of_two, sum_dtype
from facecore.losses._triton_blocks import (
    DTYPES,
    FINISH_NUMBERS,
    block_place,
    load_weights,
    total_launch,
    total_of_parts,
)


@triton.jit
def _moments_of_blocks(
    albedo,
    region,
    weights,
    means,
    spreads,
    vertices,
    albedo_n,
    CHANNELS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """Writes weights [N, blocks], means and spreads (sums of squared deviations) [N, blocks, C] of a block."""
    program = tl.program_id(0)
    n, v = block_place(program, vertices, BLOCK)
    v, c = v[:, None], tl.arange(0, WIDTH)[None, :]
    weight = load_weights(region, v, v < vertices, DTYPE)
    at = albedo + n * albedo_n + v * CHANNELS + c
    a = tl.load(at, mask=(weight > 0) & (c < CHANNELS), other=0).to(DTYPE)
    total = tl.sum(weight, axis=0, keep_dims=True)
    mean = tl.sum(weight * a, axis=0, keep_dims=True) / tl.where(total > 0, total, 1.0)
    deviation = tl.where(weight > 0, a - mean, 0.0)
    # The mean was rounded: what the deviations still sum to corrects it and their squares.
    drift = tl.sum(weight * deviation, axis=0, keep_dims=True) / tl.where(total > 0, total, 1.0)
    spread = tl.sum(weight * deviation * deviation, axis=0, keep_dims=True) - total * drift * drift
    to = program.to(tl.int64) * CHANNELS + c
    tl.store(means + to, mean + drift, mask=c < CHANNELS)
    tl.store(spreads + to, tl.where(spread < 0, 0.0, spread), mask=c < CHANNELS)
    tl.store(weights + program, tl.sum(weight))


@triton.jit
def _load_moments(weights, moments, block, c, blocks, CHANNELS: tl.constexpr):
    """weights [BLOCK, 1] and moments [BLOCK, WIDTH] of the blocks of an image, in float64."""
    here = block < blocks
    weight = tl.load(weights + block, mask=here, other=0).to(tl.float64)
    return weight, tl.load(moments + block * CHANNELS + c, mask=here & (c < CHANNELS), other=0).to(tl.float64)


@triton.jit
def _variance_of_images(
    weights,
    means,
    spreads,
    variances,
    centers,
    blocks,
    CHANNELS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Writes variances [N], summed over channels, and centers [N, C], from which the slopes are measured."""
    n = tl.program_id(0).to(tl.int64)
    weights += n * blocks
    means += n * blocks * CHANNELS
    spreads += n * blocks * CHANNELS
    c = tl.arange(0, WIDTH)[None, :]
    weight_sum = tl.zeros([1, 1], tl.float64)
    first = tl.zeros([1, WIDTH], tl.float64)
    for start in range(0, blocks, BLOCK):
        weight, mean = _load_moments(weights, means, start + tl.arange(0, BLOCK)[:, None], c, blocks, CHANNELS)
        weight_sum += tl.sum(weight, axis=0, keep_dims=True)
        first += tl.sum(weight * mean, axis=0, keep_dims=True)
    divisor = tl.maximum(weight_sum, 1.0)
    center = first / divisor
    total = tl.zeros([1, WIDTH], tl.float64)
    for start in range(0, blocks, BLOCK):
        block = start + tl.arange(0, BLOCK)[:, None]
        weight, mean = _load_moments(weights, means, block, c, blocks, CHANNELS)
        _, spread = _load_moments(weights, spreads, block, c, blocks, CHANNELS)
        moved = tl.where(weight > 0, mean - center, 0.0)
        total += tl.sum(spread + weight * moved * moved, axis=0, keep_dims=True)
    real = c < CHANNELS
    # The mean divides by the divisor, too, so the center itself moves the loss where the weights sum to less than 1.
    tl.store(centers + n * CHANNELS + c, center + (first - center * weight_sum) / divisor, mask=real)
    tl.store(variances + n, tl.sum(tl.where(real, total / divisor, 0.0)))


@triton.jit
def _weights_of_blocks(region, weights, vertices, BLOCK: tl.constexpr, DTYPE: tl.constexpr):
    """Writes the sums of the region's weights, [blocks]."""
    program = tl.program_id(0)
    v = program * BLOCK + tl.arange(0, BLOCK)
    tl.store(weights + program, tl.sum(load_weights(region, v, v < vertices, DTYPE)))


@triton.jit
def _gradient_of_blocks(
    grad,
    albedo,
    region,
    weights,
    centers,
    grad_albedo,
    images,
    vertices,
    weight_blocks,
    albedo_n,
    CHANNELS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    WEIGHT_BLOCK: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """Writes the gradient [N, V, C], contiguous, of a block; every program adds up weights [weight_blocks]."""
    n, v = block_place(tl.program_id(0), vertices, BLOCK)
    v, c = v[:, None], tl.arange(0, WIDTH)[None, :]
    divisor = tl.maximum(total_of_parts(weights, tl.arange(0, 1)[:, None], 1, weight_blocks, WEIGHT_BLOCK), 1.0)
    scale = (2.0 * tl.load(grad).to(tl.float64) / (divisor * images)).to(DTYPE)
    weight = load_weights(region, v, v < vertices, DTYPE)
    counts = (weight > 0) & (c < CHANNELS)
    a = tl.load(albedo + n * albedo_n + v * CHANNELS + c, mask=counts, other=0).to(DTYPE)
    center = tl.load(centers + n * CHANNELS + c, mask=c < CHANNELS, other=0)
    slope = tl.where(counts, scale * weight * (a - center), 0.0)
    tl.store(grad_albedo + (n * vertices + v) * CHANNELS + c, slope, mask=(v < vertices) & (c < CHANNELS))


def value_launches(
    albedo: torch.Tensor, region: torch.Tensor, value: torch.Tensor, centers: torch.Tensor
) -> list[Launch]:
    """The kernels that write value [] and centers [N, C]."""
    arguments, blocks = _blocks(albedo, region)
    images, _, channels = albedo.shape
    weights = torch.empty((images, blocks), dtype=value.dtype, device=value.device)
    means, spreads = torch.empty((2, images, blocks, channels), dtype=value.dtype, device=value.device)
    variances = torch.empty(images, dtype=torch.float64, device=value.device)
    moments = {"weights": weights, "means": means, "spreads": spreads}
    width = arguments["WIDTH"]
    finish = {
        **moments,
        "variances": variances,
        "centers": centers,
        "blocks": blocks,
        "CHANNELS": channels,
        "WIDTH": width,
        "BLOCK": block_size(blocks, max(FINISH_NUMBERS // width, 1)),
    }
    return [
        Launch(_moments_of_blocks, images * blocks, {**arguments, **moments}),
        Launch(_variance_of_images, images, finish),
        total_launch(variances, value, 1.0 / max(images, 1)),
    ]


def gradient_launches(
    grad: torch.Tensor, albedo: torch.Tensor, region: torch.Tensor, centers: torch.Tensor, grad_albedo: torch.Tensor
) -> list[Launch]:
    """The kernels that read grad [] and write grad_albedo, contiguous."""
    arguments, blocks = _blocks(albedo, region)
    vertices = albedo.shape[1]
    block = block_size(vertices)
    weights = torch.empty(block_count(vertices, block), dtype=centers.dtype, device=centers.device)
    sums = {"region": arguments["region"], "weights": weights, "vertices": vertices, "BLOCK": block}
    more = {
        "grad": grad,
        "weights": weights,
        "weight_blocks": weights.numel(),
        "WEIGHT_BLOCK": block_size(weights.numel(), FINISH_NUMBERS),
        "centers": centers.contiguous(),
        "grad_albedo": grad_albedo,
        "images": albedo.shape[0],
    }
    return [
        Launch(_weights_of_blocks, weights.numel(), {**sums, "DTYPE": arguments["DTYPE"]}),
        Launch(_gradient_of_blocks, albedo.shape[0] * blocks, {**arguments, **more}),
    ]


def _blocks(albedo: torch.Tensor, region: torch.Tensor) -> tuple[dict[str, Any], int]:
    """What the kernels of albedo take, and the blocks of an image."""
    albedo = packed_images(albedo)
    _, vertices, channels = albedo.shape
    width = power_of_two(channels)
    block = block_size(vertices, max(1024 // width, 1))
    arguments = {
        "albedo": albedo,
        "region": region.contiguous(),
        "vertices": vertices,
        "albedo_n": albedo.stride(0),
        "CHANNELS": channels,
        "WIDTH": width,
        "BLOCK": block,
        "DTYPE": DTYPES[sum_dtype(albedo.dtype)],
    }
    return arguments, block_count(vertices, block)
