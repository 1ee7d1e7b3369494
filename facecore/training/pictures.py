"""Pictures side by side, for the grids that a training shows."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def rows_of_pictures(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Rows of N pictures [N, 3, H, W], cut to [0, 1], as one picture [3, rows * H, N * W] on the CPU."""
    return torch.cat([torch.cat(list(row.clamp(0, 1)), dim=2) for row in rows], dim=1).cpu()
