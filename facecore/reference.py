"""The definition of every operator in plain PyTorch: the oracle of the tests and the baseline of the benchmarks.

Differentiable to any order through autograd, on any device and floating dtype; slow on purpose where clarity asks.
"""

from __future__ import annotations

import math

import torch

from facecore.reference_rasterize import barycentrics as barycentrics
from facecore.reference_rasterize import rasterize as rasterize
from facecore.reference_uv import uv_sample as uv_sample
from facecore.reference_uv import uv_unwrap as uv_unwrap
from facecore.structures import SparseMatrix


def interpolate(
    attributes: torch.Tensor, triangles: torch.Tensor, triangle_id: torch.Tensor, barycentric: torch.Tensor
) -> torch.Tensor:
    """Definition of facecore.ops.interpolate: [N, H, W, C]."""
    n = attributes.shape[0]
    if triangles.shape[0] == 0 or triangle_id.numel() == 0:
        return attributes.new_zeros(*triangle_id.shape, attributes.shape[2])
    covered = (triangle_id >= 0) & (triangle_id < triangles.shape[0])
    corners = triangles.long()[torch.where(covered, triangle_id, 0).long()]  # [N, H, W, 3]
    image = torch.arange(n, device=attributes.device).view(n, 1, 1, 1)
    values = attributes[image, corners]  # [N, H, W, 3, C]
    color = (barycentric.unsqueeze(-1) * values).sum(-2)
    return torch.where(covered.unsqueeze(-1), color, color.new_zeros(()))


def sparse_matmul(matrix: SparseMatrix, x: torch.Tensor) -> torch.Tensor:
    """Definition of facecore.ops.sparse_matmul: [N, R, F]."""
    counts = matrix.crow_indices.long().diff()
    row = torch.repeat_interleave(torch.arange(matrix.shape[0], device=x.device), counts)
    products = matrix.values[:, None] * x[:, matrix.col_indices.long()]  # [N, nnz, F]
    return x.new_zeros(x.shape[0], matrix.shape[0], x.shape[2]).index_add(1, row, products)


def chebyshev_conv(
    x: torch.Tensor,
    laplacian: SparseMatrix,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    before: SparseMatrix | None = None,
    after: SparseMatrix | None = None,
    negative_slope: float | None = None,
) -> torch.Tensor:
    """Definition of facecore.ops.chebyshev_conv: [N, V, Fout]."""
    terms = [x if before is None else sparse_matmul(before, x)]
    for k in range(1, weight.shape[0]):
        product = sparse_matmul(laplacian, terms[-1])
        terms.append(product if k == 1 else 2 * product - terms[-2])
    out = sum((term @ weight[k] for k, term in enumerate(terms)), x.new_zeros(()))
    out = out if after is None else sparse_matmul(after, out)
    out = out if bias is None else out + bias
    if negative_slope is None:
        return out
    return torch.relu(out) if negative_slope == 0 else torch.nn.functional.leaky_relu(out, negative_slope)


def vertex_normals(vertices: torch.Tensor, triangles: torch.Tensor) -> torch.Tensor:
    """Definition of facecore.ops.vertex_normals: [N, V, 3]."""
    index = triangles.long()
    a, b, c = vertices[:, index].unbind(2)  # [N, T, 3]
    scale = (b - a).norm(dim=-1, keepdim=True) * (c - a).norm(dim=-1, keepdim=True)
    unit = _unit_or_zero(torch.linalg.cross(b - a, c - a), scale.detach())
    total = torch.zeros_like(vertices)
    for corner in range(3):
        total = total.index_add(1, index[:, corner], unit)
    return _unit_or_zero(total, total.new_ones(()))


def _unit_or_zero(vector: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The direction of a vector, or zero with zero gradient if its length is at most 1e-6 of its natural scale."""
    squared = vector.square().sum(-1, keepdim=True)
    defined = squared > 1e-12 * scale.square()
    return torch.where(defined, vector / torch.where(defined, squared, 1.0).sqrt(), 0.0)


def sh_shading(normals: torch.Tensor, sh_coefficients: torch.Tensor) -> torch.Tensor:
    """Definition of facecore.ops.sh_shading: [N, ..., 3], the basis as METHODS 1.5 states it."""
    a = (math.pi, 2 * math.pi / math.sqrt(3), 2 * math.pi / math.sqrt(8))
    c = (1 / math.sqrt(4 * math.pi), math.sqrt(3) / math.sqrt(4 * math.pi), 3 * math.sqrt(5) / math.sqrt(12 * math.pi))
    x, y, z = normals.unbind(-1)
    basis = torch.stack(
        [
            a[0] * c[0] * torch.ones_like(x),
            -a[1] * c[1] * y,
            a[1] * c[1] * z,
            -a[1] * c[1] * x,
            a[2] * c[2] * x * y,
            -a[2] * c[2] * y * z,
            a[2] * c[2] / (2 * math.sqrt(3)) * (3 * z**2 - 1),
            -a[2] * c[2] * x * z,
            a[2] * c[2] / 2 * (x**2 - y**2),
        ],
        dim=-1,
    )
    return torch.einsum("n...b,nbc->n...c", basis, sh_coefficients)


def surface_shading(
    normals: torch.Tensor, albedo: torch.Tensor, sh_coefficients: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Definition of facecore.ops.surface_shading: colour, shading, unit normals, [N, ..., 3] each."""
    squared = normals.detach().square().sum(-1, keepdim=True)
    defined = (squared > 1e-12) & (squared < torch.inf)
    unit = _unit_or_zero(torch.where(defined, normals, 0.0), normals.new_ones(()))
    shading = torch.where(defined, sh_shading(unit, sh_coefficients), 0.0)
    return torch.where(defined, albedo * shading, 0.0), shading, unit
