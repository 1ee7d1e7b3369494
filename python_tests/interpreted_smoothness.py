"""The Triton kernels of sum |M x|, interpreted on the CPU: test_triton_losses.py runs this file."""

from __future__ import annotations

import math

import pytest
import scipy.sparse
import torch
from checks import check_matches_reference
from interpreted_checks import (
    check_fakes,
    check_layouts,
    check_low_precision,
    kernels_take_cpu_tensors,
    random,
    use_small_blocks,
)

from facecore import reference_losses
from facecore.losses import _smoothness_triton as kernels
from facecore.losses import smoothness_loss, symmetry_loss
from facecore.ops.sparse_matmul import matrix_arguments
from facecore.structures import SparseMatrix

__all__ = ["kernels_take_cpu_tensors"]


def make_matrix(count, dtype=torch.float64):
    """Rows of different lengths, some empty, and not symmetric: the gradient needs the transpose."""
    weights = random(count, count).numpy() - 0.4
    weights[weights < 0.3] = 0.0
    weights[::4] = 0.0
    return SparseMatrix.from_scipy(scipy.sparse.csr_matrix(weights), dtype=dtype)


@pytest.mark.parametrize("images, count", [(1, 1), (2, 9), (3, 5), (5, 17), (0, 4)])
def test_smoothness_matches_reference(images, count, monkeypatch):
    """Groups of images and blocks of rows that are not full."""
    use_small_blocks(monkeypatch, kernels)
    matrix = make_matrix(count)
    displacement = (random(images, count, 3) - 0.5).requires_grad_()
    check_matches_reference(
        lambda d: smoothness_loss(d, matrix, scale=0.3),
        lambda d: reference_losses.smoothness_loss(d, matrix, scale=0.3),
        (displacement,),
    )


@pytest.mark.parametrize("images", [1, 6])
def test_barycentric_symmetry_matches_reference(images):
    matrix = make_matrix(13)
    albedo = random(images, 13, 3).requires_grad_()
    check_matches_reference(symmetry_loss, reference_losses.symmetry_loss, (albedo, matrix))


def test_blocks_as_on_a_gpu():
    matrix = make_matrix(70, torch.float32)
    displacement = (random(2, 70, 3, dtype=torch.float32) - 0.5).requires_grad_()
    check_matches_reference(smoothness_loss, reference_losses.smoothness_loss, (displacement, matrix))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(dtype):
    matrix = make_matrix(9, torch.float32)
    check_low_precision(
        lambda x: smoothness_loss(x, matrix),
        lambda x: reference_losses.smoothness_loss(x, matrix.to(dtype=torch.float64)),
        [random(2, 9, 3) - 0.5],
        dtype,
    )
    with pytest.raises(ValueError, match=r"values must have dtype torch\.float32"):
        smoothness_loss(random(2, 9, 3, dtype=dtype), make_matrix(9))


def test_strides_and_kinks():
    matrix = make_matrix(7)
    check_layouts(lambda x: smoothness_loss(x, matrix), [random(2, 7, 3) - 0.5])
    flat = torch.zeros(2, 7, 3, dtype=torch.float64, requires_grad=True)
    value = smoothness_loss(flat, matrix)
    assert value == 0 and torch.equal(torch.autograd.grad(value, flat)[0], torch.zeros_like(flat))


def test_nan_shows():
    displacement = random(1, 9, 3)
    displacement[0, 4, 1] = math.nan
    assert smoothness_loss(displacement, make_matrix(9)).isnan()


def test_signs_are_those_of_the_cpu_kernel(monkeypatch):
    """Bytes there, two bits each here; 0 for the images that a group lacks."""
    x, arguments = random(5, 9, 3) - 0.5, matrix_arguments("matrix", make_matrix(9))

    def signs():
        return torch.ops.facecore.smoothness_v2.default(x, *arguments, 1.0, -1.0, 0.5, True)[1]

    got = signs().unflatten(-1, (4, 4))
    monkeypatch.undo()  # back to the C++ kernel
    bits = signs()[..., None] >> 2 * torch.arange(16) & 3
    expected = torch.where(bits == 3, -1, bits).unflatten(-1, (4, 4))
    assert torch.equal(got[..., :3].to(expected.dtype), expected[..., :3])


def test_fakes():
    x, arguments = random(5, 9, 3, dtype=torch.float16), matrix_arguments("matrix", make_matrix(9, torch.float32))
    options = (1.0, -1.0, 0.5)
    check_fakes(torch.ops.facecore.smoothness_v2.default, (x, *arguments, *options, True))
    signs = torch.zeros(2, 9, 16, dtype=torch.int8)
    check_fakes(torch.ops.facecore.smoothness_backward_v2.default, (torch.ones(()), x, signs, *arguments, *options))
