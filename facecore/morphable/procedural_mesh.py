"""Points and triangles on the domain of the procedural face, at any resolution, exactly left-right symmetric.

Only the half u >= 0 is triangulated. Feature curves (midline, outline, lids, lips) are sampled first and never move;
free points start on a space-filling curve with the wanted density and are smoothed by the lengths of their edges on the
surface; Delaunay triangles in the domain are then improved by edge flips measured in 3-D.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from facecore.morphable import procedural_surface as surface
from facecore.morphable.procedural_flips import flip_edges
from facecore.morphable.procedural_surface import Array

IntArray = NDArray[np.int64]
_OUTLINE_EXPONENT = 3.2
_HALF_LENGTH = 0.5 * surface.DOMAIN_LENGTH
_SMOOTHING_ROUNDS = 7


@dataclass(frozen=True)
class HalfMesh:
    """Triangulated half face: domain points with u >= 0, their triangles, and the indices of the named points."""

    domain: Array  # [H, 2]
    triangles: IntArray  # [T, 3], counter-clockwise seen from outside
    midline: NDArray[np.bool_]  # [H]
    named: dict[str, int]


@dataclass
class _Points:
    """Fixed points gathered curve by curve; a point that two curves share is kept once."""

    domain: list[Array] = field(default_factory=list)
    segments: list[tuple[int, int]] = field(default_factory=list)
    named: dict[str, int] = field(default_factory=dict)
    lookup: dict[tuple[int, int], int] = field(default_factory=dict)

    def add(self, point: Array, name: str | None = None) -> int:
        key = (round(float(point[0]) * 1e4), round(float(point[1]) * 1e4))
        if key not in self.lookup:
            self.lookup[key] = len(self.domain)
            self.domain.append(point)
        if name is not None:
            self.named[name] = self.lookup[key]
        return self.lookup[key]

    def add_curve(self, points: Array) -> None:
        indices = [self.add(point) for point in points]
        self.segments += list(itertools.pairwise(indices))


def relative_size(domain: Array) -> Array:
    """Wanted edge length relative to the cheek's: finer where a face has detail."""
    x, y, z = surface.base_shell(domain).T
    eye = np.exp(-(((x - surface.EYE_X) / 19.0) ** 4) - ((y - surface.EYE_Y) / 12.0) ** 4)
    mouth = np.exp(-((x / 29.0) ** 4) - ((y - surface.MOUTH_Y) / 14.0) ** 4)
    nose = np.exp(-((x / 19.0) ** 4) - ((y + 40.0) / 15.0) ** 4)
    detail = 1.0 - np.minimum(0.9, 0.52 * eye + 0.5 * mouth + 0.42 * nose)
    far = surface.smoothstep(10.0, 70.0, -z) + 0.6 * surface.smoothstep(30.0, 80.0, y)
    return detail * (1.0 + 0.45 * far)


def _outline(count: int) -> Array:
    """The outer boundary from the hairline to the throat: a superellipse that touches the ear line."""
    angle = np.linspace(-0.5 * np.pi, 0.5 * np.pi, count)
    power = 2.0 / _OUTLINE_EXPONENT
    u = 0.999 * surface.DOMAIN_WIDTH * np.abs(np.cos(angle)) ** power
    v = _HALF_LENGTH * (1.0 + np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power)
    u[[0, -1]] = 0.0
    return np.stack([u, v], axis=1)


def _on_outline(points: Array) -> Array:
    """Push points of the polyline out to the exact superellipse: a convex outline has no slivers along it."""
    pushed = [0.0, _HALF_LENGTH] + (points - [0.0, _HALF_LENGTH]) / _outline_radius(points)[:, None]
    pushed[[0, -1]] = points[[0, -1]]
    return pushed


def _resample(curve: Array, spacing: float, mandatory: list[int], extra_segment: bool = False) -> Array:
    """Divide a dense domain polyline into steps of `spacing * relative_size` on the surface, through given points."""
    position = surface.sculpt(curve)
    middle = relative_size(0.5 * (curve[1:] + curve[:-1]))
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(position, axis=0), axis=1) / (spacing * middle))])
    knots = sorted({0, len(curve) - 1, *mandatory})
    pieces = []
    for number, (start, end) in enumerate(itertools.pairwise(knots)):
        segments = max(1, round(arc[end] - arc[start])) + (1 if extra_segment and number == 0 else 0)
        stops = np.linspace(arc[start], arc[end], segments + 1)[:-1]
        piece = np.stack([np.interp(stops, arc, curve[:, axis]) for axis in range(2)], axis=1)
        piece[0] = curve[start]
        pieces.append(piece)
    return np.concatenate([*pieces, curve[-1:]])


def _frontal_curve(points_xy: Array) -> Array:
    domain = surface.domain_of_frontal(points_xy)
    domain[points_xy[:, 0] == 0.0, 0] = 0.0
    return domain


def _lip_curves() -> list[tuple[Array, bool, float]]:
    """Dense half curves (domain, upper, coordinate) along the lips from the middle towards the corner."""
    curves = []
    for upper in (True, False):
        border = surface.UPPER_BORDER if upper else surface.LOWER_BORDER
        for coordinate, end in ((0.0, surface.MOUTH_HALF_WIDTH), (surface.LIP_CONTACT, 23.0), (border, 23.5)):
            # Dense towards the corner, where the curves bend.
            x = end * np.sin(np.linspace(0.0, 0.5 * np.pi, 200))
            x[0] = 0.0
            curves.append((_frontal_curve(surface.lip_curve(x, coordinate, upper)), upper, coordinate))
    return curves


def _nearest(curve: Array, points: Array) -> list[int]:
    return [int(np.argmin(np.sum((curve - point) ** 2, axis=1))) for point in points]


def _snap(curve: Array, named: dict[str, Array], names: list[str]) -> list[int]:
    """Make a dense curve pass exactly through the named points; returns their places on it."""
    places = _nearest(curve, np.array([named[name] for name in names])) if names else []
    for place, name in zip(places, names):
        curve[place] = named[name]
    return places


def _midline_pieces(named: dict[str, Array], hole_ends: list[float]) -> list[tuple[Array, list[int]]]:
    """The two straight pieces of u = 0 above and below the mouth hole, through the named midline points."""
    pieces = []
    for start, end in ((0.0, min(hole_ends)), (max(hole_ends), surface.DOMAIN_LENGTH)):
        curve = np.stack([np.zeros(2000), np.linspace(start, end, 2000)], axis=1)
        names = [name for name, point in named.items() if point[0] == 0.0 and start < point[1] < end]
        pieces.append((curve, _snap(curve, named, names)))
    return pieces


def _fixed_points(named: dict[str, Array], spacing: float, odd_midline: bool) -> tuple[_Points, int]:
    """All curve points and named points. The midline count is odd or even as asked, by one more segment if needed."""
    lips = _lip_curves()
    hole_ends = [float(curve[0, 1]) for curve, _, coordinate in lips if coordinate == 0.0]

    def build(extra: bool) -> _Points:
        points = _Points()
        for curve, places in _midline_pieces(named, hole_ends):
            points.add_curve(_resample(curve, spacing, places, extra and curve[0, 1] == 0.0))
        points.add_curve(_on_outline(_resample(_outline(2000), spacing, [])))
        for curve, upper, coordinate in lips:
            prefix = f"lip {'upper' if upper else 'lower'} {coordinate:g} "
            names = [name for name in named if name.startswith(prefix)]
            points.add_curve(_resample(curve, spacing, _snap(curve, named, names)))
        for ring, names in _eye_rings(named):
            points.add_curve(_resample(ring, spacing, _snap(ring, named, names)))
        for name, point in named.items():
            points.add(point, name)
        return points

    points = build(False)
    if (sum(point[0] == 0.0 for point in points.domain) % 2 == 1) != odd_midline:
        points = build(True)
    return points, sum(point[0] == 0.0 for point in points.domain)


def _eye_rings(named: dict[str, Array]) -> list[tuple[Array, list[str]]]:
    """Two closed rings, each as upper and lower half: the lid margin and, inside it, the edge of the eyeball."""
    rings = []
    along = -np.cos(np.linspace(0.0, np.pi, 300))
    for upper in (True, False):
        margin = surface.lid_curve(along, upper)
        rings.append(
            (
                _frontal_curve(margin),
                [name for name in named if name.startswith(f"lid {'upper' if upper else 'lower'}")],
            )
        )
        inner = surface.lid_curve(along, upper, inset=surface.LID_EDGE)
        rings.append((_frontal_curve(inner), []))
    return rings


def _outline_radius(domain: Array) -> Array:
    """1 on the outline, 0 in the domain's middle, and proportional in between."""
    offset = np.abs(domain - [0.0, _HALF_LENGTH]) / [0.999 * surface.DOMAIN_WIDTH, _HALF_LENGTH]
    return np.sum(offset**_OUTLINE_EXPONENT, axis=1) ** (1.0 / _OUTLINE_EXPONENT)


def _keep_off(domain: Array, distance: Array) -> Array:
    """Move points that are nearer than about `distance` [M] to the outline or the midline inwards."""
    limit = 1.0 - distance / surface.DOMAIN_WIDTH
    shrink = np.minimum(limit / np.maximum(_outline_radius(domain), 1e-9), 1.0)
    moved = [0.0, _HALF_LENGTH] + (domain - [0.0, _HALF_LENGTH]) * shrink[:, None]
    moved[:, 0] = np.maximum(moved[:, 0], distance)
    return moved


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
    extent = np.array([surface.DOMAIN_WIDTH, surface.DOMAIN_LENGTH])
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
    keep = (_outline_radius(centres) < 0.99) & ~_hole(centres)
    return centres[keep], weight[keep], _hilbert_order(columns[keep], rows[keep], bits)


def _free_points(count: int, fixed: Array, spacing: float, grid: tuple[Array, Array, IntArray]) -> Array:
    """`count` points of the wanted density away from the fixed ones, evenly along the Hilbert curve."""
    centres, weight, order = grid
    nearest = surface.distance_to(fixed, centres)
    weight = weight * surface.smoothstep(0.2, 0.8, nearest / (spacing * relative_size(centres)))
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
    return surface.in_mouth_hole(surface.base_shell(centroids))


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
            moved = _keep_off(domain + 0.3 * move, 0.45 * spacing * size)
            free = ~_hole(moved)
            free[:num_fixed] = False
            domain = np.where(free[:, None], moved, domain)
    return domain


def triangulate_half(named: dict[str, Array], num_vertices: int) -> HalfMesh:
    """A half mesh whose mirrored whole has exactly num_vertices vertices; named domain points are vertices."""
    grid = _density_grid()
    # The mirrored half doubles the count; the curves are included in the density.
    spacing = float(np.sqrt(2.0 * grid[1].sum() / num_vertices))
    fixed, num_midline = _fixed_points(named, spacing, num_vertices % 2 == 1)
    fixed_domain = np.array(fixed.domain)
    num_free = (num_vertices - num_midline) // 2 - (len(fixed_domain) - num_midline)
    if num_free < 200:
        raise ValueError(f"num_vertices = {num_vertices} is too small for the feature curves; use at least 2500")
    free = _free_points(num_free, fixed_domain, spacing, grid)
    domain = _smooth(np.concatenate([fixed_domain, free]), len(fixed_domain), spacing, fixed.segments)
    triangles = _triangulate(domain, fixed.segments)
    return HalfMesh(domain, triangles, domain[:, 0] == 0.0, fixed.named)
