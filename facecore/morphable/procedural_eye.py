"""The procedural face's eyes: the opening as a lens in the frontal plane, lids draped over an eyeball."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facecore.morphable.procedural_shell import Array, smoothstep

# Eye: centre of the opening, half width, heights of the lid arcs over the line between the corners.
EYE_X, EYE_Y, EYE_HALF_WIDTH = 31.5, -0.4, 13.3
_EYE_TILT = np.deg2rad(4.5)  # the outer corner is higher than the inner
LID_HEIGHT_UPPER, LID_HEIGHT_LOWER = 5.9, 4.5
EYEBALL_APEX = 5.0
LID_THICKNESS = 1.3
LID_EDGE = 0.8  # the margin rises from the eyeball over this frontal width


@dataclass(frozen=True)
class EyeCoordinates:
    """Where a frontal point lies with respect to the eye opening, a lens between two circular arcs."""

    along: Array  # -1 inner corner, +1 outer corner
    above: Array  # mm over the line between the corners
    outside: Array  # mm from the lid margin, negative inside


def _lid_arc(height: float) -> tuple[float, float]:
    """Radius of the circle through both corners with the given height, and how far its centre is from their line."""
    radius = (EYE_HALF_WIDTH**2 + height**2) / (2.0 * height)
    return radius, radius - height


def lid_heights(along: Array) -> tuple[Array, Array]:
    """mm from the line between the corners up to the upper and down to the lower lid margin; 0 beyond the corners."""
    across = np.clip(along, -1.0, 1.0) * EYE_HALF_WIDTH
    upper, lower = (np.sqrt(radius**2 - across**2) - offset for radius, offset in map(_lid_arc, _LID_HEIGHTS))
    return upper, lower


_LID_HEIGHTS = (LID_HEIGHT_UPPER, LID_HEIGHT_LOWER)


def eye_coordinates(x: Array, y: Array) -> EyeCoordinates:
    """Exact signed distances: to the nearer arc, beyond the corners to the corner."""
    cosine, sine = np.cos(_EYE_TILT), np.sin(_EYE_TILT)
    across = cosine * (x - EYE_X) + sine * (y - EYE_Y)
    above = cosine * (y - EYE_Y) - sine * (x - EYE_X)
    corner = np.hypot(np.abs(across) - EYE_HALF_WIDTH, above)
    inside = np.full_like(across, -np.inf)
    outside = corner.copy()
    for sign, height in zip((1.0, -1.0), _LID_HEIGHTS):
        radius, offset = _lid_arc(height)
        rise = sign * above + offset
        distance = np.hypot(across, rise) - radius
        inside = np.maximum(inside, distance)
        # The foot of the perpendicular lies on the arc between the corners.
        on_arc = (np.abs(across) * offset <= EYE_HALF_WIDTH * rise) & (distance > 0.0)
        outside = np.where(on_arc, distance, outside)
    return EyeCoordinates(across / EYE_HALF_WIDTH, above, np.where(inside < 0.0, inside, outside))


def lid_curve(along: Array, upper: bool, inset: float = 0.0) -> Array:
    """[K] position along the opening in [-1, 1] -> [K, 2] frontal (x, y) of the lid margin, or `inset` mm inside it."""
    # An inset lens is the same lens made smaller; towards the corners the distance is measured along the line.
    shrink_across, shrink_up = 1.0 - 2.0 * inset / EYE_HALF_WIDTH, 1.0 - inset / LID_HEIGHT_LOWER
    upper_height, lower_height = lid_heights(along)
    across = along * EYE_HALF_WIDTH * shrink_across
    above = shrink_up * (upper_height if upper else -lower_height)
    cosine, sine = np.cos(_EYE_TILT), np.sin(_EYE_TILT)
    return np.stack([EYE_X + cosine * across - sine * above, EYE_Y + sine * across + cosine * above], axis=1)


def eyeball_depth(x: Array, y: Array) -> Array:
    """z of the eyeball (with the corners' tissue) at frontal (x, y): a dome turned a little outwards, flat far away."""
    dx, dy = 20.0 * np.tanh((x - EYE_X) / 20.0), 8.0 * np.tanh((y - EYE_Y) / 8.0)
    return EYEBALL_APEX - 0.19 * dx - dx**2 / 31.0 - dy**2 / 22.0


def add_eye(position: Array) -> Array:
    """Replace z around the opening by eyeball, lid margin and lids; far from it nothing changes."""
    x, y, z = position.T
    eye = eye_coordinates(x, y)
    upper = smoothstep(-4.0, 4.0, eye.above)
    beyond = np.maximum(eye.outside, 0.0)
    middle = np.exp(-((eye.along / 0.9) ** 4))
    lids = 1.0 - smoothstep(0.0, 1.0, beyond / (12.0 - upper))
    margin = LID_THICKNESS * (0.6 + 0.4 * upper) * smoothstep(-LID_EDGE, 0.0, eye.outside)
    crease = -1.1 * upper * middle * np.exp(-(((eye.outside - 5.2) / 1.1) ** 2))
    fold = 0.9 * upper * middle * np.exp(-(((eye.outside - 7.5) / 2.2) ** 2))
    bag = 0.5 * (1.0 - upper) * middle * np.exp(-(((eye.outside - 2.2) / 1.6) ** 2))
    new_z = lids * (eyeball_depth(x, y) + margin) + (1.0 - lids) * z + crease + fold + bag
    return np.stack([x, y, new_z], axis=1)
