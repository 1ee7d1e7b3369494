"""Chebyshev graph convolution, at the cost of its narrower side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from facecore.ops._library import FLOATS, call, check_tensor, make_op
from facecore.ops.sparse_matmul import check_columns, check_matrix, matrix_arguments, transposed_arguments
from facecore.structures import SparseMatrix

# Bytes of a workspace on the CPU: images are taken in groups that fit, so that it stays in the cache and its pages
# are faulted in once. On CUDA the whole batch is one group.
_WORKSPACE_BYTES = 8 << 20


def chebyshev_conv(
    x: torch.Tensor, laplacian: SparseMatrix, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Returns sum_k T_k(laplacian) x[n] weight[k] + bias, [N, V, Fout]; T_k are the Chebyshev polynomials.

    Args:
        x: vertex features, float32 or float64 [N, V, Fin].
        laplacian: SparseMatrix [V, V] of the same dtype and device with eigenvalues in [-1, 1] (facecore.mesh.laplacian
            scales it so); its values are constants. It need not be symmetric.
        weight: [K, Fin, Fout], K >= 1 terms of orders 0 to K-1.
        bias: [Fout] or None.

    The K-1 sparse products have min(Fin, Fout) columns: where Fout < Fin, the weights are applied first and Clenshaw's
    recurrence runs on the result. Only the arguments are kept for the backward.

    Twice differentiable (and further) in x, weight and bias. No atomics; the recurrences do not depend on the number of
    threads, the dense products are torch's. Raises ValueError for a wrong shape, dtype or device, and for a Laplacian
    that requires a gradient. METHODS 1.6.
    """
    arguments = matrix_arguments("laplacian", laplacian)
    if laplacian.shape[0] != laplacian.shape[1]:
        raise ValueError(f"laplacian must be square, got shape {list(laplacian.shape)}")
    check_columns("x", x, "laplacian", laplacian)
    return _chebyshev_conv(x, weight, bias, *arguments)


def _check(x: torch.Tensor, weight: torch.Tensor, matrix: tuple[torch.Tensor, ...]) -> dict[str, int]:
    sizes = check_tensor("x", x, ("N", "V", "Fin"), FLOATS)
    check_matrix(matrix, x, sizes["V"], sizes["V"])
    check_tensor("weight", weight, ("K", "Fin", "Fout"), FLOATS, like=x, sizes=sizes)
    if sizes["K"] < 1:
        raise ValueError("weight must have shape [K, Fin, Fout] with K >= 1, got K = 0")
    return sizes


def _fake(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *matrix: torch.Tensor) -> torch.Tensor:
    sizes = _check(x, weight, matrix)
    if bias is not None:
        check_tensor("bias", bias, ("Fout",), FLOATS, like=x, sizes=sizes)
    return x.new_empty(sizes["N"], sizes["V"], sizes["Fout"])


def _kernel(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *matrix: torch.Tensor) -> torch.Tensor:
    out = _fake(x, weight, bias, *matrix)
    if out.shape[2] < x.shape[2]:
        _weights_first(x.contiguous(), weight, bias, matrix[:3], out)
    else:
        _terms_first(x, weight, bias, matrix[:3], out)
    return out


def _groups(x: torch.Tensor, num_values: int) -> Iterator[slice]:
    """Ranges of images whose workspace of `num_values` per vertex is small enough."""
    n, v = x.shape[:2]
    size = n if x.is_cuda else _WORKSPACE_BYTES // max(1, num_values * v * x.element_size())
    size = max(1, size)
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def _weights_first(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    matrix: tuple[torch.Tensor, ...],
    out: torch.Tensor,
) -> None:
    """h_k = x weight[k] by one matrix product, then sum_k T_k(L) h_k by Clenshaw's recurrence. Writes `out`."""
    k, fan_in, fan_out = weight.shape
    v = x.shape[1]
    flat_weight = weight.transpose(0, 1).reshape(fan_in, k * fan_out)
    terms = work = None
    for images in _groups(x, k * fan_out):
        count = images.stop - images.start
        flat = x[images].reshape(count * v, fan_in)
        if k == 1:
            _affine(flat, flat_weight, bias, out[images].view(count * v, fan_out))
            continue
        if terms is None or terms.shape[0] != count * v:
            terms = x.new_empty(count * v, k * fan_out)
            work = x.new_empty(2, count, v, fan_out) if k > 2 else None
        torch.mm(flat, flat_weight, out=terms)
        call("chebyshev_sum", x, (count, v, k, fan_out), (*matrix, terms, bias), (work, out[images]))


def _terms_first(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    matrix: tuple[torch.Tensor, ...],
    out: torch.Tensor,
) -> None:
    """T_k(L) x for every k, then one matrix product with all the weights. Writes `out`."""
    k, fan_in, fan_out = weight.shape
    flat_weight = weight.reshape(k * fan_in, fan_out)
    for images, terms in _terms(x, matrix, k):
        _affine(terms, flat_weight, bias, out[images].view(terms.shape[0], fan_out))


def _terms(x: torch.Tensor, matrix: tuple[torch.Tensor, ...], k: int) -> Iterator[tuple[slice, torch.Tensor]]:
    """For each group of images: [T_0(L) x, ..., T_{K-1}(L) x] as [vertices of the group, K * F]; reused memory."""
    _, v, f = x.shape
    terms = None
    for images in _groups(x, k * f):
        count = images.stop - images.start
        if terms is None or terms.shape[0] != count:
            terms = x.new_empty(count, v, k, f)
        terms[:, :, 0].copy_(x[images])
        call("chebyshev_terms", x, (count, v, k, f), matrix, (terms,))
        yield images, terms.view(count * v, k * f)


def _affine(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, out: torch.Tensor) -> None:
    if bias is None:
        torch.mm(x, weight, out=out)
    else:
        torch.addmm(bias, x, weight, out=out)


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    x, weight, bias, *matrix = inputs
    ctx.set_materialize_grads(False)
    ctx.has_bias = bias is not None
    ctx.save_for_backward(x, weight, *matrix)


def _backward(ctx: Any, grad_out: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
    if grad_out is None:
        return (None,) * 9
    x, weight, *matrix = ctx.saved_tensors
    need_x, need_weight, need_bias = ctx.needs_input_grad[:3]
    grad_x, grad_weight = _gradients(grad_out, x, weight, matrix, need_x, need_weight)
    grad_bias = grad_out.sum((0, 1)) if ctx.has_bias and need_bias else None
    return grad_x, grad_weight, grad_bias, None, None, None, None, None, None


def _gradients(
    grad_out: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, matrix: Any, need_x: bool, need_weight: bool
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    if not (need_x or need_weight):
        return None, None
    grads = _chebyshev_conv_backward(grad_out, x, weight, *matrix, need_x, need_weight)
    return (grads[0] if need_x else None), (grads[1] if need_weight else None)


def _backward_fake(
    grad_out: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, *rest: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    *matrix, need_x, need_weight = rest
    sizes = _check(x, weight, tuple(matrix))
    check_tensor("grad_out", grad_out, ("N", "V", "Fout"), FLOATS, like=x, sizes=sizes)
    return x.new_empty(x.shape if need_x else (0,)), x.new_empty(weight.shape if need_weight else (0,))


def _backward_kernel(
    grad_out: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, *rest: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    grad_x, grad_weight = _backward_fake(grad_out, x, weight, *rest)
    *matrix, need_x, need_weight = rest
    transposed = transposed_arguments(tuple(matrix))[:3]
    k, fan_in, fan_out = weight.shape
    grad_out = grad_out.contiguous()
    back_weight = weight.transpose(1, 2)
    if fan_out > fan_in:
        if need_x:
            _weights_first(grad_out, back_weight, None, transposed, grad_x)
        if need_weight:  # weight[k] gets (T_k(L) x)^T grad_out
            flat_grad = grad_weight.view(k * fan_in, fan_out).zero_()
            for images, terms in _terms(x, tuple(matrix[:3]), k):
                flat_grad.addmm_(terms.t(), grad_out[images].view(-1, fan_out))
        return grad_x, grad_weight
    flat_weight = back_weight.reshape(k * fan_out, fan_in)
    flat_grad = x.new_zeros(fan_in, k * fan_out)
    for images, terms in _terms(grad_out, transposed, k):  # T_k(L^T) grad_out serves both gradients
        if need_x:
            torch.mm(terms, flat_weight, out=grad_x[images].view(-1, fan_in))
        if need_weight:
            flat_grad.addmm_(x[images].reshape(-1, fan_in).t(), terms)
    if need_weight:
        grad_weight.copy_(flat_grad.view(fan_in, k, fan_out).transpose(0, 1))
    return grad_x, grad_weight


def _backward_setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.set_materialize_grads(False)
    *tensors, ctx.had_x, ctx.had_weight = inputs
    ctx.save_for_backward(*tensors)


def _backward_backward(
    ctx: Any, to_grad_x: torch.Tensor | None, to_grad_weight: torch.Tensor | None
) -> tuple[torch.Tensor | None, ...]:
    """Both gradients are linear in each of their arguments, so their derivatives are the same two operators.

    With u, w the gradients with respect to grad_x, grad_weight:
    grad_out gets conv(u, weight) + conv(x, w); x gets conv^T(grad_out, w); weight gets its gradient at x = u.
    """
    grad_out, x, weight, *matrix = ctx.saved_tensors
    u = to_grad_x if ctx.had_x else None
    w = to_grad_weight if ctx.had_weight else None
    need_out, need_x, need_weight = ctx.needs_input_grad[:3]
    for_out = for_x = for_weight = None
    if need_out:
        parts = [(u, weight), (x, w)]
        for_out = _total([_chebyshev_conv(a, b, None, *matrix) for a, b in parts if a is not None and b is not None])
    if need_x and w is not None:
        for_x = _gradients(grad_out, x, w, matrix, True, False)[0]
    if need_weight and u is not None:
        for_weight = _gradients(grad_out, u, weight, matrix, False, True)[1]
    return for_out, for_x, for_weight, None, None, None, None, None, None, None, None


def _total(parts: list[torch.Tensor]) -> torch.Tensor | None:
    return None if not parts else parts[0] if len(parts) == 1 else parts[0] + parts[1]


_MATRIX = (
    "Tensor crow_indices, Tensor col_indices, Tensor values, Tensor transposed_crow_indices,"
    " Tensor transposed_col_indices, Tensor transposed_values"
)
_chebyshev_conv_backward = make_op(
    "chebyshev_conv_backward",
    f"(Tensor grad_out, Tensor x, Tensor weight, {_MATRIX}, bool need_x, bool need_weight) -> (Tensor, Tensor)",
    _backward_kernel,
    _backward_fake,
    setup=_backward_setup,
    backward=_backward_backward,
)
_chebyshev_conv = make_op(
    "chebyshev_conv",
    f"(Tensor x, Tensor weight, Tensor? bias, {_MATRIX}) -> Tensor",
    _kernel,
    _fake,
    setup=_setup,
    backward=_backward,
)
