"""The debug switch: per-call checks that cost a pass over the indices (and, on CUDA, a synchronisation)."""

from __future__ import annotations

import os

import torch

_enabled = os.environ.get("FACECORE_DEBUG", "0") not in ("", "0")


def set_debug(enabled: bool) -> bool:
    """Turns per-call validation of vertex indices on or off and returns the setting before.

    The environment variable FACECORE_DEBUG=1 turns it on at import. Off, an index out of range is never read: its
    triangle is skipped. On, it raises ValueError.
    """
    global _enabled
    before, _enabled = _enabled, bool(enabled)
    return before


def check_indices(name: str, indices: torch.Tensor, size: int) -> None:
    """In debug mode, raises ValueError when `indices` leave [0, size)."""
    if not _enabled or indices.numel() == 0:
        return
    low, high = (int(x) for x in torch.aminmax(indices))
    if low < 0 or high >= size:
        raise ValueError(f"{name} must index {size} vertices, 0 to {size - 1}, got values from {low} to {high}")
