"""Points and triangles on the domain of the procedural face, at any resolution, exactly left-right symmetric.

Only the half u >= 0 is triangulated. Feature curves (midline, outline, lids, lips) are sampled first and never move;
free points start on a space-filling curve with the wanted density and are smoothed by the lengths of their edges on the
surface; Delaunay triangles in the domain are then improved by edge flips measured in 3-D.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay, cKDTree

from facecore.morphable import procedural_mouth as mouth
from facecore.morphable import procedural_shell as shell_map
from facecore.morphable import procedural_surface as surface
from facecore.morphable.procedural_curves import fixed_points, keep_off, outline_radius, relative_size
from facecore.morphable.procedural_flips import flip_edges
from facecore.morphable.procedural_shell import Array

IntArray = NDArray[np.int64]
_SMOOTHING_ROUNDS = 7


@dataclass(frozen=True)
class HalfMesh:
    """Triangulated half face: domain points with u >= 0, their triangles, and the indices of the named points."""

    domain: Array  # [H, 2]
    triangles: IntArray  # [T, 3], counter-clockwise seen from outside
    midline: NDArray[np.bool_]  # [H]
    named: dict[str, int]


def _hilbert_order(columns: IntArray, rows: IntArray, bits: int) -> IntArray:
    """Distance of grid cells along the Hilbert curve of a 2^bits square."""
    x, y = columns.copy(), rows.copy()
    distance = np.zeros_like(x)
    step = 1 << (bits - 1)
    while step > 0:
        right, top = (x & step) > 0, (y & step) > 0
        distance += step * step * ((3 * right) ^ top)
        flip = ~top & right
        x, y = (
            np.where(flip, step - 1 - (x & (step - 1)), x & (step - 1)),
            np.where(flip, step - 1 - (y & (step - 1)), y & (step - 1)),
        )
        x, y = np.where(top, x, y), np.where(top, y, x)
        step >>= 1
    return distance


def _density_grid() -> tuple[Array, Array, IntArray]:
    """Cells of a fine grid: centres [M, 2], wanted vertices per cell for spacing 1 mm [M], order on a Hilbert curve."""
    bits = 9
    side, coarse = 1 << bits, 1 << (bits - 2)
    extent = np.array([shell_map.DOMAIN_WIDTH, shell_map.DOMAIN_LENGTH])
    columns, rows = (a.ravel() for a in np.meshgrid(np.arange(side), np.arange(side)))
    centres = (np.stack([columns, rows], axis=1) + 0.5) * (extent / side)
    # The density varies slowly: it is computed on every fourth grid line and the surface's area from corners.
    line_u, line_v = (np.linspace(0.0, length, coarse + 1) for length in extent)
    corners = surface.sculpt(np.stack(np.meshgrid(line_u, line_v), axis=-1).reshape(-1, 2))
    corners = corners.reshape(coarse + 1, coarse + 1, 3)
    diagonals = corners[1:, 1:] - corners[:-1, :-1], corners[1:, :-1] - corners[:-1, 1:]
    area = 0.5 * np.linalg.norm(np.cross(*diagonals), axis=-1) / 16.0
    size = relative_size(
        (np.stack(np.meshgrid(np.arange(coarse), np.arange(coarse)), axis=-1).reshape(-1, 2) + 0.5) * (extent / coarse)
    ).reshape(coarse, coarse)
    # An equilateral triangulation with edge h has one vertex per h^2 sqrt(3)/2.
    weight = (area / (0.5 * np.sqrt(3.0) * size**2))[rows // 4, columns // 4]
    keep = (outline_radius(centres) < 0.99) & ~_hole(centres)
    return centres[keep], weight[keep], _hilbert_order(columns[keep], rows[keep], bits)


def _free_points(count: int, fixed: Array, spacing: float, grid: tuple[Array, Array, IntArray]) -> Array:
    """`count` points of the wanted density away from the fixed ones, evenly along the Hilbert curve."""
    centres, weight, order = grid
    nearest = cKDTree(fixed).query(centres)[0]
    weight = weight * shell_map.smoothstep(0.2, 0.8, nearest / (spacing * relative_size(centres)))
    rank = np.argsort(order)
    cumulative = np.cumsum(weight[rank])
    stops = (np.arange(count) + 0.5) * (cumulative[-1] / count)
    return centres[rank][np.searchsorted(cumulative, stops)] + _jitter(count)


def _jitter(count: int) -> Array:
    """A small fixed irregularity (additive recurrence of the plastic number), so that no four points are cocircular."""
    k = np.arange(1, count + 1)[:, None]
    return 0.02 * ((k * [0.7548776662466927, 0.5698402909980532]) % 1.0 - 0.5)


def _delaunay(domain: Array) -> IntArray:
    """Triangles counter-clockwise seen from outside, without those in the mouth hole and without slivers."""
    triangles = Delaunay(domain).simplices.astype(np.int64)
    a, b, c = (domain[triangles[:, k]] for k in range(3))
    # v points down, so positive area in (u, v) is clockwise seen from outside.
    area = 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])
    triangles = np.where((area > 0)[:, None], triangles[:, ::-1], triangles)
    return triangles[(np.abs(area) > 1e-6) & ~_hole((a + b + c) / 3.0)]


def _unique_edges(triangles: IntArray, count: int) -> IntArray:
    pairs = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    keys = np.unique(pairs[:, 0] * count + pairs[:, 1])
    return np.stack([keys // count, keys % count], axis=1)


def _hole(centroids: Array) -> NDArray[np.bool_]:
    return mouth.in_mouth_hole(shell_map.base_shell(centroids))


def _triangulate(domain: Array, segments: list[tuple[int, int]]) -> IntArray:
    return flip_edges(surface.sculpt(domain), domain, _delaunay(domain), segments)


def _smooth(domain: Array, num_fixed: int, spacing: float, segments: list[tuple[int, int]]) -> Array:
    """Push free points apart along edges that are shorter on the surface than wanted (Persson and Strang, 2004).

    The wanted lengths are scaled to be 15 % longer than the edges can be on average, so that all push a little.
    """
    count = len(domain)
    for number in range(_SMOOTHING_ROUNDS):
        # The last rounds see the final kind of triangles, so that no point ends up against another in them.
        last = number >= _SMOOTHING_ROUNDS - 2
        triangles = _triangulate(domain, segments) if last else _delaunay(domain)
        first, second = _unique_edges(triangles, count).T
        for _ in range(3):
            position, size = surface.sculpt(domain), relative_size(domain)
            length = np.linalg.norm(position[first] - position[second], axis=1)
            wanted = size[first] + size[second]
            wanted *= 1.15 * np.sqrt(np.sum(length**2) / np.sum(wanted**2))
            push = np.maximum(wanted - length, 0.0) / np.maximum(length, 1e-9)
            pull = push[:, None] * (domain[first] - domain[second])
            move = np.stack(
                [np.bincount(first, pull[:, k], count) - np.bincount(second, pull[:, k], count) for k in range(2)],
                axis=1,
            )
            move[:num_fixed] = 0.0
            moved = keep_off(domain + 0.3 * move, 0.45 * spacing * size)
            free = ~_hole(moved)
            free[:num_fixed] = False
            # Rounding drops what differs between mathematics libraries before it can change the triangles.
            domain = np.where(free[:, None], np.round(moved, 6), domain)
    return domain


def triangulate_half(named: dict[str, Array], num_vertices: int) -> HalfMesh:
    """A half mesh whose mirrored whole has exactly num_vertices vertices; named domain points are vertices."""
    grid = _density_grid()
    # The mirrored half doubles the count; the curves are included in the density.
    spacing = float(np.sqrt(2.0 * grid[1].sum() / num_vertices))
    fixed, num_midline = fixed_points(named, spacing, num_vertices % 2 == 1)
    fixed_domain = np.array(fixed.domain)
    num_free = (num_vertices - num_midline) // 2 - (len(fixed_domain) - num_midline)
    if num_free < 200:
        raise ValueError(f"num_vertices = {num_vertices} is too small for the feature curves; use at least 2500")
    free = _free_points(num_free, fixed_domain, spacing, grid)
    domain = _smooth(np.concatenate([fixed_domain, free]), len(fixed_domain), spacing, fixed.segments)
    triangles = _triangulate(domain, fixed.segments)
    return HalfMesh(domain, triangles, domain[:, 0] == 0.0, fixed.named)
