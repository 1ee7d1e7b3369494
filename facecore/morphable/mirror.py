"""The left-right map of a template: from a list of pairs, or found from the triangles and the landmarks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
import scipy.spatial

LANDMARK_PAIRS = np.array([(36, 45), (39, 42), (31, 35), (48, 54), (21, 22)])  # image left, image right
_TRIAL = 300  # vertices that a walk reaches before it is judged by where they lie
_FROM_TRIANGLES = 0.98  # share of the vertices that the triangles alone must pair
_SYMMETRIC = 0.002  # distance below which a template counts as symmetric itself, relative to the face's width
_TOLERANCE = 0.08  # largest distance of most vertices from their partner's mirrored place, relative to the face's width

Edge = tuple[int, int]


def mirror_from_pairs(pairs: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """int64 [V] from pairs [2, P] of vertices; a vertex of the middle is paired with itself or left out.

    Raises ValueError for indices out of range, for a vertex with two partners, or where partners are not opposite.
    """
    count = len(vertices)
    if pairs.ndim != 2 or pairs.shape[0] != 2:
        raise ValueError(f"the list of mirrored vertices must be [2, P], got {list(pairs.shape)}")
    if pairs.size and not (0 <= pairs.min() and pairs.max() < count):
        raise ValueError(f"the list of mirrored vertices must hold indices of {count} vertices")
    mirror = np.arange(count, dtype=np.int64)
    mirror[pairs[0]] = pairs[1]
    mirror[pairs[1]] = pairs[0]
    if not np.array_equal(mirror[mirror], np.arange(count)):
        raise ValueError("the list of mirrored vertices gives some vertex two partners")
    if _asymmetry(vertices, mirror) > _TOLERANCE:
        raise ValueError("the list of mirrored vertices does not pair opposite places; it is of another mesh")
    return mirror


def mirror_from_topology(vertices: np.ndarray, triangles: np.ndarray, landmarks68: np.ndarray) -> np.ndarray | None:
    """int64 [V], an involution, or None where the mesh is not symmetric enough.

    Two edges that mirror each other have mirrored third corners, so one pair of edges decides all others by walking
    over the triangles: no tolerance enters, and a mean face that is not symmetric has the map too. The walk starts at
    mirrored landmarks, with the edges whose walks put the vertices best; landmarks may be off by a vertex or two.
    Where a mesh is locally not symmetric (a diagonal turned the other way), vertices that are left are paired with the
    nearest one left. The result is checked against the places of the vertices. Where the walk does not reach enough, as
    in a mesh of several parts, the nearest vertex to the mirrored place counts, if the template is symmetric itself.
    """
    third = _third_corners(triangles)
    centre = vertices[landmarks68[LANDMARK_PAIRS], 0].mean()
    flipped = vertices * [-1, 1, 1] + [2 * centre, 0, 0]
    start = min(
        _starts(triangles, vertices, flipped, landmarks68),
        key=lambda start: _misplacement(flipped, vertices, _walk(third, start, _TRIAL)),
        default=None,
    )
    walked = None if start is None else _completed_walk(vertices, _walk(third, start, len(vertices)))
    return _nearest(flipped, vertices) if walked is None else walked


def _completed_walk(vertices: np.ndarray, partner: dict[int, int]) -> np.ndarray | None:
    """The partners of a walk as a map of all vertices; None when it left out too many or put them wrong."""
    mirror = np.full(len(vertices), -1, dtype=np.int64)
    mirror[list(partner.keys())] = list(partner.values())
    known = np.flatnonzero(mirror >= 0)
    lost = known[mirror[mirror[known]] != known]
    mirror[lost] = -1
    if (mirror >= 0).mean() < _FROM_TRIANGLES:
        return None
    mirror = _completed(vertices, mirror)
    return mirror if _asymmetry(vertices, mirror) <= _TOLERANCE else None


def _nearest(flipped: np.ndarray, vertices: np.ndarray) -> np.ndarray | None:
    """By place, for a template that is symmetric itself and has parts apart, such as eyeballs."""
    distance, index = scipy.spatial.cKDTree(vertices).query(flipped)
    close = distance.max() <= _SYMMETRIC * np.ptp(vertices[:, 0])
    return index.astype(np.int64) if close and np.array_equal(index[index], np.arange(len(index))) else None


def _third_corners(triangles: np.ndarray) -> dict[Edge, int]:
    """The third corner of the triangle at each directed edge."""
    rows = triangles.tolist()
    third = {(a, b): c for a, b, c in rows}
    third.update({(b, c): a for a, b, c in rows})
    third.update({(c, a): b for a, b, c in rows})
    return third


def _starts(
    triangles: np.ndarray, vertices: np.ndarray, flipped: np.ndarray, landmarks68: np.ndarray
) -> Iterator[tuple[Edge, Edge]]:
    """Directed edges that may mirror each other: out of a landmark; and into, or near, its mirrored landmark."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]).astype(np.int64)
    for left, right in landmarks68[LANDMARK_PAIRS].tolist():
        outgoing = edges[edges[:, 0] == left]
        near = np.unique(edges[(edges == right).any(axis=1)])
        incoming = edges[np.isin(edges[:, 1], near)]
        for a, b in outgoing.tolist():
            # the few edges that lie best; their walks decide
            gap = np.linalg.norm(flipped[b] - vertices[incoming[:, 0]], axis=1)
            gap += np.linalg.norm(flipped[a] - vertices[incoming[:, 1]], axis=1)
            for c, d in incoming[np.argsort(gap, kind="stable")[:3]].tolist():
                yield (a, b), (c, d)


def _walk(third: dict[Edge, int], start: tuple[Edge, Edge], limit: int) -> dict[int, int]:
    """Partners of the vertices reached from an edge and the edge that mirrors it, nearest first."""
    (a, b), (c, d) = start
    partner = {a: d, b: c}
    queue = deque([(a, b)])
    done = {(a, b)}
    while queue and len(partner) < limit:
        a, b = queue.popleft()
        corner, mirrored = third.get((a, b)), third.get((partner[b], partner[a]))
        if corner is None or mirrored is None or partner.setdefault(corner, mirrored) != mirrored:
            continue  # a border, or a place where the mesh is not symmetric: others may come around it
        for edge in ((b, a), (corner, b), (a, corner)):
            if edge not in done:
                done.add(edge)
                queue.append(edge)
    return partner


def _misplacement(flipped: np.ndarray, vertices: np.ndarray, partner: dict[int, int]) -> float:
    """Mean distance of partners from the mirrored places."""
    distance = np.linalg.norm(flipped[list(partner.keys())] - vertices[list(partner.values())], axis=1)
    return float(distance.mean())


def _completed(vertices: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Pairs the vertices without partner (-1) with one another or with themselves, nearest first."""
    left = np.flatnonzero(mirror < 0)
    if len(left) == 0:
        return mirror
    distance = np.linalg.norm(_flipped(vertices, mirror)[left][:, None] - vertices[left][None], axis=2)
    distance = np.maximum(distance, distance.T)
    result, free = mirror.copy(), np.ones(len(left), dtype=bool)
    for flat in np.argsort(distance, axis=None, kind="stable"):
        i, j = divmod(int(flat), len(left))
        if free[i] and free[j]:
            free[[i, j]] = False
            result[left[i]], result[left[j]] = left[j], left[i]
    return result


def _flipped(vertices: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """The vertices mirrored at the plane x = const that fits the known pairs."""
    known = mirror >= 0
    centre = (vertices[known, 0] + vertices[mirror[known], 0]).mean() / 2
    return np.asarray(vertices * [-1, 1, 1] + [2 * centre, 0, 0])


def _asymmetry(vertices: np.ndarray, mirror: np.ndarray) -> float:
    """Distance of the vertices' partners from the mirrored places, 95th percentile, relative to the face's width."""
    distance = np.linalg.norm(_flipped(vertices, mirror) - vertices[mirror], axis=1)
    return float(np.percentile(distance, 95) / np.ptp(vertices[:, 0]))
