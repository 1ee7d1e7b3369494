"""smoothness_loss: facecore, gather and index_add (also compiled), torch's CSR product by autograd and by transpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from floor import Work
from graph_layers import csr_product, expert_product
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


def work(displacement: torch.Tensor, matrix: SparseMatrix, *, mode: str) -> list[Work]:
    """The product for the value, the transposed one with its signs, which are bits, for the gradient."""
    moved = displacement.nbytes + matrix.num_nonzeros * 8 + matrix.crow_indices.nbytes
    product = Work(2.0 * matrix.num_nonzeros * displacement.numel() / displacement.shape[1], moved, moved)
    return [product] if mode == "forward" else [product, product]


def by_product(product: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The loss by a sparse product of one large batch of columns [V, N * 3], as torch's wants it."""

    def loss(displacement: torch.Tensor, matrix: SparseMatrix) -> torch.Tensor:
        n, v, f = displacement.shape
        return product(matrix, displacement.transpose(0, 1).reshape(v, n * f)).abs().mean()

    return loss


suite = loss_suite(
    "smoothness",
    smoothness_loss,
    reference_losses.smoothness_loss,
    {"face_37k_b8": {"images": 8, "rows": 193, "columns": 193}},
    make_inputs,
    work,
    **{"torch CSR": by_product(csr_product()), "torch CSR, transposed backward": by_product(expert_product())},
)
bench_smoothness = suite.benchmark()
