"""sparse_matmul: facecore, gather and index_add, torch's CSR product with a backward by the transpose."""

from __future__ import annotations

from typing import Any

import torch
from grid import bent_grid
from harness import Suite

from facecore import ops, reference
from facecore.mesh import laplacian
from facecore.structures import SparseMatrix


def make_inputs(
    device: torch.device, generator: torch.Generator, *, images: int, rows: int, columns: int, features: int
) -> tuple[Any, ...]:
    """The Laplacian of a grid, about 7 non-zeros per row."""
    matrix = laplacian(bent_grid(rows, columns)).to(device)
    x = torch.randn(images, rows * columns, features, generator=generator)
    return matrix, x.to(device).requires_grad_()


class TransposedProduct(torch.autograd.Function):
    """torch's CSR product, its gradient by the stored transpose: the best an expert gets from torch."""

    @staticmethod
    def forward(ctx: Any, forward: torch.Tensor, backward: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        ctx.backward_matrix = backward
        return forward @ x

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[None, None, torch.Tensor]:
        return None, None, ctx.backward_matrix @ grad


def torch_csr(matrix: SparseMatrix) -> torch.Tensor:
    return torch.sparse_csr_tensor(matrix.crow_indices, matrix.col_indices, matrix.values, size=matrix.shape)


class Csr:
    """sparse_matmul by torch; the CSR tensors are made once for a matrix, as in a module that holds them."""

    def __init__(self) -> None:
        self.matrix: SparseMatrix | None = None

    def __call__(self, matrix: SparseMatrix, x: torch.Tensor) -> torch.Tensor:
        if self.matrix is not matrix:
            self.matrix, self.forward, self.backward = matrix, torch_csr(matrix), torch_csr(matrix.transposed)
        n, v, f = x.shape
        columns = x.transpose(0, 1).reshape(v, n * f)
        return TransposedProduct.apply(self.forward, self.backward, columns).view(-1, n, f).transpose(0, 1)


suite = Suite(
    op="sparse_matmul",
    providers={"facecore": ops.sparse_matmul, "reference": reference.sparse_matmul, "torch CSR": Csr()},
    cases={
        "face_37k_16_b1": {"images": 1, "rows": 193, "columns": 193, "features": 16},
        "face_37k_64_b1": {"images": 1, "rows": 193, "columns": 193, "features": 64},
        "face_37k_3_b8": {"images": 8, "rows": 193, "columns": 193, "features": 3},
    },
    make_inputs=make_inputs,
)
bench_sparse_matmul = suite.benchmark()
