"""Small meshes that the tests of facecore.mesh share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import trimesh

from facecore.mesh import Mesh


def grid_arrays(rows: int, columns: int, hole: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A flat grid in z = 0 with unit spacing, facing +z; `hole` leaves out the middle cells."""
    y, x = np.mgrid[0 : rows + 1, 0 : columns + 1]
    vertices = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1).astype(np.float64)
    row, column = (index.ravel() for index in np.mgrid[0:rows, 0:columns])
    if hole:
        outside = (abs(row - (rows - 1) / 2) > rows / 6) | (abs(column - (columns - 1) / 2) > columns / 6)
        row, column = row[outside], column[outside]
    a = row * (columns + 1) + column
    b, c, d = a + 1, a + columns + 2, a + columns + 1
    used, triangles = np.unique(np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]), return_inverse=True)
    return vertices[used], triangles.reshape(-1, 3)


def make_mesh(vertices: npt.ArrayLike, triangles: npt.ArrayLike) -> Mesh:
    return Mesh(torch.from_numpy(np.array(vertices)), torch.from_numpy(np.array(triangles)))


def grid(rows: int, columns: int, hole: bool = False) -> Mesh:
    return make_mesh(*grid_arrays(rows, columns, hole))


def bumpy(rows: int, columns: int, seed: int = 0, hole: bool = False) -> Mesh:
    """A grid with smooth hills and a little noise everywhere: no two collapses cost the same."""
    vertices, triangles = grid_arrays(rows, columns, hole)
    noise = np.random.default_rng(seed).normal(scale=0.05, size=vertices.shape)
    vertices[:, 2] = np.sin(vertices[:, 0]) + np.cos(0.7 * vertices[:, 1])
    return Mesh(torch.from_numpy(vertices + noise), torch.from_numpy(triangles), fix_winding=False)


def sphere(subdivisions: int, radius: float = 100.0) -> Mesh:
    """642 vertices at 3 subdivisions, four times as many (less 6) at each further one."""
    ball = trimesh.creation.icosphere(subdivisions, radius)
    outward = np.einsum("ij,ij->i", np.asarray(ball.face_normals), np.asarray(ball.triangles_center)) > 0
    triangles = np.array(ball.faces)
    triangles[~outward] = triangles[~outward][:, ::-1]
    return make_mesh(np.array(ball.vertices), triangles)


def euler_characteristic(mesh: Mesh) -> int:
    """V - E + T: 2 for a sphere, 1 for a disc, 0 for a ring."""
    return mesh.num_vertices - len(mesh.edges()) + mesh.num_triangles
