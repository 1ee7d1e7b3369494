"""facecore.ops.sparse_matmul against its definition, at every SIMD level."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import pytest
import scipy.sparse
import torch
from checks import check_matches_reference, check_registration

from facecore import _C, ops, reference
from facecore.ops.sparse_matmul import matrix_arguments
from facecore.structures import SparseMatrix

SHAPES = {  # images, rows, columns, features
    "typical": (2, 40, 60, 16),
    "several_blocks_of_rows": (3, 700, 600, 9),
    "one_vertex": (1, 1, 1, 1),
    "odd": (3, 5, 7, 3),
    "empty_batch": (0, 5, 7, 3),
    "no_rows": (2, 0, 7, 3),
    "no_features": (2, 5, 7, 0),
}


def make_matrix(rows, columns, dtype, device="cpu", density=0.3):
    """Random, not symmetric, with an empty first row."""
    matrix = scipy.sparse.random(rows, columns, density, format="lil", random_state=5)
    matrix[:1] = 0
    return SparseMatrix.from_scipy(matrix.tocsr(), dtype=dtype).to(device)


def make_x(device, dtype, n, v, f):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(n, v, f, generator=generator, dtype=torch.float64).to(device, dtype).requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_matches_reference(device, dtype, shape):
    n, r, v, f = shape
    check_matches_reference(
        ops.sparse_matmul, reference.sparse_matmul, (make_matrix(r, v, dtype, device), make_x(device, dtype, n, v, f))
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_width_at_every_simd_level(simd_level, dtype):
    matrix = make_matrix(9, 11, dtype)
    for width in [*range(1, 36), 63, 64, 65, 100, 128, 131]:
        x = make_x("cpu", dtype, 2, 11, width).detach()
        # float32: sums of ten products of order 1, in another order and with or without FMA
        tolerance = 1e-12 if dtype == torch.float64 else 1e-5
        torch.testing.assert_close(
            ops.sparse_matmul(matrix, x), reference.sparse_matmul(matrix, x), rtol=tolerance, atol=tolerance
        )


def test_simd_limit_is_checked():
    with pytest.raises(ValueError, match="level must be 0"):
        _C.limit_simd_level(3)


@pytest.mark.parametrize("value", ["0", "1", "fast"])
def test_environment_limits_the_simd_level(tmp_path, value):
    code = "import torch; from facecore import _C; print(_C.simd_level())"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "FACECORE_ISA": value},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    if value == "fast":
        assert result.returncode != 0
        assert "FACECORE_ISA must be 0 (base), 1 (AVX2) or 2 (AVX-512), got 'fast'" in result.stderr
    else:
        assert int(result.stdout) == min(int(value), _C.simd_level()), result.stderr


def test_accepts_any_strides(device):
    matrix = make_matrix(5, 7, torch.float64, device)
    x = make_x(device, torch.float64, 3, 7, 4)
    expected = ops.sparse_matmul(matrix, x)
    strided = x.detach().transpose(0, 2).contiguous().transpose(0, 2)
    torch.testing.assert_close(ops.sparse_matmul(matrix, strided), expected, rtol=0, atol=0)
    expanded = x.detach()[:1, :, :1].expand(2, 7, 6)
    torch.testing.assert_close(
        ops.sparse_matmul(matrix, expanded), ops.sparse_matmul(matrix, expanded.contiguous()), rtol=0, atol=0
    )
    (grad,) = torch.autograd.grad(expected.sum(), x)  # .sum() hands backward an expanded gradient
    (want,) = torch.autograd.grad(reference.sparse_matmul(matrix, x).sum(), x)
    torch.testing.assert_close(grad, want, rtol=1e-12, atol=1e-12)


def test_hand_computed(device):
    matrix = SparseMatrix.from_scipy(scipy.sparse.csr_matrix([[0.0, 0.0], [1.0, 10.0], [0.0, -2.0]])).to(device)
    x = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]], device=device)
    assert ops.sparse_matmul(matrix, x).tolist() == [[[0.0, 0.0], [31.0, 42.0], [-6.0, -8.0]]]
    assert ops.sparse_matmul(matrix.transposed, torch.ones(1, 3, 1, device=device)).tolist() == [[[1.0], [8.0]]]


def test_transpose_is_the_adjoint():
    matrix = make_matrix(300, 200, torch.float64)
    x, y = make_x("cpu", torch.float64, 1, 200, 5).detach(), make_x("cpu", torch.float64, 1, 300, 5).detach()
    forward = (ops.sparse_matmul(matrix, x) * y).sum()
    backward = (x * ops.sparse_matmul(matrix.transposed, y)).sum()
    torch.testing.assert_close(forward, backward, rtol=1e-12, atol=1e-12)


def test_gradients_are_exact(device):
    matrix = make_matrix(5, 7, torch.float64, device)
    x = make_x(device, torch.float64, 2, 7, 3)
    assert torch.autograd.gradcheck(lambda x: ops.sparse_matmul(matrix, x), x)
    assert torch.autograd.gradgradcheck(lambda x: ops.sparse_matmul(matrix, x), x)


def test_threads_give_the_same_bits(thread_count):
    matrix = make_matrix(3000, 3000, torch.float32, density=0.002)
    x = make_x("cpu", torch.float32, 2, 3000, 19)
    results = []
    for count in (1, 2, 3):
        thread_count(count)
        out = ops.sparse_matmul(matrix, x)
        results.append((out, torch.autograd.grad(out.square().sum(), x)[0]))
    for out, grad in results[1:]:
        assert torch.equal(out, results[0][0])
        assert torch.equal(grad, results[0][1])


def test_is_registered_correctly(device):
    matrix = make_matrix(5, 7, torch.float32, device)
    x = make_x(device, torch.float32, 3, 7, 4)
    arguments = matrix_arguments("matrix", matrix)
    check_registration(torch.ops.facecore.sparse_matmul.default, lambda *a: _compiled(matrix, *a), (x, *arguments))


def _compiled(matrix, x, *arguments):
    names = ("crow_indices", "col_indices", "values")
    tensors = dict(zip([*names, *("transposed_" + name for name in names)], arguments))
    return ops.sparse_matmul(SparseMatrix(matrix.shape, **tensors), x)


def test_rejects_bad_arguments():
    matrix = make_matrix(5, 7, torch.float32)
    x = torch.zeros(3, 7, 4)
    for bad_matrix, bad_x, message in [
        (matrix, x[0], r"x must have shape \[N, V, F\], got \[7, 4\]"),
        (matrix, torch.zeros(3, 6, 4), r"x must have shape \[N, 7, F\] for a matrix \[5, 7\], got \[3, 6, 4\]"),
        (matrix, x.double(), r"values must have dtype torch.float64 like the first argument, got torch.float32"),
        (matrix, x.half(), r"x must have dtype float32 or float64, got float16"),
        (torch.eye(7), x, r"matrix must be a SparseMatrix"),
        (make_matrix_requiring_grad(matrix), x, r"matrix must not require a gradient"),
    ]:
        with pytest.raises(ValueError, match=message):
            ops.sparse_matmul(bad_matrix, bad_x)


def make_matrix_requiring_grad(matrix):
    return dataclasses.replace(matrix, values=matrix.values.clone().requires_grad_())
