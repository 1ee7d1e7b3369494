"""Closest points on a triangle mesh: exact, deterministic, and without an index library to install."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import scipy.spatial

_CHUNK = 4096  # points handled together; bounds the memory
_FIRST_CANDIDATES = 8  # triangles per point whose distances give the first bound
_SLACK = 1e-9  # relative; widens the bound by more than the rounding of the distances it is compared with


class ClosestPoints(NamedTuple):
    """distance float64 [P]; triangle int64 [P]; barycentric float64 [P, 3], each at least 0, sum 1."""

    distance: np.ndarray
    triangle: np.ndarray
    barycentric: np.ndarray


def closest_points(points: np.ndarray, vertices: np.ndarray, triangles: np.ndarray) -> ClosestPoints:
    """The point of the mesh nearest to each of `points` [P, 3]; vertices [V, 3], triangles [T, 3], one unit of length.

    Exact: a triangle is left out only where the sphere around it is farther than some other triangle. Equal distances
    go to the lowest triangle. Degenerate triangles count as the segments they are. Deterministic. Raises ValueError
    for a wrong shape, an index out of range or values that are not finite.
    """
    points, vertices = _checked("points", points), _checked("vertices", vertices)
    triangles = np.asarray(triangles, dtype=np.int64)
    if triangles.ndim != 2 or triangles.shape[1] != 3 or len(triangles) == 0:
        raise ValueError(f"triangles must have shape [T, 3] with T > 0, got {list(triangles.shape)}")
    if triangles.min() < 0 or triangles.max() >= len(vertices):
        raise ValueError(
            f"triangles must index vertices 0 to {len(vertices) - 1}, got {triangles.min()} to {triangles.max()}"
        )
    search = _Search(vertices[triangles])
    result = ClosestPoints(np.empty(len(points)), np.empty(len(points), np.int64), np.empty((len(points), 3)))
    for start in range(0, len(points), _CHUNK):
        part = slice(start, start + _CHUNK)
        for whole, found in zip(result, search.nearest(points[part])):
            whole[part] = found
    return result


class _Search:
    """Triangles grouped by size, with a tree of the centres of the spheres around them for each group.

    A ball around a point that is to find every triangle must reach as far as the largest of the group: few sizes in a
    group, few useless candidates.
    """

    def __init__(self, corners: np.ndarray) -> None:
        self.corners = corners
        self.centres, self.radii = _spheres(corners)
        self.tree = scipy.spatial.cKDTree(self.centres)
        octave = np.frexp(self.radii)[1]
        self.groups = [np.nonzero(octave == value)[0] for value in np.unique(octave)]
        self.group_trees = [scipy.spatial.cKDTree(self.centres[group]) for group in self.groups]

    def nearest(self, points: np.ndarray) -> ClosestPoints:
        count = min(_FIRST_CANDIDATES, len(self.corners))
        first = self.tree.query(points, k=count)[1].reshape(-1)
        bound = closest_of_pairs(points, np.repeat(np.arange(len(points)), count), self.corners, first).distance
        rows, candidates = [], []
        for group, tree in zip(self.groups, self.group_trees):
            found = tree.query_ball_point(points, (bound + self.radii[group].max()) * (1 + _SLACK))
            rows.append(np.repeat(np.arange(len(points)), [len(hits) for hits in found]))
            candidates.append(group[np.fromiter(itertools.chain.from_iterable(found), np.int64, len(rows[-1]))])
        return closest_of_pairs(points, np.concatenate(rows), self.corners, np.concatenate(candidates))


def closest_of_pairs(points: np.ndarray, row: np.ndarray, corners: np.ndarray, triangle: np.ndarray) -> ClosestPoints:
    """For each of `points` [P, 3] the best of its pairs (row of `points` [M], triangle [M] of `corners` [T, 3, 3]).

    Every row must occur. Equal distances go to the lowest triangle.
    """
    centres, radii = _spheres(corners)
    distance, radius = np.linalg.norm(points[row] - centres[triangle], axis=1), radii[triangle]
    bound = np.full(len(points), np.inf)  # distance to some point of some triangle: a corner
    np.minimum.at(bound, row, np.linalg.norm(points[row] - corners[triangle, 0], axis=1))
    reachable = distance - radius <= bound[row] * (1 + _SLACK)
    row, triangle = row[reachable], triangle[reachable]
    barycentric = closest_barycentric(points[row], corners[triangle])
    distance = np.linalg.norm(np.einsum("pk,pkc->pc", barycentric, corners[triangle]) - points[row], axis=1)
    order = np.lexsort((triangle, distance, row))
    best = order[np.diff(row[order], prepend=-1) > 0]  # the first of each row
    return ClosestPoints(distance[best], triangle[best], barycentric[best])


def _spheres(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres [T, 3] and radii [T] of spheres around triangles."""
    centres = corners.mean(axis=1)
    return centres, np.linalg.norm(corners - centres[:, None], axis=-1).max(axis=1)


def closest_barycentric(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Weights [P, 3] of the point of triangle i (corners [P, 3, 3]) that is nearest to point i [P, 3].

    Inside: the projection on the plane. Otherwise the nearest point of the three sides.
    """
    weights = _plane_barycentric(points, corners)
    outside = np.nonzero(~(weights >= 0).all(axis=1))[0]  # NaN, from a degenerate triangle, is outside too
    point, corner = points[outside], corners[outside]
    best = np.full(len(outside), np.inf)
    for first in range(3):
        second = (first + 1) % 3
        start, side = corner[:, first], corner[:, second] - corner[:, first]
        length = (side * side).sum(axis=1)
        along = ((point - start) * side).sum(axis=1) / np.where(length > 0, length, 1.0)
        along = np.clip(along, 0.0, 1.0)
        distance = ((start + along[:, None] * side - point) ** 2).sum(axis=1)
        nearer = distance < best
        best[nearer] = distance[nearer]
        on_side = np.zeros((int(nearer.sum()), 3))
        on_side[:, first], on_side[:, second] = 1.0 - along[nearer], along[nearer]
        weights[outside[nearer]] = on_side
    return weights


def _plane_barycentric(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Barycentric coordinates [P, 3] of the projections on the triangles' planes; NaN for a degenerate triangle."""
    edge1, edge2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    offset = points - corners[:, 0]
    normal = np.cross(edge1, edge2)
    area = (normal * normal).sum(axis=1)
    area = np.where(area > 0, area, np.nan)
    second = (np.cross(offset, edge2) * normal).sum(axis=1) / area
    third = (np.cross(edge1, offset) * normal).sum(axis=1) / area
    return np.stack([1.0 - second - third, second, third], axis=1)


def _checked(name: str, value: np.ndarray) -> np.ndarray:
    array = np.asarray(value, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 3:
        raise ValueError(f"{name} must have shape [*, 3], got {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return array
