"""Coarse random grids as smooth pictures."""

from __future__ import annotations

import functools

import torch


def enlarged(grid: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Grids [N, C, h, w] bilinearly enlarged to [N, C, height, width], their corner knots at the corner pixels.

    That of torch.nn.functional.interpolate(align_corners=True), by one matrix product for each axis: several times
    faster on CPUs for the small grids that backgrounds are drawn from. Differentiable; deterministic on one device.
    """
    along_v, along_u = (
        _weights(size, knots, grid.dtype, grid.device)
        for size, knots in ((height, grid.shape[2]), (width, grid.shape[3]))
    )
    return along_v @ grid @ along_u.T


@functools.lru_cache(maxsize=64)  # the sizes of one configuration's grids and pictures
@torch.inference_mode(False)  # kept for later calls, so it must not become an inference tensor
def _weights(size: int, knots: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """What each knot gives to each of `size` places, [size, knots]: hat functions."""
    place = torch.linspace(0, knots - 1, size, dtype=torch.float64)
    distance = (place[:, None] - torch.arange(knots, dtype=torch.float64)).abs()
    return (1 - distance).clamp_min(0).to(device, dtype)
