"""sparse_matmul: a Laplacian, up- and downsampling; facecore, gather and index_add, torch's products, scipy's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from floor import Work
from graph_layers import FLOAT, coo_product, csr_product, expert_product, hierarchy, once
from harness import Suite

from facecore import ops, reference
from facecore.mesh import laplacian
from facecore.structures import SparseMatrix

KINDS = ("laplacian", "up", "down")  # about 7, up to 3, and 1 non-zeros per row


@functools.cache
def finest_laplacian() -> SparseMatrix:
    """Kept: its largest eigenvalue takes longer than what is timed."""
    return laplacian(hierarchy("grid").levels[0])


def make_inputs(
    device: torch.device, generator: torch.Generator, *, images: int, kind: int, features: int
) -> tuple[Any, ...]:
    """On the finest two levels: [37k, 37k], [37k, 9k] or [9k, 37k]."""
    levels = hierarchy("grid")
    matrix = (finest_laplacian(), levels.up[0], levels.down[0])[kind].to(device)
    x = torch.randn(images, matrix.shape[1], features, generator=generator)
    return matrix, x.to(device).requires_grad_()


def columns_of(product: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """One product of [V, N * F] for the whole batch."""

    def multiply(matrix: SparseMatrix, x: torch.Tensor) -> torch.Tensor:
        n, v, f = x.shape
        return product(matrix, x.transpose(0, 1).reshape(v, n * f)).view(-1, n, f).transpose(0, 1)

    return multiply


def scipy_product() -> Callable[..., torch.Tensor]:
    csr = once(SparseMatrix.to_scipy)

    def multiply(matrix: SparseMatrix, x: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() or x.is_cuda:
            pytest.skip("scipy multiplies on the CPU and has no gradients")
        return torch.from_numpy(csr(matrix) @ x.numpy())

    return columns_of(multiply)


def work(matrix: SparseMatrix, x: torch.Tensor, *, mode: str) -> list[Work]:
    """The matrix, x and the result once; forward and backward are two such products."""
    images, _, features = x.shape
    moved = 2 * FLOAT * matrix.num_nonzeros + FLOAT * images * features * sum(matrix.shape)
    passes = 1 if mode == "forward" else 2
    return [Work(passes * 2.0 * images * features * matrix.num_nonzeros, passes * moved, moved)]


suite = Suite(
    op="sparse_matmul",
    providers={
        "facecore": ops.sparse_matmul,
        "reference": reference.sparse_matmul,
        "torch CSR, transposed backward": columns_of(expert_product()),
        "torch CSR": columns_of(csr_product()),
        "torch COO": columns_of(coo_product()),
        "scipy": scipy_product(),
    },
    cases={
        f"{KINDS[kind]}_{features}_b{images}": {"images": images, "kind": kind, "features": features}
        for kind, features, images in (
            *((0, 16, images) for images in (1, 8, 32)),
            *((0, 64, 1), (0, 3, 8)),
            *((kind, 16, images) for kind in (1, 2) for images in (1, 8, 32)),
        )
    },
    make_inputs=make_inputs,
    work=work,
)
bench_sparse_matmul = suite.benchmark()
