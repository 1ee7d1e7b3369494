"""Graph Laplacians of a mesh, scaled for Chebyshev convolution or as the neighbour-mean operator (METHODS 1.6)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch

from facecore.mesh.mesh import Mesh
from facecore.structures import SparseMatrix

LaplacianKind = Literal["combinatorial", "symmetric", "random_walk"]

_EIGENVALUE_TOLERANCE = 1e-4  # relative, of the Lanczos iteration
_EIGENVALUE_MARGIN = 1.0002  # a Lanczos value approaches from below; this lifts it over the true one (METHODS 1.6)
_DENSE_VERTICES = 64  # below, all eigenvalues at once are cheaper than an iteration, and exact


def laplacian(mesh: Mesh, kind: LaplacianKind = "combinatorial", dtype: torch.dtype = torch.float32) -> SparseMatrix:
    """The Laplacian [V, V] of the mesh's binary adjacency A with degrees D.

    kind:
        "combinatorial": 2 L / lambda_max - I of L = D - A, lambda_max its largest eigenvalue; spectrum in [-1, 1].
        "symmetric": 2 L / lambda_max - I of L = I - D^-1/2 A D^-1/2 with its bound lambda_max = 2, that is
            -D^-1/2 A D^-1/2; spectrum in [-1, 1].
        "random_walk": I - D^-1 A, unscaled; a vertex minus the mean of its neighbours; lambda_max is None.
    A vertex without neighbours has a zero row in L, so it counts as a component of its own.

    Returns values of `dtype` (float32 or float64) on the mesh's device. Symmetric but for "random_walk".
    Deterministic. Raises ValueError for an unknown kind or dtype.
    """
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
    adjacency = mesh.adjacency()
    degree = np.asarray(adjacency.sum(axis=1)).ravel()
    connected = scipy.sparse.diags_array((degree > 0).astype(np.float64))
    eigenvalue: float | None = None
    if kind == "combinatorial":
        unscaled = (scipy.sparse.diags_array(degree) - adjacency).tocsr()
        eigenvalue = largest_eigenvalue(unscaled, adjacency, degree)
        result = unscaled * (2.0 / eigenvalue) - scipy.sparse.eye_array(mesh.num_vertices)
    elif kind == "symmetric":
        eigenvalue = 2.0
        scale = scipy.sparse.diags_array(_inverse(np.sqrt(degree)))
        isolated = scipy.sparse.eye_array(mesh.num_vertices) - connected
        result = -(scale @ adjacency @ scale) - isolated
    elif kind == "random_walk":
        result = connected - scipy.sparse.diags_array(_inverse(degree)) @ adjacency
    else:
        raise ValueError(f"kind must be 'combinatorial', 'symmetric' or 'random_walk', got {kind!r}")
    result = scipy.sparse.csr_matrix(result)
    result.eliminate_zeros()
    return SparseMatrix.from_scipy(result, dtype=dtype, lambda_max=eigenvalue).to(mesh.device)


def largest_eigenvalue(
    combinatorial: scipy.sparse.csr_matrix, adjacency: scipy.sparse.csr_matrix, degree: np.ndarray
) -> float:
    """An upper estimate of the largest eigenvalue of D - A, at most 1.0003 times too large.

    Lanczos from a fixed start vector, times 1.0002, but never above the bound max over edges of (d_i + d_j).
    """
    edges = adjacency.tocoo()
    bound = float((degree[edges.row] + degree[edges.col]).max())
    num_vertices = adjacency.shape[0]
    if num_vertices < _DENSE_VERTICES:
        estimate = float(np.linalg.eigvalsh(combinatorial.toarray())[-1])
    else:
        start = np.random.default_rng(0).standard_normal(num_vertices)
        (estimate,) = scipy.sparse.linalg.eigsh(
            combinatorial, k=1, which="LA", tol=_EIGENVALUE_TOLERANCE, v0=start, return_eigenvectors=False
        )
    return min(float(estimate) * _EIGENVALUE_MARGIN, bound)


def _inverse(values: np.ndarray) -> np.ndarray:
    """1 / values, 0 where values is 0."""
    return np.divide(1.0, values, out=np.zeros_like(values), where=values > 0)
