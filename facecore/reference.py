"""The definition of every operator in plain PyTorch: the oracle of the tests and the baseline of the benchmarks.

Differentiable to any order through autograd, on any device and floating dtype; slow on purpose where clarity asks.
"""

from __future__ import annotations

import torch

from facecore.structures import SparseMatrix


def interpolate(
    attributes: torch.Tensor, triangles: torch.Tensor, triangle_id: torch.Tensor, barycentric: torch.Tensor
) -> torch.Tensor:
    """Definition of facecore.ops.interpolate: [N, H, W, C]."""
    n = attributes.shape[0]
    if triangles.shape[0] == 0 or triangle_id.numel() == 0:
        return attributes.new_zeros(*triangle_id.shape, attributes.shape[2])
    corners = triangles.long()[triangle_id.clamp_min(0).long()]  # [N, H, W, 3]
    image = torch.arange(n, device=attributes.device).view(n, 1, 1, 1)
    values = attributes[image, corners]  # [N, H, W, 3, C]
    color = (barycentric.unsqueeze(-1) * values).sum(-2)
    return torch.where((triangle_id >= 0).unsqueeze(-1), color, color.new_zeros(()))


def sparse_matmul(matrix: SparseMatrix, x: torch.Tensor) -> torch.Tensor:
    """Definition of facecore.ops.sparse_matmul: [N, R, F]."""
    counts = matrix.crow_indices.long().diff()
    row = torch.repeat_interleave(torch.arange(matrix.shape[0], device=x.device), counts)
    products = matrix.values[:, None] * x[:, matrix.col_indices.long()]  # [N, nnz, F]
    return x.new_zeros(x.shape[0], matrix.shape[0], x.shape[2]).index_add(1, row, products)


def chebyshev_conv(
    x: torch.Tensor, laplacian: SparseMatrix, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Definition of facecore.ops.chebyshev_conv: [N, V, Fout]."""
    terms = [x]
    for k in range(1, weight.shape[0]):
        product = sparse_matmul(laplacian, terms[-1])
        terms.append(product if k == 1 else 2 * product - terms[-2])
    out = sum((term @ weight[k] for k, term in enumerate(terms)), x.new_zeros(()))
    return out if bias is None else out + bias
