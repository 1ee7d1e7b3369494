"""facecore.structures.SparseMatrix: what its construction from arrays refuses."""

from __future__ import annotations

import dataclasses

import pytest
import scipy.sparse
import torch

from facecore.structures import SparseMatrix

ARRAYS = ("crow_indices", "col_indices", "values")


def arrays_of(matrix: SparseMatrix) -> dict[str, torch.Tensor]:
    return {f"{part}{name}": getattr(matrix, f"{part}{name}") for part in ("", "transposed_") for name in ARRAYS}


@pytest.fixture
def matrix() -> SparseMatrix:
    return SparseMatrix.from_scipy(scipy.sparse.csr_matrix([[0.0, 2.0, 0.0, 1.0], [0, 0, 0, 0], [5, 0, 0, 4]]))


def test_arrays_that_fit_are_taken_as_they_are(device, matrix):
    moved = matrix.to(device)
    again = SparseMatrix(moved.shape, **arrays_of(moved))
    for name, array in arrays_of(moved).items():
        assert getattr(again, name) is array
    assert (again.to_scipy() != matrix.to_scipy()).nnz == 0
    assert SparseMatrix((4, 3), **arrays_of(moved.transposed)).shape == (4, 3)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (2, 0), (1, 1)])
def test_an_empty_matrix_is_a_matrix(shape):
    matrix = SparseMatrix.from_scipy(scipy.sparse.csr_matrix(shape))
    assert SparseMatrix(matrix.shape, **arrays_of(matrix)).num_nonzeros == 0


def test_a_wrong_transpose_is_refused(matrix):
    """Each gradient is computed with the transpose: another matrix there would be wrong without a sign of it."""
    message = "must be the CSR form of the transpose, with the same values; SparseMatrix.from_scipy builds both"
    one_differs = matrix.transposed_values.clone()
    one_differs[2] += 1
    swapped = matrix.transposed_values.flip(0)
    for values in (one_differs, swapped, matrix.transposed_values.double(), -matrix.transposed_values):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(matrix, transposed_values=values)
    square = SparseMatrix.from_scipy(scipy.sparse.csr_matrix([[0.0, 2.0], [3.0, 0.0]]))
    as_if_symmetric = {f"transposed_{name}": getattr(square, name) for name in ARRAYS}
    with pytest.raises(ValueError, match=message):
        SparseMatrix(square.shape, **(arrays_of(square) | as_if_symmetric))


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("crow_indices", [0, 2, 2], r"crow_indices must be int32 \[4\] on cpu for 4 values and 3 rows, got .* \[3\]"),
        ("crow_indices", [0, 3, 2, 4], "crow_indices must ascend from 0 to 4, the number of values"),
        ("crow_indices", [1, 2, 2, 4], "crow_indices must ascend from 0 to 4"),
        ("col_indices", [1, 3, 0, 4], "col_indices must be 0 to 3, got values from 0 to 4"),
        ("col_indices", [1, 3, -1, 3], "col_indices must be 0 to 3, got values from -1 to 3"),
        ("col_indices", [3, 1, 0, 3], "col_indices must ascend within each row"),
        ("col_indices", [1, 3, 3, 3], "col_indices must ascend within each row"),
        ("col_indices", [1, 3, 0], r"col_indices must be int32 \[4\] on cpu"),
        ("transposed_col_indices", [2, 0, 0, 3], "transposed_col_indices must be 0 to 2, got values from 0 to 3"),
        ("transposed_crow_indices", [0, 1, 2, 4], r"transposed_crow_indices must be int32 \[5\] on cpu"),
    ],
)
def test_arrays_of_no_matrix_are_refused(matrix, name, value, message):
    arrays = arrays_of(matrix) | {name: torch.tensor(value, dtype=torch.int32)}
    with pytest.raises(ValueError, match=message):
        SparseMatrix(matrix.shape, **arrays)
    values = torch.nn.Parameter(matrix.values, requires_grad=False)
    with pytest.raises(ValueError, match=message):
        SparseMatrix(matrix.shape, **(arrays | {"values": values}))


def test_dtypes_and_numbers_are_checked(matrix):
    for name, value, message in [
        ("col_indices", matrix.col_indices.long(), r"col_indices must be int32 \[4\] .* got torch.int64"),
        ("col_indices", matrix.col_indices.to("meta"), r"col_indices must be int32 \[4\] on cpu .* on meta"),
        ("values", matrix.values.int(), "values must be finite floating-point numbers .*, got torch.int32"),
        ("values", matrix.values / 0, "values must be finite floating-point numbers"),
        ("values", matrix.values[None], r"values must be finite floating-point numbers \[nnz\], got .* \[1, 4\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            SparseMatrix(matrix.shape, **(arrays_of(matrix) | {name: value}))
    with pytest.raises(ValueError, match="matrix must have finite values, got NaN or infinity"):
        SparseMatrix.from_scipy(scipy.sparse.csr_matrix([[float("nan")]]))
