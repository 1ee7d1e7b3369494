"""closest_points: against every pair of point and triangle, and the closest point of one triangle against samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from meshes import sphere

from facecore.mesh import closest_points
from facecore.mesh.proximity import closest_barycentric

seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=50, deadline=None)
@given(seed=seeds, flat=st.sampled_from(["no", "segment", "point"]))
def test_no_point_of_a_triangle_is_nearer(seed, flat):
    random = np.random.default_rng(seed)
    corners = random.normal(size=(20, 3, 3))
    if flat != "no":
        corners[:, 2] = corners[:, 1]
    if flat == "point":
        corners[:, 0] = corners[:, 1]
    points = 2 * random.normal(size=(20, 3))
    weights = closest_barycentric(points, corners)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)
    samples = np.concatenate(
        [random.dirichlet(np.ones(3), 500), np.eye(3), random.dirichlet(np.ones(2), 99) @ np.eye(3)[:2]]
    )
    nearest = np.linalg.norm(np.einsum("sk,pkc->spc", samples, corners) - points, axis=2).min(axis=0)
    assert (np.linalg.norm(np.einsum("pk,pkc->pc", weights, corners) - points, axis=1) <= nearest + 1e-12).all()


@pytest.mark.parametrize(
    ("point", "weights"),
    [
        ((0.25, 0.25, 3.0), (0.5, 0.25, 0.25)),  # above the inside
        ((-1.0, -1.0, 0.0), (1.0, 0.0, 0.0)),  # beyond a corner
        ((0.5, -2.0, 1.0), (0.5, 0.5, 0.0)),  # beyond a side
        ((1.0, 1.0, 0.0), (0.0, 0.5, 0.5)),  # beyond the long side
    ],
)
def test_one_triangle_by_hand(point, weights):
    corners = np.array([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]])
    np.testing.assert_allclose(closest_barycentric(np.array([point]), corners), [weights], atol=1e-15)


@settings(max_examples=25, deadline=None)
@given(
    seed=seeds, num_points=st.integers(1, 60), num_triangles=st.integers(1, 60), spread=st.sampled_from([0.1, 1, 30])
)
def test_finds_what_trying_every_triangle_finds(seed, num_points, num_triangles, spread):
    random = np.random.default_rng(seed)
    # triangles of very different sizes, some of them degenerate
    size = 10.0 ** random.uniform(-2, 1, size=(num_triangles, 1, 1))
    corners = spread * random.normal(size=(num_triangles, 1, 3)) + size * random.normal(size=(num_triangles, 3, 3))
    corners[::7, 2] = corners[::7, 1]
    points = spread * random.normal(size=(num_points, 3))
    found = closest_points(points, corners.reshape(-1, 3), np.arange(3 * num_triangles).reshape(-1, 3))
    every = np.stack([closest_barycentric(points, np.repeat(c[None], num_points, 0)) @ c for c in corners])
    distance = np.linalg.norm(every - points, axis=2)
    np.testing.assert_array_equal(found.triangle, distance.argmin(axis=0))
    np.testing.assert_allclose(found.distance, distance.min(axis=0), rtol=1e-12)


def test_points_of_the_mesh_are_found_exactly():
    mesh = sphere(3)
    vertices, triangles = mesh.vertices.double().numpy(), mesh.triangles.numpy()
    found = closest_points(vertices, vertices, triangles)
    assert found.distance.max() < 1e-12
    assert (triangles[found.triangle] == np.arange(len(vertices))[:, None]).any(axis=1).all()
    assert closest_points(np.zeros((0, 3)), vertices, triangles).triangle.shape == (0,)


def test_equal_distances_go_to_the_lowest_triangle():
    vertices = np.array([[0.0, 0, 1], [1, 0, 1], [0, 1, 1]])
    twice = np.concatenate([vertices, vertices * (1, 1, -1)])
    assert closest_points([[0.2, 0.2, 0]], twice, [[3, 4, 5], [0, 1, 2]]).triangle.tolist() == [0]
    assert closest_points([[0.2, 0.2, 0]], twice, [[0, 1, 2], [3, 4, 5]]).triangle.tolist() == [0]


def test_refuses_wrong_input():
    vertices = np.eye(3)
    with pytest.raises(ValueError, match=r"points must have shape \[\*, 3\], got \[3\]"):
        closest_points(vertices[0], vertices, [[0, 1, 2]])
    with pytest.raises(ValueError, match=r"vertices must be finite"):
        closest_points(vertices, vertices * np.nan, [[0, 1, 2]])
    with pytest.raises(ValueError, match=r"triangles must have shape \[T, 3\] with T > 0, got \[0\]"):
        closest_points(vertices, vertices, [])
    with pytest.raises(ValueError, match=r"triangles must index vertices 0 to 2, got 0 to 3"):
        closest_points(vertices, vertices, [[0, 1, 3]])
