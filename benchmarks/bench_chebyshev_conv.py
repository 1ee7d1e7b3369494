"""chebyshev_conv: facecore, the plain recurrence (gather and index_add), torch's CSR product, PyTorch Geometric.

The Laplacian is the symmetric one with lambda_max = 2, the only one that PyTorch Geometric's layer computes itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from bench_sparse_matmul import Csr
from grid import bent_grid
from harness import Suite, peer

from facecore import ops, reference
from facecore.mesh import laplacian
from facecore.structures import SparseMatrix


def make_inputs(
    device: torch.device,
    generator: torch.Generator,
    *,
    images: int,
    rows: int,
    columns: int,
    fan_in: int,
    fan_out: int,
    terms: int,
) -> tuple[Any, ...]:
    matrix = laplacian(bent_grid(rows, columns), "symmetric").to(device)
    x = torch.randn(images, rows * columns, fan_in, generator=generator).to(device)
    weight = torch.randn(terms, fan_in, fan_out, generator=generator).to(device) / (terms * fan_in) ** 0.5
    bias = torch.randn(fan_out, generator=generator).to(device)
    return x.requires_grad_(), matrix, weight.requires_grad_(), bias.requires_grad_()


def torch_csr() -> Callable[..., torch.Tensor]:
    """The recurrence on [V, N * Fin] by torch's CSR product, then one dense product."""
    product = Csr()

    def convolve(x: torch.Tensor, matrix: SparseMatrix, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        terms = [x]
        for k in range(1, weight.shape[0]):
            following = product(matrix, terms[-1])
            terms.append(following if k == 1 else 2 * following - terms[-2])
        return torch.cat(terms, -1) @ weight.flatten(0, 1) + bias

    return convolve


def torch_geometric() -> Callable[..., torch.Tensor]:
    from torch_geometric.nn import ChebConv

    known: list[Any] = [None, None]  # the matrix and its edges, made once as in a module that holds them

    def convolve(x: torch.Tensor, matrix: SparseMatrix, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        if known[0] is not matrix:
            counts = matrix.crow_indices.long().diff()
            row = torch.repeat_interleave(torch.arange(len(counts), device=x.device), counts)
            known[:] = matrix, torch.stack((row, matrix.col_indices.long()))  # the diagonal is empty: all are edges
        terms, fan_in, fan_out = weight.shape
        layer = ChebConv(fan_in, fan_out, terms, normalization="sym").to(x.device)
        parameters = {f"lins.{k}.weight": weight[k].t() for k in range(terms)} | {"bias": bias}
        return torch.func.functional_call(layer, parameters, (x, known[1]))

    return convolve


FACE = {"rows": 193, "columns": 193, "terms": 6}  # 37,249 vertices: a refined face mesh
suite = Suite(
    op="chebyshev_conv",
    providers={
        "facecore": ops.chebyshev_conv,
        "reference": reference.chebyshev_conv,
        "torch CSR": torch_csr(),
        "torch_geometric": peer("torch_geometric", torch_geometric),
    },
    cases={
        "face_37k_32_16_b1": {"images": 1, "fan_in": 32, "fan_out": 16, **FACE},
        "face_37k_32_16_b8": {"images": 8, "fan_in": 32, "fan_out": 16, **FACE},
        "face_37k_16_3_b1": {"images": 1, "fan_in": 16, "fan_out": 3, **FACE},
        "face_37k_3_16_b1": {"images": 1, "fan_in": 3, "fan_out": 16, **FACE},
        "face_9k_32_16_b8": {"images": 8, "rows": 97, "columns": 97, "terms": 6, "fan_in": 32, "fan_out": 16},
    },
    make_inputs=make_inputs,
)
bench_chebyshev_conv = suite.benchmark()
