"""Chebyshev graph convolution as a layer, and sparse matrices as part of a module."""

from __future__ import annotations

import math

import torch
from torch import nn

from facecore.mesh import Mesh, laplacian
from facecore.mesh.laplacian import LaplacianKind
from facecore.ops import chebyshev_conv
from facecore.structures import SparseMatrix, TrustedSparseMatrix

_ARRAYS = (
    "crow_indices",
    "col_indices",
    "values",
    "transposed_crow_indices",
    "transposed_col_indices",
    "transposed_values",
)


class SparseBuffers(nn.Module):
    """A SparseMatrix that moves and changes its dtype with the module it is in, and is not part of the state dict."""

    crow_indices: torch.Tensor
    col_indices: torch.Tensor
    values: torch.Tensor
    transposed_crow_indices: torch.Tensor
    transposed_col_indices: torch.Tensor
    transposed_values: torch.Tensor

    def __init__(self, matrix: SparseMatrix) -> None:
        super().__init__()
        if not isinstance(matrix, SparseMatrix):
            raise ValueError(f"matrix must be a SparseMatrix, got {type(matrix).__name__}")
        self.shape = matrix.shape
        self.lambda_max = matrix.lambda_max
        for name in _ARRAYS:
            self.register_buffer(name, getattr(matrix, name), persistent=False)

    @property
    def matrix(self) -> SparseMatrix:
        return TrustedSparseMatrix(
            self.shape,
            self.crow_indices,
            self.col_indices,
            self.values,
            self.transposed_crow_indices,
            self.transposed_col_indices,
            self.transposed_values,
            self.lambda_max,
        )

    def extra_repr(self) -> str:
        return f"{self.shape[0]} x {self.shape[1]}"


def laplacian_buffers(mesh: Mesh, kind: LaplacianKind) -> SparseBuffers:
    """The scaled Laplacian of a mesh for a module. Raises ValueError for a kind whose spectrum leaves [-1, 1]."""
    if kind not in ("combinatorial", "symmetric"):
        raise ValueError(f'kind must be "combinatorial" or "symmetric" for a Chebyshev convolution, got {kind!r}')
    return SparseBuffers(laplacian(mesh, kind))


class ChebConv(nn.Module):
    """y = sum_k T_k(laplacian) x weight[k] + bias on the vertices of one mesh: [N, V, Fin] -> [N, V, Fout].

    With `before` [V, Vin] or `after` [Vout, V] the input lies on, or the result is taken to, the vertices of another
    level; that is much cheaper than a sparse_matmul of its own (see facecore.ops.chebyshev_conv).

    Args:
        in_features, out_features: Fin, Fout.
        num_terms: K >= 1, the orders 0 to K-1.
        laplacian: facecore.mesh.laplacian(mesh), eigenvalues in [-1, 1]; or SparseBuffers to share one among layers.
        bias: one number per output feature.
        before, after: SparseMatrix, or None for no change of resolution.
        negative_slope: of an activation fused into the layer: 0 for ReLU, 0.2 for LeakyReLU(0.2); None for none.

    `weight` [K, Fin, Fout] starts Glorot-uniform with fan_in K * Fin and fan_out Fout, `bias` [Fout] at zero. The
    matrices follow .to(device) and .double(), and are not in the state dict. METHODS 1.6.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_terms: int,
        laplacian: SparseMatrix | SparseBuffers,
        bias: bool = True,
        *,
        before: SparseMatrix | None = None,
        after: SparseMatrix | None = None,
        negative_slope: float | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("in_features", in_features), ("out_features", out_features), ("num_terms", num_terms)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.laplacian = laplacian if isinstance(laplacian, SparseBuffers) else SparseBuffers(laplacian)
        self.before = None if before is None else SparseBuffers(before)
        self.after = None if after is None else SparseBuffers(after)
        self.negative_slope = negative_slope
        self.weight = nn.Parameter(torch.empty(num_terms, in_features, out_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        num_terms, in_features, out_features = self.weight.shape
        bound = math.sqrt(6 / (num_terms * in_features + out_features))
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return chebyshev_conv(
            x,
            self.laplacian.matrix,
            self.weight,
            self.bias,
            before=None if self.before is None else self.before.matrix,
            after=None if self.after is None else self.after.matrix,
            negative_slope=self.negative_slope,
        )

    def extra_repr(self) -> str:
        num_terms, in_features, out_features = self.weight.shape
        activation = "" if self.negative_slope is None else f", negative_slope={self.negative_slope}"
        return f"{in_features}, {out_features}, num_terms={num_terms}, bias={self.bias is not None}{activation}"
