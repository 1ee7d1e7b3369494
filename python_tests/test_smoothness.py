"""smoothness_loss: hand-computed values on a strip, the neighbour-mean definition, gradients, bad inputs."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch

from facecore.losses import smoothness_loss
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
