"""Edge flips on a triangulated surface: the Delaunay criterion measured on the surface instead of in its domain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


def _interior_edges(triangles: IntArray, count: int) -> tuple[IntArray, IntArray, IntArray]:
    """For edges with two triangles: the triangles [E, 2], the edge (a, b) as the first has it, the opposite corners."""
    num_triangles = len(triangles)
    start, end = triangles.ravel(), np.roll(triangles, -1, axis=1).ravel()
    opposite = np.roll(triangles, -2, axis=1).ravel()
    owner = np.repeat(np.arange(num_triangles), 3)
    key = np.minimum(start, end) * count + np.maximum(start, end)
    order = np.argsort(key, kind="stable")
    same = np.flatnonzero(key[order][1:] == key[order][:-1])
    left, right = order[same], order[same + 1]
    return (
        np.stack([owner[left], owner[right]], axis=1),
        np.stack([start[left], end[left]], axis=1),
        np.stack([opposite[left], opposite[right]], axis=1),
    )


def _angle(corner: Array, first: Array, second: Array) -> Array:
    a, b = first - corner, second - corner
    return np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), np.sum(a * b, axis=1))


def _signed_area(a: Array, b: Array, c: Array) -> Array:
    return (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]


def flip_edges(
    position: Array, domain: Array, triangles: IntArray, protected: list[tuple[int, int]], rounds: int = 30
) -> IntArray:
    """Flip edges whose opposite angles on the surface exceed 180 degrees together.

    position [H, 3], domain [H, 2] (a flip must keep both triangles upright there), triangles [T, 3]. Edges in
    `protected` stay. Returns new triangles. Each round flips an independent set, the worst edges first; stops when
    nothing is left to flip.
    """
    triangles = triangles.copy()
    count = len(position)
    keep = np.sort(np.array(protected, dtype=np.int64).reshape(-1, 2), axis=1)
    kept_keys = keep[:, 0] * count + keep[:, 1]
    for _ in range(rounds):
        owners, edge, opposite = _interior_edges(triangles, count)
        a, b, c, d = edge[:, 0], edge[:, 1], opposite[:, 0], opposite[:, 1]
        excess = _angle(position[c], position[a], position[b]) + _angle(position[d], position[a], position[b]) - np.pi
        # Seen from outside the domain's v axis points down, so upright triangles have negative area.
        upright = (_signed_area(domain[c], domain[a], domain[d]) < -1e-6) & (
            _signed_area(domain[d], domain[b], domain[c]) < -1e-6
        )
        free = ~np.isin(np.sort(edge, axis=1) @ np.array([count, 1]), kept_keys)
        candidate = np.flatnonzero((excess > 1e-3) & upright & free)
        if candidate.size == 0:
            break
        # The worst candidate of each triangle; an edge flips when it is that of both its triangles.
        candidate = candidate[np.argsort(excess[candidate], kind="stable")]
        best = np.full(len(triangles), -1, dtype=np.int64)
        best[owners[candidate, 0]] = candidate
        second = np.full(len(triangles), -1, dtype=np.int64)
        second[owners[candidate, 1]] = candidate
        worst = np.where(_value(excess, best) >= _value(excess, second), best, second)
        chosen = candidate[(worst[owners[candidate, 0]] == candidate) & (worst[owners[candidate, 1]] == candidate)]
        chosen = _without_duplicates(chosen, opposite, triangles, count)
        triangles[owners[chosen, 0]] = np.stack([c[chosen], a[chosen], d[chosen]], axis=1)
        triangles[owners[chosen, 1]] = np.stack([d[chosen], b[chosen], c[chosen]], axis=1)
    return triangles


def _value(excess: Array, index: IntArray) -> Array:
    return np.where(index >= 0, excess[index], -np.inf)


def _without_duplicates(chosen: IntArray, opposite: IntArray, triangles: IntArray, count: int) -> IntArray:
    """Drop flips whose new edge exists already or would be made twice in this round."""
    pairs = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    existing = pairs @ np.array([count, 1])
    new = np.sort(opposite[chosen], axis=1) @ np.array([count, 1])
    _, first = np.unique(new, return_index=True)
    mask = np.zeros(len(chosen), dtype=bool)
    mask[first] = True
    return chosen[mask & ~np.isin(new, existing)]
