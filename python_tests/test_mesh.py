"""Mesh: what it refuses, what it warns of, and its edges, boundary, adjacency and hash; cylindrical_uv."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from meshes import bumpy, euler_characteristic, grid, sphere

from facecore.mesh import Mesh, cylindrical_uv

TRIANGLE = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
ONE = torch.tensor([[0, 1, 2]])


def test_keeps_private_checked_copies():
    vertices = TRIANGLE.double().clone()
    mesh = Mesh(vertices, ONE.long(), uv=TRIANGLE[:, :2])
    vertices[0] = 7
    assert mesh.vertices.dtype == torch.float32 and mesh.triangles.dtype == torch.int32
    assert torch.equal(mesh.vertices, TRIANGLE)
    with pytest.raises(AttributeError):
        mesh.vertices = vertices


@pytest.mark.parametrize(
    ("vertices", "triangles", "uv", "message"),
    [
        (TRIANGLE[:, :2], ONE, None, r"vertices must have shape \[V, 3\] with V > 0, got \[3, 2\]"),
        (TRIANGLE[:0], ONE, None, r"vertices must have shape \[V, 3\] with V > 0, got \[0, 3\]"),
        (TRIANGLE.int(), ONE, None, "vertices must be floating point, got torch.int32"),
        (TRIANGLE * math.nan, ONE, None, "vertices must be finite in float32, got NaN or infinity in 3 rows"),
        (TRIANGLE.double() * 1e300, ONE, None, "in 2 rows"),  # infinite once it is float32
        (TRIANGLE, ONE[0], None, r"triangles must have shape \[T, 3\] with T > 0, got \[3\]"),
        (TRIANGLE, ONE[:0], None, r"triangles must have shape \[T, 3\] with T > 0, got \[0, 3\]"),
        (TRIANGLE, ONE.float(), None, "triangles must be integers, got torch.float32"),
        (TRIANGLE, ONE == 1, None, "triangles must be integers, got torch.bool"),
        (TRIANGLE, ONE + 1, None, "triangles must index vertices 0 to 2, got 1 to 3; file indices may start at 1"),
        (TRIANGLE, ONE - 1, None, "got -1 to 1"),
        (TRIANGLE, ONE + 2**32, None, "triangles must index vertices 0 to 2"),  # would wrap around in int32
        (TRIANGLE, torch.tensor([[0, 1, 2], [0, 1, 1]]), None, r"the first is 1: \[0, 1, 1\]; remove them"),
        (TRIANGLE, ONE, TRIANGLE[:2, :2], r"uv must have one row per vertex, \[3, 2\], got \[2, 2\]"),
        (TRIANGLE, ONE, TRIANGLE[:, :2] * math.inf, "uv must be finite"),
    ],
)
def test_refuses(vertices, triangles, uv, message):
    with pytest.raises(ValueError, match=message):
        Mesh(vertices, triangles, uv)


def test_edges_boundary_and_adjacency_of_two_triangles():
    mesh = grid(1, 1)  # 0 1 below, 2 3 above; the diagonal is 0-3
    assert mesh.edges().tolist() == [[0, 1], [0, 2], [0, 3], [1, 3], [2, 3]]
    assert mesh.edges().dtype == torch.int64
    assert mesh.boundary_vertices().tolist() == [True] * 4
    expected = [[0, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 0]]
    assert mesh.adjacency().toarray().tolist() == expected


def test_boundary_of_a_grid_and_of_a_sphere():
    boundary = grid(4, 6).boundary_vertices().reshape(5, 7)
    assert not boundary[1:-1, 1:-1].any()
    assert int(boundary.sum()) == 5 * 7 - 3 * 5
    assert not sphere(2).boundary_vertices().any()


def test_euler_characteristics():
    assert [euler_characteristic(m) for m in (sphere(2), grid(6, 6), grid(9, 9, hole=True))] == [2, 1, 0]


def test_an_isolated_vertex_is_allowed_and_has_no_edges():
    mesh = Mesh(torch.cat([TRIANGLE, torch.tensor([[9.0, 9, 9]])]), ONE)
    assert mesh.adjacency()[3].nnz == 0
    assert mesh.boundary_vertices().tolist() == [True, True, True, False]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_edges_follow_a_permutation_of_vertices_and_triangles(seed):
    mesh = bumpy(5, 4)
    random = np.random.default_rng(seed)
    new_index = random.permutation(mesh.num_vertices)
    triangles = new_index[mesh.triangles.numpy()][random.permutation(mesh.num_triangles)]
    other = Mesh(mesh.vertices[np.argsort(new_index)], torch.from_numpy(triangles), fix_winding=False)
    assert set(map(frozenset, other.edges().tolist())) == set(map(frozenset, new_index[mesh.edges().numpy()].tolist()))
    assert torch.equal(other.boundary_vertices()[new_index], mesh.boundary_vertices())


def test_inverted_winding_is_reversed_with_a_warning():
    good = sphere(2)
    with pytest.warns(UserWarning, match="wound clockwise"):
        fixed = Mesh(good.vertices, good.triangles.flip(1))
    corners = fixed.vertices[fixed.triangles.long()]
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert bool(((normal * corners.mean(1)).sum(1) > 0).all())


@pytest.mark.parametrize("flip", [False, True])
def test_the_winding_of_a_flat_mesh_is_left_alone(flip):
    flat = grid(5, 5)
    triangles = flat.triangles.flip(1) if flip else flat.triangles
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tilted = flat.vertices @ torch.linalg.qr(torch.eye(3) + 0.3).Q + 100.0
        assert torch.equal(Mesh(tilted, triangles).triangles, triangles)


def test_warns_of_crowded_and_of_inconsistent_edges():
    fan = torch.cat([TRIANGLE, torch.tensor([[0.0, -1, 0], [0, 0, 1]])])
    with pytest.warns(UserWarning, match="1 non-manifold edges"):
        Mesh(fan, torch.tensor([[0, 1, 2], [1, 0, 3], [0, 1, 4]]))
    with pytest.warns(UserWarning, match="1 edges join triangles of opposite winding"):
        Mesh(fan, torch.tensor([[0, 1, 2], [0, 1, 3]]))


def test_hash_depends_on_vertices_and_triangles_alone():
    mesh = Mesh(TRIANGLE, ONE)
    assert mesh.content_hash() == Mesh(TRIANGLE.double(), ONE.long(), uv=TRIANGLE[:, :2]).content_hash()
    assert mesh.content_hash() == mesh.to("cpu").content_hash()
    others = [Mesh(TRIANGLE * 1.0001, ONE), Mesh(TRIANGLE, torch.tensor([[1, 2, 0]]))]
    assert len({m.content_hash() for m in (mesh, *others)}) == 3


def test_moves_between_devices(device):
    mesh = Mesh(TRIANGLE, ONE, uv=TRIANGLE[:, :2]).to(device)
    tensors = (mesh.vertices, mesh.triangles, mesh.uv, mesh.edges(), mesh.boundary_vertices())
    assert all(tensor.device.type == device.type for tensor in tensors)
    assert torch.equal(mesh.to("cpu").vertices, TRIANGLE)


def test_cylindrical_uv_by_hand():
    # z_c = -1: the angles are atan2(0, 1) = 0, atan2(1, 1) = 45 degrees and atan2(-1, 0) = -90 degrees, the widest
    vertices = torch.tensor([[0.0, 0, 0], [1, 2, 0], [-1, 4, -1]])
    uv = cylindrical_uv(Mesh(vertices, ONE, fix_winding=False))
    torch.testing.assert_close(uv, torch.tensor([[0.5, 0.0], [0.75, 0.5], [0.0, 1.0]]))


def test_cylindrical_uv_of_mirrored_vertices_is_mirrored():
    mesh = bumpy(8, 8)
    both = torch.cat([mesh.vertices, mesh.vertices * torch.tensor([-1.0, 1, 1])])
    triangles = torch.cat([mesh.triangles, mesh.triangles.flip(1) + mesh.num_vertices])
    left, right = cylindrical_uv(Mesh(both, triangles, fix_winding=False)).split(mesh.num_vertices)
    torch.testing.assert_close(left[:, 0], 1 - right[:, 0])
    torch.testing.assert_close(left[:, 1], right[:, 1])
    assert float(left.min()) >= 0 and float(left.max()) <= 1


def test_cylindrical_uv_refuses_a_mesh_without_height():
    with pytest.raises(ValueError, match="must extend in x and y"):
        cylindrical_uv(Mesh(TRIANGLE[:, [0, 2, 1]], ONE))
