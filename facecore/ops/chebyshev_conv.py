"""Chebyshev graph convolution at the cost of its narrower side, with an optional change of resolution."""

from __future__ import annotations

from typing import Any

import torch

from facecore.ops._chebyshev import Graph, convolve, gradients
from facecore.ops._library import (
    FLOATS,
    check_tensor,
    check_tensors,
    make_op,
    map_images,
    map_one_by_one,
    wanted_gradients,
)
from facecore.ops.sparse_matmul import check_columns, check_matrix, matrix_arguments, transposed_arguments
from facecore.structures import SparseMatrix

_ABSENT = (None,) * 6  # the tensors of a matrix that is not given


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
    """Returns after (sum_k T_k(laplacian) (before x[n]) weight[k]) + bias, [N, V, Fout]; T_k: Chebyshev polynomials.

    Args:
        x: vertex features, float32 or float64 [N, V, Fin].
        laplacian: SparseMatrix [V, V] of the same dtype and device with eigenvalues in [-1, 1] (facecore.mesh.laplacian
            scales it so); its values are constants. It need not be symmetric.
        weight: [K, Fin, Fout], K >= 1 terms of orders 0 to K-1.
        bias: [Fout] or None.
        before: SparseMatrix [V, Vin] applied to x [N, Vin, Fin] first, such as an upsampling; None: the identity.
        after: SparseMatrix [Vout, V] applied to the result, such as the selection of the vertices that a coarser level
            keeps: then the result is [N, Vout, Fout], with the bias added last. None: the identity.
        negative_slope: of an activation fused into the result: 0 for ReLU, 0.2 for LeakyReLU(0.2), at least 0 and at
            most 1; None for none.

    The K-1 sparse products have min(Fin, Fout) columns: where Fout < Fin, the weights are applied first and Clenshaw's
    recurrence runs on the result. With `before` or `after` the dense products run at the coarser resolution where the
    widths allow it, which is several times cheaper than a sparse_matmul of its own. Only the arguments are kept for
    the backward, and the result where there is an activation.

    Twice differentiable (and further) in x, weight and bias; where an activation meets exactly 0, its slope is
    negative_slope. No atomics: deterministic from run to run. The recurrences
    do not depend on the number of threads; the dense products are torch's, whose last bits may, except under
    torch.use_deterministic_algorithms(True), where nothing does. Raises ValueError for a
    wrong shape, dtype, device or slope, and for a matrix that requires a gradient. METHODS 1.6.
    """
    check_tensors(x=x, weight=weight, **({} if bias is None else {"bias": bias}))
    if not isinstance(laplacian, SparseMatrix):
        raise ValueError(
            f"laplacian must be a SparseMatrix (facecore.mesh.laplacian builds one), got {type(laplacian).__name__}"
        )
    if laplacian.shape[0] != laplacian.shape[1]:
        raise ValueError(f"laplacian must be square, got shape {list(laplacian.shape)}")
    arguments: tuple[torch.Tensor | None, ...] = matrix_arguments("laplacian", laplacian)
    for name, matrix, dim in (("before", before, 0), ("after", after, 1)):
        arguments += _ABSENT if matrix is None else matrix_arguments(name, matrix)
        if matrix is not None and matrix.shape[dim] != laplacian.shape[0]:
            fits = "[V, Vin]" if dim == 0 else "[Vout, V]"
            raise ValueError(f"{name} must have shape {fits} with V = {laplacian.shape[0]}, got {list(matrix.shape)}")
    check_columns("x", x, "laplacian" if before is None else "before", laplacian if before is None else before)
    return _chebyshev_conv(x, weight, bias, *arguments, check_slope(negative_slope))


def check_slope(negative_slope: float | None) -> float:
    """The slope as the operator takes it, 1 for no activation. Raises ValueError."""
    if negative_slope is None:
        return 1.0
    if not isinstance(negative_slope, (int, float)) or not 0 <= negative_slope <= 1:
        raise ValueError(f"negative_slope must be None or a number from 0 to 1, got {negative_slope!r}")
    return float(negative_slope)


def _check(x: torch.Tensor, weight: torch.Tensor, matrices: Any) -> dict[str, int]:
    """Sizes N, Fin, K, Fout and Vout. `matrices`: six tensors each of the Laplacian, `before` and `after`."""
    laplacian, before, after = matrices[:6], matrices[6:12], matrices[12:]
    sizes = check_tensor("x", x, ("N", "V" if before[0] is None else "Vin", "Fin"), FLOATS)
    v = laplacian[0].shape[0] - 1
    check_matrix(laplacian, x, v, v)
    if before[0] is not None:
        check_matrix(before, x, v, sizes["Vin"])
    elif v != sizes["V"]:
        raise ValueError(f"x must have shape [N, {v}, Fin], got {list(x.shape)}")
    sizes["Vout"] = v if after[0] is None else check_matrix(after, x, None, v)
    check_tensor("weight", weight, ("K", "Fin", "Fout"), FLOATS, like=x, sizes=sizes)
    if sizes["K"] < 1:
        raise ValueError("weight must have shape [K, Fin, Fout] with K >= 1, got K = 0")
    return sizes


def _fake(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *rest: Any) -> torch.Tensor:
    sizes = _check(x, weight, rest[:-1])
    if bias is not None:
        check_tensor("bias", bias, ("Fout",), FLOATS, like=x, sizes=sizes)
    return x.new_empty(sizes["N"], sizes["Vout"], sizes["Fout"])


def _kernel(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *rest: Any) -> torch.Tensor:
    out = _fake(x, weight, bias, *rest)
    *matrices, negative_slope = rest
    convolve(x, weight, bias, Graph.of(matrices), out, negative_slope)
    return out


def _transposed(matrices: Any) -> Any:
    """The matrices of the gradient with respect to x: all transposed, so that `after` comes before."""
    return sum((transposed_arguments(matrices[i : i + 6]) for i in (0, 12, 6)), ())


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    x, weight, bias, *matrices, ctx.negative_slope = inputs
    ctx.set_materialize_grads(False)
    ctx.has_bias = bias is not None
    ctx.save_for_backward(x, weight, *matrices, None if ctx.negative_slope == 1 else output)


def _backward(ctx: Any, grad_out: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
    if grad_out is None:
        return (None,) * 22
    x, weight, *matrices, out = ctx.saved_tensors
    if out is not None:
        grad_out = _through_activation(grad_out, out, ctx.negative_slope)
    need_x, need_weight, need_bias = wanted_gradients(ctx)[:3]
    grad_x, grad_weight = _gradients(grad_out, x, weight, matrices, need_x, need_weight)
    grad_bias = grad_out.sum((0, 1)) if ctx.has_bias and need_bias else None
    return grad_x, grad_weight, grad_bias, *(None,) * 19


def _through_activation(grad: torch.Tensor, out: torch.Tensor, negative_slope: float) -> torch.Tensor:
    """The sign of the activation's result is that of its argument, so the argument need not be kept."""
    if negative_slope == 0:
        return torch.ops.aten.threshold_backward(grad, out, 0)
    return torch.ops.aten.leaky_relu_backward(grad, out, negative_slope, True)


def _linear(x: torch.Tensor, weight: torch.Tensor, *matrices: Any) -> torch.Tensor:
    return _chebyshev_conv(x, weight, None, *matrices, 1.0)


def _gradients(
    grad_out: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, matrices: Any, need_x: bool, need_weight: bool
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    if need_x and not need_weight:
        return _linear(grad_out, weight.transpose(1, 2), *_transposed(matrices)), None
    if not need_weight:
        return None, None
    grad_x, grad_weight = _chebyshev_conv_backward(grad_out, x, weight, *matrices, need_x)
    return (grad_x if need_x else None), grad_weight


def _backward_fake(
    grad_out: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, *rest: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    *matrices, need_x = rest
    sizes = _check(x, weight, tuple(matrices))
    check_tensor("grad_out", grad_out, ("N", "Vout", "Fout"), FLOATS, like=x, sizes=sizes)
    return x.new_empty(x.shape if need_x else (0,)), x.new_empty(weight.shape)


def _backward_kernel(
    grad_out: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, *rest: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    grad_x, grad_weight = _backward_fake(grad_out, x, weight, *rest)
    *matrices, need_x = rest
    transposed = Graph.of(_transposed(matrices))
    gradients(grad_out, x, weight, Graph.of(matrices), transposed, grad_x if need_x else None, grad_weight)
    return grad_x, grad_weight


def _backward_setup(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, ctx.had_x = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)


def _backward_backward(
    ctx: Any, to_grad_x: torch.Tensor | None, to_grad_weight: torch.Tensor | None
) -> tuple[torch.Tensor | None, ...]:
    """Both gradients are linear in each of their arguments, so their derivatives are the same two operators.

    With u, w the gradients with respect to grad_x, grad_weight:
    grad_out gets conv(u, weight) + conv(x, w); x gets conv^T(grad_out, w); weight gets its gradient at x = u.
    """
    grad_out, x, weight, *matrices = ctx.saved_tensors
    u, w = (to_grad_x if ctx.had_x else None), to_grad_weight
    need_out, need_x, need_weight = wanted_gradients(ctx)[:3]
    for_out = for_x = for_weight = None
    if need_out and need_weight and u is not None:  # conv(u, weight) is the x-gradient of the transposed convolution
        flipped = _transposed(matrices)
        for_out, for_weight = _chebyshev_conv_backward(u, grad_out, weight.transpose(1, 2), *flipped, True)
        for_weight = for_weight.transpose(1, 2)
    elif need_out and u is not None:
        for_out = _linear(u, weight, *matrices)
    elif need_weight and u is not None:
        for_weight = _gradients(grad_out, u, weight, matrices, False, True)[1]
    if need_out and w is not None:
        term = _linear(x, w, *matrices)
        for_out = term if for_out is None else for_out + term
    if need_x and w is not None:
        for_x = _gradients(grad_out, x, w, matrices, True, False)[0]
    return for_out, for_x, for_weight, *(None,) * 19


def _vmap(info: Any, in_dims: Any, *args: Any) -> Any:
    return map_images(_chebyshev_conv, info, in_dims, args)


def _backward_vmap(info: Any, in_dims: Any, *args: Any) -> Any:
    """Each mapped call has a gradient of the weights of its own, so images cannot share a call."""
    return map_one_by_one(_chebyshev_conv_backward, info, in_dims, args)


_ARRAYS = [f"{part}{array}" for part in ("", "transposed_") for array in ("crow_indices", "col_indices", "values")]
_MATRICES = ", ".join(
    f"Tensor{kind} {name}{array}" for name, kind in (("", ""), ("before_", "?"), ("after_", "?")) for array in _ARRAYS
)
_chebyshev_conv_backward = make_op(
    "chebyshev_conv_backward",
    f"(Tensor grad_out, Tensor x, Tensor weight, {_MATRICES}, bool need_x) -> (Tensor, Tensor)",
    _backward_kernel,
    _backward_fake,
    setup=_backward_setup,
    backward=_backward_backward,
    vmap=_backward_vmap,
)
_chebyshev_conv = make_op(
    "chebyshev_conv_v2",
    f"(Tensor x, Tensor weight, Tensor? bias, {_MATRICES}, float negative_slope) -> Tensor",
    _kernel,
    _fake,
    setup=_setup,
    backward=_backward,
    vmap=_vmap,
)
