"""Graph Laplacians of a mesh, scaled for Chebyshev convolution or as the neighbour-mean operator (METHODS 1.6)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
import torch

from facecore.mesh.mesh import Mesh
from facecore.structures import SparseMatrix

LaplacianKind = Literal["combinatorial", "symmetric", "random_walk"]

_EIGENVALUE_TOLERANCE = 1e-4  # relative, of the Lanczos iteration
_EIGENVALUE_MARGIN = 1.0002  # a Lanczos value approaches from below; this lifts it over the true one (METHODS 1.6)
_ASYMMETRY = 1e-5  # relative: the rounding of float32 arithmetic, far below a missing edge
_SPECTRUM_TOLERANCE = 1e-3  # how far a Laplacian's spectrum may leave [-1, 1]: see check_spectrum
_LANCZOS_STEPS = 100  # the radius is then 0.02 % too small for Laplacians of a face of 37,000 vertices
_LANCZOS_BREAKDOWN = 1e-12  # of a matrix whose values are of order 1
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


def spectral_radius(matrix: SparseMatrix) -> float:
    """The largest absolute eigenvalue of a symmetric matrix [V, V], from below and about 0.1 % too small at most.

    By 100 steps of Lanczos from a fixed start vector, 0.1 s for 37,000 vertices; exact below 64 vertices. Where the sum
    of |values| in no row exceeds 1, that bound of the eigenvalues is returned at once instead. Deterministic. Raises
    ValueError for a matrix that is not symmetric to 1e-5 of its largest value, or of half precision.
    """
    _check_matrix("matrix", matrix)
    values = matrix.to_scipy().astype(np.float64)
    if values.nnz == 0:
        return 0.0
    asymmetry, scale = abs(values - values.T).max(), abs(values).max()
    if asymmetry > _ASYMMETRY * scale:
        raise ValueError(
            f"matrix must be symmetric to {_ASYMMETRY:g} of its largest value {scale:g}, got a difference of "
            f"{asymmetry:g} from its transpose"
        )
    bound = float(abs(values).sum(axis=1).max())
    if bound <= 1:
        return bound
    if matrix.shape[0] < _DENSE_VERTICES:
        return float(np.abs(np.linalg.eigvalsh(values.toarray())).max())
    return _lanczos_radius(values)


def _lanczos_radius(matrix: scipy.sparse.csr_matrix) -> float:
    """The largest absolute Ritz value of Lanczos from a fixed start vector.

    Without orthogonalisation against all former vectors: copies of a Ritz value that has converged do no harm here.
    """
    vector = np.random.default_rng(0).standard_normal(matrix.shape[0])
    vector /= np.linalg.norm(vector)
    former, beta = np.zeros_like(vector), 0.0
    diagonal, off_diagonal = [], []
    for _ in range(_LANCZOS_STEPS):
        image = matrix @ vector - beta * former
        diagonal.append(float(image @ vector))
        image -= diagonal[-1] * vector
        beta = float(np.linalg.norm(image))
        off_diagonal.append(beta)
        if beta < _LANCZOS_BREAKDOWN:  # the space is invariant: its Ritz values are eigenvalues
            break
        former, vector = vector, image / beta
    ritz = scipy.linalg.eigvalsh_tridiagonal(np.array(diagonal), np.array(off_diagonal[:-1]))
    return float(np.abs(ritz).max())


def check_spectrum(name: str, matrix: SparseMatrix) -> None:
    """Raises ValueError unless the eigenvalues of a scaled Laplacian [V, V] lie in [-1, 1], to 1e-3.

    Outside, T_k grows as cosh(k arccosh |eigenvalue|): at 2 the term of order 5 is 362 times its input. At 1.001 it is
    1.02 times, which harms nobody and leaves room for the rounding of float32 values and of a user's own lambda_max.
    A matrix that is not symmetric is refused as well: its eigenvalues may be complex, and no norm bounds its terms.
    """
    _check_matrix(name, matrix)
    try:
        radius = spectral_radius(matrix)
    except ValueError as error:
        raise ValueError(
            f"{name} must be symmetric for its spectrum to be measured ({error}); if its eigenvalues are known to be "
            f"real and in [-1, 1], say so by check_spectrum=False"
        ) from None
    if radius > 1 + _SPECTRUM_TOLERANCE:
        raise ValueError(
            f"{name} must have its eigenvalues in [-1, 1], got one of absolute value {radius:.6g}; "
            f'facecore.mesh.laplacian(mesh, "combinatorial" or "symmetric") scales them so'
        )


def _check_matrix(name: str, matrix: SparseMatrix) -> None:
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name} must be square, got shape {list(matrix.shape)}")
    if matrix.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"{name} must have float32 or float64 values, got {str(matrix.dtype).removeprefix('torch.')}: take "
            f"it before it is rounded, or {name}.to(dtype=torch.float32)"
        )


def _inverse(values: np.ndarray) -> np.ndarray:
    """1 / values, 0 where values is 0."""
    return np.divide(1.0, values, out=np.zeros_like(values), where=values > 0)
