"""Feature curves of the procedural face's domain, sampled at a spacing: midline, outline, lids, lips and landmarks."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np

from facecore.morphable import procedural_eye as eyes
from facecore.morphable import procedural_mouth as mouth
from facecore.morphable import procedural_shell as shell_map
from facecore.morphable import procedural_surface as surface
from facecore.morphable.procedural_shell import Array

_OUTLINE_EXPONENT = 3.2
_HALF_LENGTH = 0.5 * shell_map.DOMAIN_LENGTH


@dataclass
class FixedPoints:
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
    x, y, z = shell_map.base_shell(domain).T
    at_eye = np.exp(-(((x - eyes.EYE_X) / 19.0) ** 4) - ((y - eyes.EYE_Y) / 12.0) ** 4)
    at_mouth = np.exp(-((x / 29.0) ** 4) - ((y - mouth.MOUTH_Y) / 14.0) ** 4)
    at_nose = np.exp(-((x / 19.0) ** 4) - ((y + 40.0) / 15.0) ** 4)
    detail = 1.0 - np.minimum(0.9, 0.52 * at_eye + 0.5 * at_mouth + 0.42 * at_nose)
    far = shell_map.smoothstep(10.0, 70.0, -z) + 0.6 * shell_map.smoothstep(30.0, 80.0, y)
    return detail * (1.0 + 0.45 * far)


def _outline(count: int) -> Array:
    """The outer boundary from the hairline to the throat: a superellipse that touches the ear line."""
    angle = np.linspace(-0.5 * np.pi, 0.5 * np.pi, count)
    power = 2.0 / _OUTLINE_EXPONENT
    u = 0.999 * shell_map.DOMAIN_WIDTH * np.abs(np.cos(angle)) ** power
    v = _HALF_LENGTH * (1.0 + np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power)
    u[[0, -1]] = 0.0
    return np.stack([u, v], axis=1)


def _on_outline(points: Array) -> Array:
    """Push points of the polyline out to the exact superellipse: a convex outline has no slivers along it."""
    pushed = [0.0, _HALF_LENGTH] + (points - [0.0, _HALF_LENGTH]) / outline_radius(points)[:, None]
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
    domain = shell_map.domain_of_frontal(points_xy)
    domain[points_xy[:, 0] == 0.0, 0] = 0.0
    return domain


def _lip_curves() -> list[tuple[Array, bool, float]]:
    """Dense half curves (domain, upper, coordinate) along the lips from the middle towards the corner."""
    curves = []
    for upper in (True, False):
        border = mouth.UPPER_BORDER if upper else mouth.LOWER_BORDER
        for coordinate, end in ((0.0, mouth.MOUTH_HALF_WIDTH), (mouth.LIP_CONTACT, 23.0), (border, 23.5)):
            # Dense towards the corner, where the curves bend.
            x = end * np.sin(np.linspace(0.0, 0.5 * np.pi, 200))
            x[0] = 0.0
            curves.append((_frontal_curve(mouth.lip_curve(x, coordinate, upper)), upper, coordinate))
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
    for start, end in ((0.0, min(hole_ends)), (max(hole_ends), shell_map.DOMAIN_LENGTH)):
        curve = np.stack([np.zeros(2000), np.linspace(start, end, 2000)], axis=1)
        names = [name for name, point in named.items() if point[0] == 0.0 and start < point[1] < end]
        pieces.append((curve, _snap(curve, named, names)))
    return pieces


def fixed_points(named: dict[str, Array], spacing: float, odd_midline: bool) -> tuple[FixedPoints, int]:
    """All curve points and named points. The midline count is odd or even as asked, by one more segment if needed."""
    lips = _lip_curves()
    hole_ends = [float(curve[0, 1]) for curve, _, coordinate in lips if coordinate == 0.0]

    def build(extra: bool) -> FixedPoints:
        points = FixedPoints()
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
        margin = eyes.lid_curve(along, upper)
        rings.append(
            (
                _frontal_curve(margin),
                [name for name in named if name.startswith(f"lid {'upper' if upper else 'lower'}")],
            )
        )
        inner = eyes.lid_curve(along, upper, inset=eyes.LID_EDGE)
        rings.append((_frontal_curve(inner), []))
    return rings


def outline_radius(domain: Array) -> Array:
    """1 on the outline, 0 in the domain's middle, and proportional in between."""
    offset = np.abs(domain - [0.0, _HALF_LENGTH]) / [0.999 * shell_map.DOMAIN_WIDTH, _HALF_LENGTH]
    return np.sum(offset**_OUTLINE_EXPONENT, axis=1) ** (1.0 / _OUTLINE_EXPONENT)


def keep_off(domain: Array, distance: Array) -> Array:
    """Move points that are nearer than about `distance` [M] to the outline or the midline inwards."""
    limit = 1.0 - distance / shell_map.DOMAIN_WIDTH
    shrink = np.minimum(limit / np.maximum(outline_radius(domain), 1e-9), 1.0)
    moved = [0.0, _HALF_LENGTH] + (domain - [0.0, _HALF_LENGTH]) * shrink[:, None]
    moved[:, 0] = np.maximum(moved[:, 0], distance)
    return moved
