"""Hierarchies for the tests of graph networks: a small real one, and one of given sizes without geometry."""

from __future__ import annotations

import itertools
import math
import types

import scipy.sparse
import torch

from facecore.mesh import Hierarchy, Mesh, build_hierarchy
from facecore.structures import SparseMatrix

PAPER_SIZES = (37202, 9301, 2326, 582, 146, 73)  # METHODS 2.1


def build_small_hierarchy(tmp_path, factors=(2, 2), rows=7, columns=6) -> Hierarchy:
    """A curved grid of rows x columns vertices."""
    points = [(10.0 * i, 10.0 * j, 5 * math.sin(i) * math.cos(j)) for i in range(rows) for j in range(columns)]
    triangles = []
    for i in range(rows - 1):
        for j in range(columns - 1):
            a, b, c, d = i * columns + j, (i + 1) * columns + j, (i + 1) * columns + j + 1, i * columns + j + 1
            triangles += [(a, b, c), (a, c, d)]
    mesh = Mesh(torch.tensor(points), torch.tensor(triangles, dtype=torch.int32), fix_winding=False)
    return build_hierarchy(mesh, factors, cache_dir=tmp_path)


def stub_hierarchy(sizes=PAPER_SIZES) -> types.SimpleNamespace:
    """The fields that networks read, without geometry: each level is a ring, each coarse vertex stands for a run."""
    levels = [
        types.SimpleNamespace(num_vertices=n, adjacency=lambda n=n: _ring(n), device=torch.device("cpu")) for n in sizes
    ]
    pairs = list(itertools.pairwise(sizes))
    up = [SparseMatrix.from_scipy(_selection(range(fine), fine, coarse)) for fine, coarse in pairs]
    down = [SparseMatrix.from_scipy(scipy.sparse.eye(coarse, fine, format="csr")) for fine, coarse in pairs]
    return types.SimpleNamespace(levels=levels, up=up, down=down)


def _ring(n: int) -> scipy.sparse.csr_matrix:
    ones = [1.0] * n
    one_way = scipy.sparse.csr_matrix((ones, (range(n), [(i + 1) % n for i in range(n)])), shape=(n, n))
    return (one_way + one_way.T).tocsr()


def _selection(rows: range, fine: int, coarse: int) -> scipy.sparse.csr_matrix:
    return scipy.sparse.csr_matrix(([1.0] * fine, (rows, [i * coarse // fine for i in rows])), shape=(fine, coarse))
