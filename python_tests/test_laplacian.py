"""laplacian: its definitions, the spectrum of the scaled kinds, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from meshes import bumpy, grid, sphere

from facecore.mesh import Mesh, check_spectrum, laplacian, spectral_radius
from facecore.structures import SparseMatrix

SCALED = ("combinatorial", "symmetric")


def random_mesh(seed: int, num_vertices: int, num_triangles: int) -> Mesh:
    """Triangles at random: several components, isolated vertices, uneven degrees, crowded edges."""
    random = np.random.default_rng(seed)
    triangles = np.stack([random.choice(num_vertices, 3, replace=False) for _ in range(num_triangles)])
    return Mesh(torch.from_numpy(random.normal(size=(num_vertices, 3))), torch.from_numpy(triangles), fix_winding=False)


def dense(mesh: Mesh, kind: str) -> np.ndarray:
    return laplacian(mesh, kind, dtype=torch.float64).to_scipy().toarray()


def test_two_triangles_by_hand():
    mesh = grid(1, 1)  # degrees 3, 2, 2, 3; the eigenvalues of D - A are 0, 2, 4, 4
    adjacency = mesh.adjacency().toarray()
    degree = np.diag([3.0, 2, 2, 3])
    matrix = laplacian(mesh, dtype=torch.float64)
    assert matrix.lambda_max == pytest.approx(4 * 1.0002)
    np.testing.assert_allclose(matrix.to_scipy().toarray(), 2 / matrix.lambda_max * (degree - adjacency) - np.eye(4))
    root = np.diag(np.diag(degree) ** -0.5)
    np.testing.assert_allclose(dense(mesh, "symmetric"), -root @ adjacency @ root)
    np.testing.assert_allclose(dense(mesh, "random_walk"), np.eye(4) - np.linalg.inv(degree) @ adjacency)
    assert laplacian(mesh, "symmetric").lambda_max == 2.0
    assert laplacian(mesh, "random_walk").lambda_max is None


@pytest.mark.filterwarnings("ignore::UserWarning")  # of crowded edges
@pytest.mark.parametrize("kind", SCALED)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), num_vertices=st.integers(3, 120), num_triangles=st.integers(1, 90))
def test_spectrum_lies_between_minus_one_and_one(kind, seed, num_vertices, num_triangles):
    matrix = dense(random_mesh(seed, num_vertices, num_triangles), kind)
    assert np.array_equal(matrix, matrix.T)
    values = np.linalg.eigvalsh(matrix)
    # -1 belongs to the constants of each component, exactly; 1e-12 is the rounding of the eigenvalue solver
    assert values[0] == pytest.approx(-1, abs=1e-12)
    assert values[-1] <= 1 + 1e-12


@pytest.mark.parametrize("mesh", [sphere(3), bumpy(30, 41), grid(25, 25, hole=True)], ids=["sphere", "bumpy", "ring"])
def test_lambda_max_is_an_upper_bound_and_close(mesh):
    adjacency = mesh.adjacency().toarray()
    exact = np.linalg.eigvalsh(np.diag(adjacency.sum(1)) - adjacency)[-1]
    assert exact <= laplacian(mesh).lambda_max <= exact * 1.0003


@pytest.mark.filterwarnings("ignore::UserWarning")  # of crowded edges
def test_an_isolated_vertex_is_a_component_of_its_own():
    mesh = random_mesh(3, 60, 12)
    isolated = np.nonzero(mesh.adjacency().sum(axis=1) == 0)[0]
    assert len(isolated) > 0
    expected = {"combinatorial": -1.0, "symmetric": -1.0, "random_walk": 0.0}
    for kind, value in expected.items():
        rows = dense(mesh, kind)[isolated]
        np.testing.assert_array_equal(rows, value * np.eye(60)[isolated])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["combinatorial", "symmetric", "random_walk"]))
def test_follows_a_permutation_of_the_vertices(seed, kind):
    mesh = bumpy(4, 5)  # 30 vertices: all eigenvalues at once, so lambda_max is the same to rounding
    new_index = np.random.default_rng(seed).permutation(mesh.num_vertices)
    other = Mesh(
        mesh.vertices[np.argsort(new_index)], torch.from_numpy(new_index[mesh.triangles.numpy()]), fix_winding=False
    )
    np.testing.assert_allclose(dense(other, kind)[np.ix_(new_index, new_index)], dense(mesh, kind), atol=1e-12)


def test_random_walk_takes_the_mean_of_the_neighbours():
    mesh = bumpy(6, 5)
    result = laplacian(mesh, "random_walk", dtype=torch.float64).to_scipy() @ mesh.vertices.double().numpy()
    first, second = mesh.edges().T.numpy()
    for vertex in (0, 8, 17):
        neighbours = np.concatenate([second[first == vertex], first[second == vertex]])
        expected = mesh.vertices[vertex].double() - mesh.vertices[neighbours].double().mean(0)
        np.testing.assert_allclose(result[vertex], expected, atol=1e-12)


@pytest.mark.parametrize("kind", SCALED)
def test_chebyshev_terms_stay_bounded_in_float32(kind):
    matrix = laplacian(sphere(3), kind).to_scipy()
    start = np.random.default_rng(0).normal(size=(642, 4)).astype(np.float32)
    previous, current = start, matrix @ start
    for _ in range(18):
        previous, current = current, 2 * (matrix @ current) - previous
        assert np.linalg.norm(current) <= np.linalg.norm(start) * (1 + 1e-4)  # |T_k| <= 1 and float32 rounding


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_is_repeatable_and_on_the_mesh_device(device, dtype):
    mesh = bumpy(12, 12).to(device)
    first, second = laplacian(mesh, dtype=dtype), laplacian(mesh, dtype=dtype)
    assert first.dtype == dtype and first.device.type == device.type
    assert first.lambda_max == second.lambda_max and torch.equal(first.values, second.values)


def test_refuses_unknown_kinds_and_dtypes():
    with pytest.raises(ValueError, match="kind must be 'combinatorial', 'symmetric' or 'random_walk', got 'cotangent'"):
        laplacian(grid(2, 2), "cotangent")
    with pytest.raises(ValueError, match=r"dtype must be torch.float32 or torch.float64, got torch.float16"):
        laplacian(grid(2, 2), dtype=torch.float16)


@pytest.mark.parametrize("mesh", [sphere(3), bumpy(30, 41), grid(5, 8)], ids=["sphere", "bumpy", "grid"])
def test_spectral_radius_is_measured_from_below(mesh):
    """D - A, whose rows' sums say nothing; a Lanczos value never exceeds the largest eigenvalue but by rounding."""
    adjacency = mesh.adjacency()
    unscaled = scipy.sparse.diags_array(np.asarray(adjacency.sum(axis=1)).ravel()) - adjacency
    exact = np.linalg.eigvalsh(unscaled.toarray())[-1]
    for sign in (1, -1):
        measured = spectral_radius(SparseMatrix.from_scipy(sign * unscaled, dtype=torch.float64))
        assert exact * 0.999 <= measured <= exact * (1 + 1e-12)


def test_spectral_radius_of_small_matrices():
    for values, radius in [
        ([[0.25]], 0.25),
        ([[-3.0]], 3.0),
        (np.zeros((5, 5)), 0.0),
        (np.zeros((0, 0)), 0.0),
        ([[0.0, 2.0], [2.0, 0.0]], 2.0),
        (np.diag([1.5] * 40 + [-4.0] * 40), 4.0),  # Lanczos finds the two eigenvalues after two steps and must stop
    ]:
        assert spectral_radius(SparseMatrix.from_scipy(scipy.sparse.csr_matrix(values))) == pytest.approx(radius)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of crowded edges
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 300), st.integers(1, 500), st.sampled_from(SCALED))
def test_every_laplacian_passes_and_a_shorter_scale_does_not(seed, num_vertices, num_triangles, kind):
    matrix = laplacian(random_mesh(seed, num_vertices, num_triangles), kind)
    check_spectrum("laplacian", matrix)
    stretched = SparseMatrix.from_scipy(matrix.to_scipy() * 1.003)  # has the eigenvalue -1.003
    with pytest.raises(ValueError, match=r"laplacian must have its eigenvalues in \[-1, 1\], got one of .* 1\.00"):
        check_spectrum("laplacian", stretched)


def test_check_spectrum_names_what_it_measured():
    mesh = grid(1, 1)  # degrees 3, 2, 2, 3; the eigenvalues of D - A are 0, 2, 4, 4
    adjacency = mesh.adjacency()
    unscaled = scipy.sparse.diags_array([3.0, 2, 2, 3]) - adjacency
    with pytest.raises(ValueError, match=r"graph must have its eigenvalues in \[-1, 1\], got one of absolute value 4;"):
        check_spectrum("graph", SparseMatrix.from_scipy(unscaled))
    mixed = 2 * unscaled / 2.0 - scipy.sparse.eye_array(4)  # D - A with the lambda_max of the symmetric kind
    with pytest.raises(ValueError, match=r"got one of absolute value 3; facecore.mesh.laplacian\(mesh, "):
        check_spectrum("graph", SparseMatrix.from_scipy(mixed))
    with pytest.raises(ValueError, match=r"graph must be symmetric .* difference of 0\.166667 from its transpose"):
        check_spectrum("graph", laplacian(mesh, "random_walk"))
    with pytest.raises(ValueError, match=r"graph must be square, got shape \[2, 3\]"):
        check_spectrum("graph", SparseMatrix.from_scipy(scipy.sparse.csr_matrix((2, 3))))
    with pytest.raises(ValueError, match="matrix must have float32 or float64 values, got bfloat16"):
        spectral_radius(laplacian(mesh).to(dtype=torch.bfloat16))
