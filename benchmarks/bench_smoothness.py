"""smoothness_loss: facecore, gather and index_add (also compiled), torch's CSR product by autograd and by transpose."""

from __future__ import annotations

from typing import Any

import torch
from bench_sparse_matmul import Csr, torch_csr
from grid import bent_grid
from loss_peers import loss_suite

from facecore import reference_losses
from facecore.losses import smoothness_loss
from facecore.mesh import laplacian
from facecore.structures import SparseMatrix


def make_inputs(
    device: torch.device, generator: torch.Generator, *, images: int, rows: int, columns: int
) -> tuple[Any, ...]:
    displacement = torch.randn(images, rows * columns, 3, generator=generator).to(device).requires_grad_()
    return displacement, laplacian(bent_grid(rows, columns), kind="random_walk").to(device)


class EagerCsr:
    """torch's CSR product and its own derivative; the CSR tensor is made once for a matrix."""

    def __init__(self) -> None:
        self.matrix: SparseMatrix | None = None

    def __call__(self, displacement: torch.Tensor, matrix: SparseMatrix) -> torch.Tensor:
        if self.matrix is not matrix:
            self.matrix, self.csr = matrix, torch_csr(matrix)
        n, v, f = displacement.shape
        return (self.csr @ displacement.transpose(0, 1).reshape(v, n * f)).abs().mean()


class TransposedCsr:
    """torch's CSR product both ways: the best an expert gets from torch."""

    def __init__(self) -> None:
        self.product = Csr()

    def __call__(self, displacement: torch.Tensor, matrix: SparseMatrix) -> torch.Tensor:
        return self.product(matrix, displacement).abs().mean()


suite = loss_suite(
    "smoothness",
    smoothness_loss,
    reference_losses.smoothness_loss,
    {"face_37k_b8": {"images": 8, "rows": 193, "columns": 193}},
    make_inputs,
    **{"torch CSR": EagerCsr(), "torch CSR, transposed backward": TransposedCsr()},
)
bench_smoothness = suite.benchmark()
