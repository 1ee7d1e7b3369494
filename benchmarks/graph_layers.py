"""Chebyshev layers and networks of them as people write them with torch, and what such a layer has to do at least.

A layer is a function of (x, laplacian, weight, bias, before, after, negative_slope), as facecore.ops.chebyshev_conv.
"""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from floor import Work
from grid import bent_grid
from harness import Function, Provider, peer

from facecore import morphable, ops, reference
from facecore.mesh import Hierarchy, Mesh, build_hierarchy
from facecore.nn import MeshDecoder, MeshDiscriminator
from facecore.structures import SparseMatrix

DATA = os.environ.get("FACECORE_TEST_DATA")
FACTORS = (4, 4, 4, 4, 2)  # METHODS 2.1
MANY = 8  # images; with more only facecore and the expert's version are run: the others take minutes and gigabytes
FLOAT = 4  # bytes
Product = Callable[[SparseMatrix, torch.Tensor], torch.Tensor]  # matrix @ [V, columns]


@functools.lru_cache
def hierarchy(name: str) -> Hierarchy:
    """ "grid": 37,249 vertices of the bent grid; "ict": the 37,280 of the ICT face."""
    if name == "grid":
        return build_hierarchy(bent_grid(193, 193), FACTORS)
    model = morphable.load(pathlib.Path(str(DATA)) / "ict_facekit.npz", region="face", refine=1)
    return build_hierarchy(Mesh(model.mean_shape(), model.triangles), FACTORS)


class TransposedProduct(torch.autograd.Function):
    """torch's CSR product, its gradient by the stored transpose: the best an expert gets from torch."""

    @staticmethod
    def forward(ctx: Any, forward: torch.Tensor, backward: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        ctx.matrices = backward, forward
        return forward @ x

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[None, None, torch.Tensor]:
        return None, None, TransposedProduct.apply(*ctx.matrices, grad)


def torch_csr(matrix: SparseMatrix) -> torch.Tensor:
    return torch.sparse_csr_tensor(matrix.crow_indices, matrix.col_indices, matrix.values, size=matrix.shape)


def once(make: Callable[[SparseMatrix], Any]) -> Callable[[SparseMatrix], Any]:
    """Makes something of each matrix once, as in a module that holds it."""
    made: dict[int, tuple[torch.Tensor, Any]] = {}

    def get(matrix: SparseMatrix) -> Any:
        key = id(matrix.values)  # the containers come and go, their tensors stay
        if key not in made:
            made[key] = matrix.values, make(matrix)
        return made[key][1]

    return get


def expert_product() -> Product:
    both = once(lambda matrix: (torch_csr(matrix), torch_csr(matrix.transposed)))
    return lambda matrix, x: TransposedProduct.apply(*both(matrix), x)


def csr_product() -> Product:
    """Its gradient as autograd makes it: by transposing the matrix in every backward."""
    csr = once(torch_csr)
    return lambda matrix, x: csr(matrix) @ x


def coo_product() -> Product:
    coo = once(lambda matrix: torch_csr(matrix).to_sparse_coo().coalesce())
    return lambda matrix, x: torch.sparse.mm(coo(matrix), x)


def vertex_major(product: Product, coma: bool = False) -> Function:
    """A layer on x [V, N, F]: every sparse product is one of [V, N * F]; the terms side by side, then the weights.

    coma: the terms of a feature next to each other, as in the networks that followed COMA.
    """

    def resample(matrix: SparseMatrix | None, x: torch.Tensor) -> torch.Tensor:
        return x if matrix is None else product(matrix, x.flatten(1)).view(-1, *x.shape[1:])

    def layer(x: Any, laplacian: Any, weight: Any, bias: Any, before: Any, after: Any, slope: Any) -> torch.Tensor:
        x = resample(before, x)
        terms = [x.flatten(1)]
        for k in range(1, weight.shape[0]):
            following = product(laplacian, terms[-1])
            terms.append(following if k == 1 else 2 * following - terms[-2])
        if coma:
            stacked = torch.stack(terms).view(-1, *x.shape).permute(1, 2, 3, 0)
            out = stacked.reshape(-1, weight.shape[0] * weight.shape[1]) @ weight.transpose(0, 1).flatten(0, 1)
        else:
            out = torch.cat([term.view_as(x) for term in terms], -1).flatten(0, 1) @ weight.flatten(0, 1)
        return activate(resample(after, (out if bias is None else out + bias).view(*x.shape[:2], -1)), slope)

    return layer


def torch_geometric() -> Function:
    """Its ChebConv with these weights; it computes the symmetric Laplacian itself. Resampling by index_add."""
    from torch_geometric.nn import ChebConv

    layers: dict[tuple[int, ...], Any] = {}  # made once: their weights are drawn

    @once
    def edges(matrix: SparseMatrix) -> tuple[torch.Tensor, torch.Tensor]:
        counts = matrix.crow_indices.long().diff()
        row = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
        return row, matrix.col_indices.long()

    stacked = once(lambda matrix: torch.stack(edges(matrix)))  # the diagonal is empty: all are edges

    def resample(matrix: SparseMatrix | None, x: torch.Tensor) -> torch.Tensor:
        if matrix is None:
            return x
        row, column = edges(matrix)
        out = x.new_zeros(x.shape[0], matrix.shape[0], x.shape[2])
        return out.index_add(1, row, x[:, column] * matrix.values[:, None])

    def layer(x: Any, laplacian: Any, weight: Any, bias: Any, before: Any, after: Any, slope: Any) -> torch.Tensor:
        size = terms, fan_in, fan_out = tuple(weight.shape)
        if size not in layers:
            layers[size] = ChebConv(fan_in, fan_out, terms, bias=False).to(x.device)
        parameters = {f"lins.{k}.weight": weight[k].t() for k in range(terms)}
        edge_index = stacked(laplacian)
        out = torch.func.functional_call(layers[size], parameters, (resample(before, x), edge_index))
        out = resample(after, out)
        return activate(out if bias is None else out + bias, slope)

    return layer


def activate(x: torch.Tensor, slope: float | None) -> torch.Tensor:
    if slope is None:
        return x
    return torch.relu(x) if slope == 0 else torch.nn.functional.leaky_relu(x, slope)


def of_keywords(function: Function) -> Function:
    """facecore's operator, or its definition, as a layer."""

    def layer(x: Any, laplacian: Any, weight: Any, bias: Any, before: Any, after: Any, slope: Any) -> torch.Tensor:
        return function(x, laplacian, weight, bias, before=before, after=after, negative_slope=slope)

    return layer


def layer_providers() -> dict[str, Function | Provider]:
    def images_first(layer: Function) -> Function:
        return lambda x, *rest: layer(x.transpose(0, 1), *rest).transpose(0, 1)

    return {
        "facecore": of_keywords(ops.chebyshev_conv),
        "reference": few(of_keywords(reference.chebyshev_conv)),
        "torch CSR, transposed backward": images_first(vertex_major(expert_product())),
        "torch CSR": few(images_first(vertex_major(csr_product()))),
        "COMA style": few(images_first(vertex_major(coo_product(), coma=True))),
        "torch_geometric": peer("torch_geometric", lambda: few(torch_geometric())),
    }


def network_providers() -> dict[str, Function | Provider]:
    """Functions of (x, network, *its parameters)."""
    return {
        "facecore": lambda x, network, *parameters: network(x),
        "reference": few(network_of(of_keywords(reference.chebyshev_conv))),
        "torch CSR, transposed backward": network_of(vertex_major(expert_product()), vertices_first=True),
        "torch CSR": few(network_of(vertex_major(csr_product()), vertices_first=True)),
        "COMA style": few(network_of(vertex_major(coo_product(), coma=True), vertices_first=True)),
        "torch_geometric": peer("torch_geometric", lambda: few(network_of(torch_geometric()))),
    }


def few(function: Function) -> Function:
    """Skips batches that are too long for a slow formulation."""

    def limited(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        if x.shape[0] > MANY:
            pytest.skip(f"timed on at most {MANY} images")
        return function(x, *rest)

    return limited


def check_few(sizes: Any) -> dict[str, Any]:
    """The sizes at which agreement is checked: two images at most."""
    return {**sizes, "images": min(2, sizes["images"])}


def network_of(layer: Function, vertices_first: bool = False) -> Function:
    """A MeshDecoder or MeshDiscriminator with another layer. vertices_first: the layer takes [V, N, F].

    Among a million activations one lies within float32's rounding of the kink, and its gradient, on or off, is seen in
    a random projection (1e-2 of the largest): the agreement of networks is checked in float64.
    """

    def run(x: torch.Tensor, network: Any, *parameters: torch.Tensor) -> torch.Tensor:
        decodes = isinstance(network, MeshDecoder)
        if decodes:
            x = torch.relu(network.linear(x)).view(-1, *network.coarse_shape)
        x = x.transpose(0, 1) if vertices_first else x
        for arguments in layers_of(network):
            x = layer(x, *arguments)
        x = x.transpose(0, 1) if vertices_first else x
        return x if decodes else network.linear(x.flatten(1)).squeeze(1)

    return run


def layers_of(network: MeshDecoder | MeshDiscriminator) -> Iterator[tuple[Any, ...]]:
    """(laplacian, weight, bias, before, after, negative_slope) of each convolution."""
    for c in (*network.convolutions, *([network.last] if isinstance(network, MeshDecoder) else ())):
        before, after = (None if m is None else m.matrix for m in (c.before, c.after))
        yield c.laplacian.matrix, c.weight, c.bias, before, after, c.negative_slope


def layer_work(
    x: Any, laplacian: Any, weight: Any, bias: Any, before: Any, after: Any, slope: Any, *, mode: str
) -> list[Work]:
    """Of one layer, x a leaf: dense products at the coarser resolution, recurrences on the narrower side.

    Of `passes`: forward has one dense product and one recurrence; backward two more products and one more recurrence,
    the terms of the narrow side serving the weights' gradient too. A penalty has, after the forward, its gradient with
    respect to x (1, 1), that gradient's derivatives (2, 1), and the backward of the score itself, without x (1, 0), or
    (1, 1) where the recurrence runs on the side of the result.
    """
    return layer_steps(x.shape[0], laplacian, weight, before, after, mode, first=mode == "penalty")


def layer_steps(
    images: int, laplacian: Any, weight: Any, before: Any, after: Any, mode: str, *, first: bool
) -> list[Work]:
    """first: nobody asks for the gradient with respect to the input once the weights' is known."""
    k, fan_in, fan_out = weight.shape
    v = laplacian.shape[0]
    v_in, v_out = v if before is None else before.shape[1], v if after is None else after.shape[0]
    weights_first = fan_out < fan_in or (fan_out == fan_in and before is not None)
    samples, narrow = (v_in, fan_out) if weights_first else (v_out, fan_in)
    dense, recurrences = {"forward": (1, 1), "forward+backward": (3, 2), "penalty": (6, 4)}[mode]
    if first and mode != "forward":
        dense, recurrences = dense - 1, recurrences - (0 if weights_first else 1)
    arguments = FLOAT * (images * (v_in * fan_in + v_out * fan_out) + weight.numel())
    nonzeros = laplacian.num_nonzeros * (k - 1)
    state = FLOAT * v * narrow  # one term of one image
    matrix = (FLOAT + FLOAT) * laplacian.num_nonzeros  # values and column indices
    step_bytes = (k - 1) * (matrix + images * 3 * state)  # each step reads two terms and writes one
    return [
        Work(dense * 2.0 * images * samples * weight.numel(), dense * arguments, arguments),
        Work(recurrences * 2.0 * images * nonzeros * narrow, recurrences * step_bytes, matrix + 3 * state),
    ]


def network_work(x: torch.Tensor, network: Any, *parameters: torch.Tensor, mode: str) -> list[Work]:
    """Of all convolutions and the fully connected layer, whose weights are read once per product."""
    images, steps = x.shape[0], []
    for index, (laplacian, weight, _, before, after, _) in enumerate(layers_of(network)):
        first = index == 0 and mode == "penalty"
        steps += layer_steps(images, laplacian, weight, before, after, mode, first=first)
    weights = FLOAT * network.linear.weight.numel()
    products = {"forward": 1, "forward+backward": 3, "penalty": 6}[mode]
    return [*steps, Work(products * 2.0 * images * network.linear.weight.numel(), products * weights, weights)]
