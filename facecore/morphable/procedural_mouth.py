"""The procedural face's mouth: a slit whose two edges are rolled into lips that touch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from facecore.morphable.procedural_shell import Array

# Mouth: corners, and cross-sections of the lips at the middle. A lip coordinate of 0 is the edge of the mouth hole.
MOUTH_Y, MOUTH_HALF_WIDTH = -69.0, 25.5
HOLE_HALF_HEIGHT = 4.0
# columns: lip coordinate, distance from the seam along y, z relative to the mouth's dome
_UPPER_LIP = np.array(
    [
        (0.0, 1.8, -13.0),
        (1.6, 0.9, -9.0),
        (3.0, 0.02, -4.6),  # the lips touch
        (4.2, 0.9, -1.9),
        (5.6, 2.7, 0.1),
        (7.2, 5.2, 0.9),
        (8.6, 7.4, 0.6),  # vermilion border
        (10.0, 9.8, 0.0),
        (14.0, 16.2, 0.0),
        (17.0, 20.4, 0.0),
        (20.0, 24.0, 0.0),
        (24.0, 28.0, 0.0),
        (60.0, 64.0, 0.0),
    ]
)
_LOWER_LIP = np.array(
    [
        (0.0, 1.8, -13.0),
        (1.6, 0.9, -9.0),
        (3.0, 0.02, -4.8),  # the lips touch
        (4.2, 1.0, -2.2),
        (5.6, 2.9, -0.2),
        (7.4, 5.6, 0.9),
        (9.2, 8.6, 0.4),  # vermilion border
        (11.0, 11.6, -0.6),
        (15.0, 17.8, -0.2),
        (18.0, 21.6, 0.0),
        (20.0, 24.0, 0.0),
        (24.0, 28.0, 0.0),
        (60.0, 64.0, 0.0),
    ]
)
UPPER_BORDER, LOWER_BORDER, LIP_CONTACT = 8.6, 9.2, 3.0
_LIP_SPLINES = tuple(PchipInterpolator(table[:, 0], table[:, 1:]) for table in (_UPPER_LIP, _LOWER_LIP))


def mouth_taper(x: Array) -> Array:
    """Thickness of the lips relative to the middle: 0 at and beyond the corners."""
    return np.maximum(1.0 - (x / MOUTH_HALF_WIDTH) ** 2, 0.0) ** 0.65


def seam_height(x: Array) -> Array:
    """y of the line between the closed lips: a bow, the corners a little lower."""
    s = np.minimum(np.abs(x) / MOUTH_HALF_WIDTH, 1.6)
    return MOUTH_Y + 0.35 * np.exp(-(((s - 0.38) / 0.22) ** 2)) - 2.6 * s**2 / (1.0 + s**4)


def lip_coordinate(x: Array, y: Array) -> tuple[Array, Array]:
    """Signed side (+1 upper, -1 lower) and the lip coordinate (0 at the hole, scaled by the taper)."""
    offset = y - seam_height(x)
    side = np.where(offset >= 0.0, 1.0, -1.0)
    taper = np.maximum(mouth_taper(x), 1e-3)
    return side, np.minimum(np.abs(offset) / taper - HOLE_HALF_HEIGHT, 60.0)


def in_mouth_hole(shell: Array) -> NDArray[np.bool_]:
    """bool [M]: the shell point lies in the slit between the lips."""
    _, coordinate = lip_coordinate(shell[:, 0], shell[:, 1])
    return (coordinate < -1e-6) & (np.abs(shell[:, 0]) < MOUTH_HALF_WIDTH) & (np.abs(shell[:, 1] - MOUTH_Y) < 12.0)


def lip_curve(x: Array, coordinate: float, upper: bool) -> Array:
    """[K] x -> [K, 2] frontal shell point at a lip coordinate (0 hole, LIP_CONTACT, ..._BORDER)."""
    offset = mouth_taper(x) * (HOLE_HALF_HEIGHT + coordinate) * (1.0 if upper else -1.0)
    return np.stack([x, seam_height(x) + offset], axis=1)


def add_lips(position: Array, shell: Array) -> Array:
    """Roll the two edges of the hole into lips that touch; the shell point says where a vertex belongs."""
    x, y = shell[:, 0], shell[:, 1]
    side, coordinate = lip_coordinate(x, y)
    taper = mouth_taper(x)
    clipped = np.clip(coordinate, 0.0, 60.0)
    section = np.where((side > 0)[:, None], _LIP_SPLINES[0](clipped), _LIP_SPLINES[1](clipped))
    shift = side * taper * (section[:, 0] - clipped - HOLE_HALF_HEIGHT)
    # Cupid's bow: the upper border has two peaks beside the middle.
    bow = 0.9 * np.exp(-(((x - 6.0) / 3.2) ** 2)) - 0.5 * np.exp(-((x / 2.6) ** 2))
    shift += np.where(side > 0, bow * np.exp(-(((clipped - UPPER_BORDER) / 3.0) ** 2)), 0.0)
    result = position.copy()
    result[:, 1] += np.where(clipped < 60.0, shift, 0.0)
    dome = 5.4 * np.exp(-0.5 * ((x / 17.0) ** 2 + ((result[:, 1] - MOUTH_Y + 1.5) / 11.5) ** 2))
    result[:, 2] += dome + taper * section[:, 1]
    return result
