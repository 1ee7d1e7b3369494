"""smoothness_loss: hand-computed values on a strip, the neighbour-mean definition, gradients, bad inputs."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch
from checks import check_matches_reference, check_registration

from facecore import reference_losses
from facecore.losses import smoothness_loss
from facecore.ops.sparse_matmul import matrix_arguments
from facecore.structures import SparseMatrix


def random_walk(edges: list[tuple[int, int]], count: int) -> tuple[SparseMatrix, np.ndarray]:
    adjacency = np.zeros((count, count))
    for a, b in edges:
        adjacency[a, b] = adjacency[b, a] = 1.0
    dense = np.eye(count) - adjacency / adjacency.sum(1, keepdims=True)
    return SparseMatrix.from_scipy(scipy.sparse.csr_matrix(dense), dtype=torch.float64), dense


def test_by_hand():
    laplacian, _ = random_walk([(0, 1), (1, 2)], 3)
    displacement = torch.zeros(1, 3, 3, dtype=torch.float64)
    displacement[0, 1, 2] = 6.0  # L d = (-6, 6, -6) in z
    assert float(smoothness_loss(displacement, laplacian)) == pytest.approx(18 / 9)
    assert float(smoothness_loss(displacement, laplacian, scale=4.0)) == pytest.approx(18 / 9 / 4)
    displacement[...] = torch.tensor([1.0, -2.0, 3.0])  # a translation is perfectly smooth
    assert float(smoothness_loss(displacement, laplacian)) == pytest.approx(0.0, abs=1e-15)


def test_is_the_neighbour_mean(generator):
    edges = [(0, 1), (1, 2), (2, 3), (3, 0), (0, 2), (3, 4)]
    laplacian, dense = random_walk(edges, 5)
    displacement = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    expected = np.abs(dense @ displacement.numpy()).mean()
    assert float(smoothness_loss(displacement, laplacian)) == pytest.approx(expected)
    assert torch.autograd.gradcheck(lambda d: smoothness_loss(d, laplacian, scale=2.0), displacement.requires_grad_())


def test_empty_batch_and_bad_inputs():
    laplacian, _ = random_walk([(0, 1), (1, 2)], 3)
    assert smoothness_loss(torch.zeros(0, 3, 3, dtype=torch.float64), laplacian) == 0
    with pytest.raises(ValueError, match=r"displacement must have shape \[N, V, 3\]"):
        smoothness_loss(torch.zeros(3, 3, dtype=torch.float64), laplacian)
    with pytest.raises(ValueError, match=r"random_walk_laplacian must have shape \[4, 4\], got \[3, 3\]"):
        smoothness_loss(torch.zeros(1, 4, 3, dtype=torch.float64), laplacian)
    with pytest.raises(ValueError, match="scale must be positive"):
        smoothness_loss(torch.zeros(1, 3, 3, dtype=torch.float64), laplacian, scale=0.0)


def ring(count: int, dtype: torch.dtype, extra: int = 1) -> SparseMatrix:
    """A ring with chords, so that rows have different lengths and the last vertex is in the middle of some."""
    edges = {tuple(sorted((i, (i + step) % count))) for i in range(count) for step in (1, 3 + i % 4)[: 1 + extra]}
    return random_walk(sorted(edge for edge in edges if edge[0] != edge[1]), count)[0].to(dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("images, count", [(1, 5), (2, 9), (3, 17), (4, 300), (5, 8), (8, 31), (11, 700)])
def test_matches_reference(device, dtype, images, count):
    """Groups of images and blocks of rows that are not full."""
    laplacian = ring(count, dtype).to(device)
    generator = torch.Generator().manual_seed(images)
    displacement = torch.randn(images, count, 3, generator=generator, dtype=torch.float64).to(device, dtype)
    for scale in (1.0, 0.3):
        check_matches_reference(
            lambda d, scale=scale: smoothness_loss(d, laplacian, scale=scale),
            lambda d, scale=scale: reference_losses.smoothness_loss(d, laplacian, scale=scale),
            (displacement.requires_grad_(),),
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_simd_level(simd_level, dtype, generator):
    laplacian = ring(301, dtype)
    displacement = torch.randn(7, 301, 3, generator=generator, dtype=dtype).requires_grad_()
    check_matches_reference(
        lambda d: smoothness_loss(d, laplacian),
        lambda d: reference_losses.smoothness_loss(d, laplacian),
        (displacement,),
    )


def test_same_bits_for_any_number_of_threads(generator):
    laplacian = ring(2000, torch.float32)
    displacement = torch.randn(6, 2000, 3, generator=generator).requires_grad_()
    threads, runs = torch.get_num_threads(), []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            value = smoothness_loss(displacement, laplacian)
            runs.append((value, torch.autograd.grad(value, displacement)[0]))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for run in runs[1:] for a, b in zip(run, runs[0]))


def test_strides_and_kinks(generator):
    laplacian = ring(20, torch.float64)
    displacement = torch.randn(3, 20, 3, generator=generator, dtype=torch.float64)
    turned = displacement.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    assert torch.equal(smoothness_loss(turned, laplacian), smoothness_loss(displacement, laplacian))
    flat = torch.zeros(3, 20, 3, dtype=torch.float64, requires_grad=True)
    value = smoothness_loss(flat, laplacian)
    value.backward()
    assert value == 0 and torch.equal(flat.grad, torch.zeros_like(flat))


def test_a_second_derivative_is_refused(generator):
    laplacian = ring(6, torch.float64)
    displacement = torch.randn(1, 6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(smoothness_loss(displacement, laplacian), displacement, create_graph=True)
    with pytest.raises(RuntimeError, match="smoothness_backward_v2 has no derivative"):
        grad.sum().backward()


def test_is_registered_correctly(generator):
    laplacian = ring(9, torch.float32)
    arrays = matrix_arguments("laplacian", laplacian)
    displacement = torch.randn(5, 9, 3, generator=generator).requires_grad_()
    inputs = (displacement, *arrays, 0.0, 1.0, 0.5, True)
    check_registration(torch.ops.facecore.smoothness_v2.default, lambda d, *_: smoothness_loss(d, laplacian), inputs)
    signs = torch.zeros(2, 9, dtype=torch.int32)
    inputs = (torch.ones(()), displacement.detach(), signs, *arrays, 0.0, 1.0, 0.5)
    torch.library.opcheck(torch.ops.facecore.smoothness_backward_v2.default, inputs)


def test_peak_memory_is_the_gradient_and_two_bits_a_number():
    """In allocated bytes: 8 bytes a vertex for eight images, beside 96 of the gradient."""
    laplacian = ring(900, torch.float32)
    displacement = torch.ones(8, 900, 3, requires_grad=True)
    smoothness_loss(displacement, laplacian).backward()  # the transposed matrix is made once
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        torch.autograd.grad(smoothness_loss(displacement, laplacian), displacement)
    allocated = sum(event.self_cpu_memory_usage for event in profile.events() if event.self_cpu_memory_usage > 0)
    assert allocated <= displacement.nbytes + 8 * 900 + 4096


def test_bad_matrices():
    displacement = torch.zeros(1, 3, 3)
    with pytest.raises(ValueError, match="random_walk_laplacian must be a SparseMatrix"):
        smoothness_loss(displacement, torch.eye(3))
    with pytest.raises(ValueError, match="values must have dtype"):
        smoothness_loss(displacement, random_walk([(0, 1), (1, 2)], 3)[0])
