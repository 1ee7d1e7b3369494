"""The debug switch: per-call checks that cost a pass over the indices (and, on CUDA, a synchronisation)."""

from __future__ import annotations

import os

import torch

_enabled = os.environ.get("FACECORE_DEBUG", "0") not in ("", "0")


def set_debug(enabled: bool) -> bool:
    """Turns per-call validation of indices on or off and returns the setting before.

    The environment variable FACECORE_DEBUG=1 turns it on at import. On, a vertex index out of range in rasterize,
    interpolate, vertex_normals, the UVMap of uv_unwrap or the mirror_map of symmetry_loss, and a triangle_id out of
    range in interpolate or uv_unwrap, raises ValueError. Off, rasterize does not draw such a triangle, interpolate
    takes its pixels, and those of such a triangle_id, for uncovered, uv_unwrap takes such a texel for empty,
    vertex_normals raises all the same on the CPU and leaves it out on CUDA, and symmetry_loss raises all the same on
    the CPU and is NaN on CUDA. Mesh checks its triangles once and for all.
    """
    global _enabled
    before, _enabled = _enabled, bool(enabled)
    return before


def check_indices(name: str, indices: torch.Tensor, size: int, items: str = "vertices", *, lowest: int = 0) -> None:
    """In debug mode, raises ValueError when `indices` leave [lowest, size); a lowest of -1 stands for no item."""
    if not _enabled or indices.numel() == 0:
        return
    low, high = (int(x) for x in torch.aminmax(indices))
    if low < lowest or high >= size:
        none = " or -1" if lowest < 0 else ""
        raise ValueError(f"{name} must index {size} {items}, 0 to {size - 1}{none}, got values from {low} to {high}")
