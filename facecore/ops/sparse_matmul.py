"""A static sparse matrix times a batch of vertex features."""

from __future__ import annotations

from typing import Any

import torch

from facecore.ops._library import FLOATS, INT32, call, check_tensor, check_tensors, make_op, map_images
from facecore.structures import SparseMatrix


def sparse_matmul(matrix: SparseMatrix, x: torch.Tensor) -> torch.Tensor:
    """Returns matrix @ x[n] for every n, [N, R, F].

    Args:
        matrix: SparseMatrix [R, V], float32 or float64; its values are constants.
        x: dtype and device of the matrix, [N, V, F].

    Twice differentiable (and further) in x: the backward is this operator with the stored transpose. Deterministic on
    every device: no atomics, and the result does not depend on the number of threads. The matrix's indices are
    trusted. Raises ValueError for a wrong shape, dtype or device, and for a matrix that requires a gradient.
    """
    arguments = matrix_arguments("matrix", matrix)
    check_tensors(x=x)
    check_columns("x", x, "matrix", matrix)
    return _sparse_matmul(x, *arguments)


def matrix_arguments(name: str, matrix: Any) -> tuple[torch.Tensor, ...]:
    """The six tensors by which a registered operator takes a SparseMatrix: CSR arrays, then those of the transpose."""
    if not isinstance(matrix, SparseMatrix):
        raise ValueError(
            f"{name} must be a SparseMatrix (SparseMatrix.from_scipy builds one), got {type(matrix).__name__}"
        )
    if matrix.values.requires_grad or matrix.transposed_values.requires_grad:
        raise ValueError(f"{name} must not require a gradient: its values are constants; detach them")
    return (
        matrix.crow_indices,
        matrix.col_indices,
        matrix.values,
        matrix.transposed_crow_indices,
        matrix.transposed_col_indices,
        matrix.transposed_values,
    )


def check_columns(x_name: str, x: torch.Tensor, name: str, matrix: SparseMatrix) -> None:
    """Names the matrix in the error for a batch of another number of vertices; the rest is checked by the operator."""
    if x.dim() == 3 and x.shape[1] != matrix.shape[1]:
        raise ValueError(
            f"{x_name} must have shape [N, {matrix.shape[1]}, F] for a {name} {list(matrix.shape)}, got {list(x.shape)}"
        )


def check_matrix(arguments: tuple[torch.Tensor, ...], like: torch.Tensor, rows: int | None, columns: int) -> int:
    """Checks matrix_arguments against the sizes they must have (None: any) and returns the number of rows."""
    crow, col, values, transposed_crow, transposed_col, transposed_values = arguments
    indices, numbers = (crow, col, transposed_crow, transposed_col), (values, transposed_values)
    if (
        (rows is None or crow.shape == (rows + 1,))
        and transposed_crow.shape == (columns + 1,)
        and crow.dim() == col.dim() == 1
        and col.shape == transposed_col.shape == values.shape == transposed_values.shape
        and all(t.dtype == torch.int32 and t.device == like.device for t in indices)
        and all(t.dtype == like.dtype and t.device == like.device for t in numbers)
    ):
        return crow.shape[0] - 1  # the way of nearly every call; what follows names the fault
    shape: tuple[int | str, ...] = ("R + 1",) if rows is None else (rows + 1,)
    check_tensor("crow_indices", crow, shape, INT32, like=like)
    check_tensor("transposed_crow_indices", transposed_crow, (columns + 1,), INT32, like=like)
    sizes = check_tensor("col_indices", col, ("nnz",), INT32, like=like)
    check_tensor("values", values, ("nnz",), FLOATS, like=like, sizes=sizes)
    check_tensor("transposed_col_indices", transposed_col, ("nnz",), INT32, like=like, sizes=sizes)
    check_tensor("transposed_values", transposed_values, ("nnz",), FLOATS, like=like, sizes=sizes)
    return crow.shape[0] - 1


def transposed_arguments(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """matrix_arguments of the transpose."""
    return (*arguments[3:], *arguments[:3])


def _fake(x: torch.Tensor, *matrix: torch.Tensor) -> torch.Tensor:
    n, v, f = _check(x).values()
    return x.new_empty(n, check_matrix(matrix, x, None, v), f)


def _check(x: torch.Tensor) -> dict[str, int]:
    return check_tensor("x", x, ("N", "V", "F"), FLOATS)


def _kernel(x: torch.Tensor, *matrix: torch.Tensor) -> torch.Tensor:
    out = _fake(x, *matrix)
    n, r, f = out.shape
    call("sparse_matmul", x, (n, r, x.shape[1], f), (x, *matrix[:3]), (out,))
    return out


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs[1:])


def _backward(ctx: Any, grad_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    grad_x = _sparse_matmul(grad_out, *transposed_arguments(ctx.saved_tensors))
    return grad_x, None, None, None, None, None, None


def _vmap(info: Any, in_dims: Any, *args: Any) -> Any:
    return map_images(_sparse_matmul, info, in_dims, args)


_sparse_matmul = make_op(
    "sparse_matmul",
    "(Tensor x, Tensor crow_indices, Tensor col_indices, Tensor values, Tensor transposed_crow_indices,"
    " Tensor transposed_col_indices, Tensor transposed_values) -> Tensor",
    _kernel,
    _fake,
    setup=_setup,
    backward=_backward,
    vmap=_vmap,
)
