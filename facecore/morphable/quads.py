"""Quad meshes: split into triangles, and one step of linear refinement that carries every per-vertex quantity."""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.sparse


@dataclasses.dataclass(frozen=True)
class QuadMesh:
    """The triangles of a quad mesh and how its vertices follow from the original ones.

    triangles: int32 [T, 3]; weights: [V', V] sparse, rows sum to 1 (the identity without refinement), so that a
    quantity x of the original vertices is weights @ x; the original vertices come first.
    """

    triangles: np.ndarray
    weights: scipy.sparse.csr_matrix
    edges: np.ndarray  # int64 [E, 2], a < b, sorted; new vertex V + e lies in the middle of edge e
    quads: np.ndarray  # int64 [Q, 4]; new vertex V + E + q is the centre of quad q
    refined: bool

    def mirror(self, mirror_map: np.ndarray) -> np.ndarray:
        """The mirror map of all vertices from that of the original ones, int64 [V'].

        Raises ValueError when the quads are not symmetric under the map.
        """
        if not self.refined:
            return mirror_map
        count = mirror_map.size
        edges = count + _find_rows(self.edges, np.sort(mirror_map[self.edges], axis=1))
        quads = count + len(self.edges) + _find_rows(np.sort(self.quads), np.sort(mirror_map[self.quads], axis=1))
        return np.concatenate([mirror_map, edges, quads])


def quad_mesh(quads: np.ndarray, num_vertices: int, *, refine: int = 0) -> QuadMesh:
    """Triangulates quads, int [Q, 4]; refine=1 first adds edge midpoints and quad centres.

    Without refinement a quad is split along its corners 0-2. With it, a quad gives four quads (corner, next midpoint,
    centre, previous midpoint), each split from the corner to the centre: eight triangles around the centre.
    """
    quads = np.asarray(quads, dtype=np.int64)
    if quads.ndim != 2 or quads.shape[1] != 4 or quads.min() < 0 or quads.max() >= num_vertices:
        raise ValueError(f"quads must be [Q, 4] with indices from 0 to {num_vertices - 1}")
    sides = np.stack([quads, np.roll(quads, -1, axis=1)], axis=2)
    edges, side_edge = np.unique(np.sort(sides.reshape(-1, 2), axis=1), axis=0, return_inverse=True)
    identity = scipy.sparse.identity(num_vertices, format="csr")
    if refine == 0:
        triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]], axis=1).reshape(-1, 3)
        return QuadMesh(triangles.astype(np.int32), identity, edges, quads, False)
    if refine != 1:
        raise ValueError(f"refine must be 0 or 1, got {refine}")
    middle = num_vertices + side_edge.reshape(-1, 4)
    centre = np.broadcast_to(num_vertices + len(edges) + np.arange(len(quads))[:, None], quads.shape)
    first = np.stack([quads, middle, centre], axis=2)
    second = np.stack([quads, centre, np.roll(middle, 1, axis=1)], axis=2)
    triangles = np.stack([first, second], axis=2).reshape(-1, 3)
    blocks = [identity, _averages(edges, num_vertices), _averages(quads, num_vertices)]
    weights = scipy.sparse.vstack(blocks, format="csr")
    return QuadMesh(triangles.astype(np.int32), weights, edges, quads, True)


def _averages(groups: np.ndarray, num_vertices: int) -> scipy.sparse.csr_matrix:
    """The matrix that averages the vertices of each row of groups, [G, K] -> [G, V]."""
    count, size = groups.shape
    rows = np.repeat(np.arange(count), size)
    return scipy.sparse.csr_matrix((np.full(rows.size, 1 / size), (rows, groups.ravel())), (count, num_vertices))


def _find_rows(table: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The index in table of each row of wanted; both hold index groups in ascending order."""
    order = np.lexsort(table.T[::-1])
    wanted_order = np.lexsort(wanted.T[::-1])
    if not np.array_equal(table[order], wanted[wanted_order]):
        raise ValueError("the quads are not symmetric under the mirror map")
    found = np.empty(len(table), dtype=np.int64)
    found[wanted_order] = order
    return found
