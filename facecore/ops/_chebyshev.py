"""How chebyshev_conv and its gradients are put together from dense products and the two recurrences in C++.

A convolution is y = A sum_k T_k(L) (B x) weight[k]. Two orders of work give it, each with K-1 sparse products:
weights first, h_k = x weight[k] and then sum_k T_k(L) B h_k with the width of the result (`add_sum`), or terms first,
A T_k(L) x for every k with the width of the input (`terms_of`) and then one dense product with all the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from facecore.ops._library import call

# Bytes of a workspace on the CPU: images are taken in groups that fit, so that it stays in the cache and its pages
# are faulted in once. On CUDA the whole batch is one group.
WORKSPACE_BYTES = 8 << 20
# Of an inner dimension: a BLAS divides a longer one among its threads, so that the last bits depend on their number.
_SLICE = 512
_ALIGNMENT = 16  # bytes: rows of a workspace are padded with zeros to whole vectors

Csr = Sequence[torch.Tensor]  # crow_indices, col_indices, values; empty for an absent matrix


class Graph(NamedTuple):
    """A, L, B of a convolution, or their transposes in reverse order for its gradient."""

    num_vertices: int
    laplacian: Csr  # [V, V]
    before: Csr  # [V, Vin]
    after: Csr  # [Vout, V]

    @classmethod
    def of(cls, matrices: Sequence[torch.Tensor | None]) -> Graph:
        """From six tensors each (CSR arrays, then those of the transpose) of the Laplacian, `before` and `after`."""
        laplacian, before, after = (tuple(t for t in matrices[i : i + 3] if t is not None) for i in (0, 6, 12))
        return cls(laplacian[0].shape[0] - 1, laplacian, before, after)


def convolve(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    graph: Graph,
    out: torch.Tensor,
    negative_slope: float = 1.0,
) -> None:
    """Writes A sum_k T_k(L) (B x) weight[k] + bias to `out`, in the cheaper order; negative values times the slope."""
    k, fan_in, fan_out = weight.shape
    if fan_out < fan_in or (fan_out == fan_in and len(graph.before) > 0):
        if not graph.after:
            _weights_first(x, weight, bias, graph, out, negative_slope)
            return
        fine = x.new_empty(x.shape[0], graph.num_vertices, fan_out)
        _weights_first(x, weight, None, graph, fine)
        product(graph.after, fine, out)
        _finish(out, bias, negative_slope)
        return
    flat_weight = _padded(weight, 1).flatten(0, 1)
    for images, terms in terms_of(x, graph, k):
        _dense(terms, flat_weight, _rows_of(out[images]), bias)
        _finish(out[images], None, negative_slope)


def gradients(
    grad_out: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    graph: Graph,
    transposed: Graph,
    grad_x: torch.Tensor | None,
    grad_weight: torch.Tensor | None,
) -> None:
    """Writes the wanted gradients of convolve(x, weight, ...); the weights' uses the terms of the narrower side."""
    k, fan_in, fan_out = weight.shape
    if grad_weight is None:
        if grad_x is not None:
            convolve(grad_out, weight.transpose(1, 2), None, transposed, grad_x)
        return
    if fan_out < fan_in or (fan_out == fan_in and not graph.after):
        back_weight = _padded(weight.transpose(1, 2), 1).flatten(0, 1)
        flat_grad = x.new_zeros(fan_in, back_weight.shape[0])
        for images, terms in terms_of(grad_out, transposed, k):  # B^T T_k(L^T) A^T grad_out, for both gradients
            if grad_x is not None:
                _dense(terms, back_weight, _rows_of(grad_x[images]))
            _add_product(flat_grad, x[images].flatten(0, 1).t(), terms)
        grad_weight.copy_(flat_grad.view(fan_in, k, _padded_width(x, fan_out))[:, :, :fan_out].transpose(0, 1))
        return
    flat_grad = x.new_zeros(k * _padded_width(x, fan_in), fan_out)
    for images, terms in terms_of(x, graph, k):
        _add_product(flat_grad, terms.t(), grad_out[images].flatten(0, 1))
    grad_weight.copy_(flat_grad.view(k, _padded_width(x, fan_in), fan_out)[:, :fan_in])
    if grad_x is not None:
        convolve(grad_out, weight.transpose(1, 2), None, transposed, grad_x)


def product(matrix: Csr, x: torch.Tensor, out: torch.Tensor) -> None:
    """Writes matrix @ x[n] to `out`."""
    call("sparse_matmul", x, (x.shape[0], out.shape[1], x.shape[1], x.shape[2]), (x, *matrix), (out,))


def _weights_first(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    graph: Graph,
    out: torch.Tensor,
    negative_slope: float = 1.0,
) -> None:
    """sum_k T_k(L) B (x weight[k]) + bias, without A: one dense product and Clenshaw's recurrence."""
    k, fan_in, fan_out = weight.shape
    samples, v = x.shape[1], graph.num_vertices
    if k == 1 and not graph.before:
        _dense(x.flatten(0, 1), weight[0], _rows_of(out), bias)
        _finish(out, None, negative_slope)
        return
    width = _padded_width(x, fan_out)
    flat_weight = _padded(weight, 2).transpose(0, 1).reshape(fan_in, k * width)
    padded_bias = None if bias is None else _padded(bias, 0)
    resample = graph.before or (None, None, None)
    terms = work = None
    for images in _groups(x, samples * k * width + 2 * v * width):
        count = images.stop - images.start
        if terms is None or len(terms) != count * samples:
            terms, work = x.new_empty(count * samples, k * width), x.new_empty(2, count, v, width)
        _dense(x[images].flatten(0, 1), flat_weight, terms)
        if k == 1:
            product(graph.before, terms.view(count, samples, width)[:, :, :fan_out], out[images])
            _finish(out[images], bias, negative_slope)
            continue
        sizes = (count, v, samples, k, width, fan_out, negative_slope)
        call("chebyshev_sum", x, sizes, (*graph.laplacian, *resample, terms, padded_bias), (work, out[images]))


def _rows_of(out: torch.Tensor) -> torch.Tensor:
    """[N, V, F] as [N V, F], to be written; no -1, which torch refuses where F is 0."""
    return out.view(out.shape[0] * out.shape[1], out.shape[2])


def _dense(x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor, bias: torch.Tensor | None = None) -> None:
    if _in_slices(x):
        out.zero_() if bias is None else out.copy_(bias.expand_as(out))
        _add_product(out, x, weight)
    elif bias is None:
        torch.mm(x, weight, out=out)
    else:
        torch.addmm(bias, x, weight, out=out)


def _add_product(out: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    """out += a @ b."""
    step = _SLICE if _in_slices(a) else max(1, a.shape[1])
    for start in range(0, a.shape[1], step):
        out.addmm_(a[:, start : start + step], b[start : start + step])


def _in_slices(a: torch.Tensor) -> bool:
    """In the deterministic mode on the CPU, a long inner dimension is summed in slices, in order."""
    return a.shape[1] > _SLICE and not a.is_cuda and torch.are_deterministic_algorithms_enabled()


def _finish(out: torch.Tensor, bias: torch.Tensor | None, negative_slope: float) -> None:
    if bias is not None:
        out += bias
    if negative_slope == 0:
        torch.relu_(out)
    elif negative_slope != 1:
        torch.nn.functional.leaky_relu_(out, negative_slope)


def terms_of(x: torch.Tensor, graph: Graph, k: int) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yields, for groups of images, [A T_0(L) B x, ..., A T_{K-1}(L) B x] as [their output vertices, K * padded width].

    The memory is reused from group to group.
    """
    f, v, width = x.shape[2], graph.num_vertices, _padded_width(x, x.shape[2])
    samples = graph.after[0].shape[0] - 1 if graph.after else v
    resample = graph.after or (None, None, None)
    terms = work = None
    for images in _groups(x, samples * k * width + 3 * v * width):
        count = images.stop - images.start
        if terms is None or len(terms) != count:
            terms = x.new_empty(count, samples, k, width)
            work = x.new_empty(2, count, v, width)
        source = x[images]
        if graph.before:
            source = x.new_empty(count, v, f)
            product(graph.before, x[images], source)
        if width != f:
            source = torch.nn.functional.pad(source, [0, width - f])
        if not graph.after:
            terms[:, :, 0].copy_(source)
        call("chebyshev_terms", x, (count, v, samples, k, width), (*graph.laplacian, *resample, source), (work, terms))
        yield images, terms.view(count * samples, k * width)


def _groups(x: torch.Tensor, values_per_image: int) -> Iterator[slice]:
    """Ranges of images whose workspace is small enough."""
    n = x.shape[0]
    size = n if x.is_cuda else WORKSPACE_BYTES // max(1, values_per_image * x.element_size())
    for start in range(0, n, max(1, size)):
        yield slice(start, min(start + max(1, size), n))


def _padded_width(like: torch.Tensor, width: int) -> int:
    lanes = _ALIGNMENT // like.element_size()
    return -(-width // lanes) * lanes


def _padded(tensor: torch.Tensor, dim: int) -> torch.Tensor:
    """Zeros appended along a dimension up to the padded width."""
    missing = _padded_width(tensor, tensor.shape[dim]) - tensor.shape[dim]
    if missing == 0:
        return tensor
    return torch.nn.functional.pad(tensor, [0, 0] * (tensor.dim() - 1 - dim) + [0, missing])
