"""Smoothness loss: the displacement of a vertex should be near the mean of its neighbours'."""

from __future__ import annotations

from typing import Any

import torch

from facecore import ops
from facecore.losses import _triton
from facecore.ops._library import call, check_tensor, make_op, takes_halves_under_autocast
from facecore.ops.sparse_matmul import check_matrix, matrix_arguments
from facecore.structures import SparseMatrix

GROUP = 4  # images that share a reading of the matrix: kSmoothImages in csrc/simd/smooth_rows.h


@takes_halves_under_autocast
def smoothness_loss(
    displacement: torch.Tensor, random_walk_laplacian: SparseMatrix, *, scale: float = 1.0
) -> torch.Tensor:
    """Returns mean |L displacement| / scale over images, vertices and coordinates: a scalar.

    Args:
        displacement: float32 or float64 [N, V, 3]. Pass (shape - template) for the template-difference form, which
            leaves the template's own rims alone; pass the shape itself for the conventional form. On CUDA bfloat16 and
            float16, too, computed and returned in float32.
        random_walk_laplacian: L = I - D^-1 A, [V, V]: mesh.laplacian(mesh, kind="random_walk"); in the dtype of the
            result.
        scale: divides the result, such as the model's standard deviation in the units of displacement.

    Once differentiable in displacement (slope 0 where L displacement is 0); a second derivative is refused.
    Deterministic: sums are made in a fixed order, whatever the number of threads, and the gradient is gathered by the
    matrix's stored transpose, without atomics. The CUDA kernels need Triton, as reconstruction_loss says. Under
    torch.autocast half precision is taken as float32. Raises ValueError for a wrong shape, dtype or device, or a scale
    that is not positive. METHODS 2.2 (L_smth).
    """
    sizes = check_tensor("displacement", displacement, ("N", "V", 3), _triton.float_dtypes(displacement))
    check_square("random_walk_laplacian", random_walk_laplacian, sizes["V"])
    if not scale > 0:
        raise ValueError(f"scale must be positive, got {scale}")
    return mean_absolute_product(displacement, random_walk_laplacian, 0.0, 1.0, 1.0 / scale)


def check_square(name: str, matrix: Any, count: int) -> None:
    """Checks that a SparseMatrix is [V, V]."""
    if isinstance(matrix, SparseMatrix) and tuple(matrix.shape) != (count, count):
        raise ValueError(f"{name} must have shape [{count}, {count}], got {list(matrix.shape)}")
    matrix_arguments(name, matrix)


def mean_absolute_product(
    x: torch.Tensor, matrix: SparseMatrix, diagonal: float, factor: float, scale: float
) -> torch.Tensor:
    """scale * mean |diagonal x + factor matrix x| of x [N, V, 3], a scalar; 0 for an empty batch."""
    if _triton.missing_for(x):
        x = x.to(_triton.sum_dtype(x.dtype))
        product = factor * ops.sparse_matmul(matrix, x)
        return (product + diagonal * x if diagonal else product).abs().sum() * (scale / max(x.numel(), 1))
    store_signs = torch.is_grad_enabled() and x.requires_grad
    arguments = matrix_arguments("matrix", matrix)
    return _smoothness(x, *arguments, diagonal, factor, scale / max(x.numel(), 1), store_signs)[0]


def _check(x: torch.Tensor, matrix: tuple[torch.Tensor, ...]) -> dict[str, int]:
    sizes = check_tensor("displacement", x, ("N", "V", 3), _triton.float_dtypes(x))
    like = x if x.dtype not in _triton.HALVES else x.new_empty((), dtype=_triton.sum_dtype(x.dtype))
    check_matrix(matrix, like, sizes["V"], sizes["V"])
    return sizes


def _signs_form(x: torch.Tensor, n: int, v: int) -> tuple[tuple[int, ...], torch.dtype]:
    """Shape and dtype of the signs of a group's images: bytes for Triton's kernel, for the CPU's two bits each."""
    groups = -(-n // GROUP)
    if _triton.runs_on(x):
        return (groups, v, 4 * GROUP), torch.int8  # x, y, z and one without a meaning for each image
    return (groups, v), torch.int32  # csrc/simd/smooth_rows.h


def _fake(x: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
    n, v = _check(x, rest[:6]).values()
    shape, dtype = _signs_form(x, n, v)
    value = x.new_empty((), dtype=_triton.sum_dtype(x.dtype))
    return value, x.new_empty(shape if rest[-1] else (0,), dtype=dtype)


def _kernel(x: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
    value, signs = _fake(x, *rest)
    *options, store_signs = rest[6:]
    outputs = (value, signs if store_signs else None)
    if _triton.runs_on(x):
        from facecore.losses import _smoothness_triton as kernels

        _triton.run_all(kernels.value_launches(x, rest[:3], tuple(options), *outputs), x.device)
    else:
        call("smoothness", x, (*x.shape[:2], *options), (x, *rest[:3]), outputs)
    return value, signs


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    x, *matrix = inputs[:7]
    ctx.options = inputs[7:10]
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # autograd would fill zeros as large as the signs
    ctx.save_for_backward(x, output[1], *matrix)


def _backward(ctx: Any, grad: torch.Tensor | None, _: Any) -> tuple[torch.Tensor | None, ...]:
    if grad is None:
        return (None,) * 11
    x, signs, *matrix = ctx.saved_tensors  # once: activation checkpointing refuses a second time
    if not signs.numel() and x.numel():
        raise RuntimeError("smoothness: the operator was called with store_signs=False, so it has no derivative")
    return _smoothness_backward(grad, x, signs, *matrix, *ctx.options), *(None,) * 10


# x is an argument only so that a second derivative by it is refused: without it that would be a silent zero.
def _backward_fake(grad: torch.Tensor, x: torch.Tensor, signs: torch.Tensor, *rest: Any) -> torch.Tensor:
    n, v = _check(x, rest[:6]).values()
    _triton.check_constant("grad", grad, (), x)
    shape, dtype = _signs_form(x, n, v)
    check_tensor("signs", signs, shape, (dtype,), like=x)
    return x.new_empty(x.shape)


def _backward_kernel(grad: torch.Tensor, x: torch.Tensor, signs: torch.Tensor, *rest: Any) -> torch.Tensor:
    grad_x = _backward_fake(grad, x, signs, *rest)
    if _triton.runs_on(x):
        from facecore.losses import _smoothness_triton as kernels

        _triton.run_all(kernels.gradient_launches(grad, signs, rest[3:6], rest[6:], grad_x), x.device)
    else:
        call("smoothness_backward", x, (*x.shape[:2], *rest[6:]), (grad, signs, *rest[3:6]), (grad_x,))
    return grad_x


_MATRIX = (
    "Tensor crow_indices, Tensor col_indices, Tensor values, Tensor transposed_crow_indices,"
    " Tensor transposed_col_indices, Tensor transposed_values"
)
_OPTIONS = "float diagonal, float factor, float scale"
_smoothness_backward = make_op(
    "smoothness_backward_v2",
    f"(Tensor grad, Tensor x, Tensor signs, {_MATRIX}, {_OPTIONS}) -> Tensor",
    _backward_kernel,
    _backward_fake,
)
_smoothness = make_op(
    "smoothness_v2",
    f"(Tensor x, {_MATRIX}, {_OPTIONS}, bool store_signs) -> (Tensor, Tensor)",
    _kernel,
    _fake,
    setup=_setup,
    backward=_backward,
)
