"""How far results of one topology lie apart: root-mean-square distance of corresponding vertices, nothing aligned."""

from __future__ import annotations

import itertools

import torch


def vertex_rms(vertices: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Root of the mean squared distance of corresponding vertices, [N], of [N, V, 3] each; nothing is aligned.

    Raises ValueError for shapes that differ or no vertices.
    """
    if vertices.shape != target.shape or vertices.ndim != 3 or vertices.shape[2] != 3 or vertices.shape[1] == 0:
        raise ValueError(
            f"vertices and target must both be [N, V >= 1, 3], got {list(vertices.shape)}, {list(target.shape)}"
        )
    return (vertices - target).square().sum(2).mean(1).sqrt()


def pairwise_rms(vertices: torch.Tensor) -> torch.Tensor:
    """`vertex_rms` of every pair of M faces [M, V, 3], [M (M - 1) / 2]; pairs (0, 1), (0, 2), ..., (1, 2), ..."""
    pairs = list(itertools.combinations(range(len(vertices)), 2))
    if not pairs:
        return vertices.new_zeros(0)
    first, second = torch.tensor(pairs, device=vertices.device).T
    return vertex_rms(vertices[first], vertices[second])
