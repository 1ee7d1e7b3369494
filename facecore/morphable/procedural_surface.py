"""The sculpted surface of the procedural face: smooth maps from a 2-D domain to points in millimetres.

Everything here is for the half with x >= 0 (the subject's left); the other half is its mirror image. The frame is
the sculptor's: origin between the pupils at the depth of the eyes, +x image right, +y up, +z out of the face. The
model moves the origin to the centroid afterwards.

The domain point (u, v) in millimetres is arc length: u along the cross-section from the middle, v down the profile from
the hairline. ``base_shell`` spans two rails (profile and the line in front of the ear) by quarter ellipses; ``sculpt``
adds the features as functions of the shell point, so each can be written in the plane in which people measure faces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.spatial import cKDTree

Array = NDArray[np.float64]

# Shell rails, hairline to throat: profile (y, z) without nose and lips | line in front of the ear (x, y, z), mm.
RAILS = np.array(
    [
        (85.0, -13.0, 53.0, 85.0, -60.0),  # hairline
        (75.0, -3.0, 61.0, 77.0, -58.0),
        (60.0, 7.0, 69.0, 62.0, -57.0),
        (45.0, 12.5, 73.5, 46.0, -57.0),
        (25.0, 17.0, 75.0, 25.0, -57.0),  # glabella
        (5.0, 15.0, 75.0, 5.0, -57.0),  # nasion
        (-15.0, 19.0, 73.5, -13.0, -56.0),
        (-35.0, 22.0, 71.5, -32.0, -55.0),
        (-50.0, 23.5, 69.5, -48.0, -54.0),  # subnasale
        (-69.0, 21.5, 65.0, -65.0, -53.0),  # mouth
        (-85.0, 19.0, 59.0, -80.0, -52.0),  # mentolabial fold
        (-97.0, 19.5, 53.0, -87.0, -52.0),  # pogonion
        (-107.0, 16.5, 48.0, -93.0, -54.0),
        (-114.0, 7.0, 44.0, -100.0, -57.0),  # menton
        (-118.0, -9.0, 41.0, -107.0, -60.0),
        (-121.0, -29.0, 38.0, -115.0, -63.0),  # under the chin
    ]
)
_RAIL_V = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(RAILS[:, :2], axis=0).T))])
_RAIL_SPLINE = CubicSpline(_RAIL_V, RAILS, bc_type="natural")
DOMAIN_LENGTH = float(_RAIL_V[-1])
DOMAIN_WIDTH = 115.0  # u at the line in front of the ear
_ELLIPSE_SCALE = DOMAIN_WIDTH / (0.5 * np.pi)


def base_shell(domain: Array) -> Array:
    """[M, 2] (u >= 0, v) -> [M, 3]: the head without features, quarter ellipses from the profile to the ear line."""
    angle = domain[:, 0] / _ELLIPSE_SCALE
    profile_y, profile_z, side_x, side_y, side_z = _RAIL_SPLINE(domain[:, 1]).T
    outward, backward = np.sin(angle), 1.0 - np.cos(angle)
    return np.stack(
        [
            side_x * outward,
            profile_y + (side_y - profile_y) * backward,
            profile_z + (side_z - profile_z) * backward,
        ],
        axis=1,
    )


def shell_normals(domain: Array) -> Array:
    """Unit outward normals [M, 3] of the base shell, by central differences."""
    step = 1e-3
    step_u, step_v = np.array([step, 0.0]), np.array([0.0, step])
    clipped = np.stack([np.maximum(domain[:, 0], step), domain[:, 1]], axis=1)
    along_u = base_shell(clipped + step_u) - base_shell(clipped - step_u)
    along_v = base_shell(clipped + step_v) - base_shell(clipped - step_v)
    normal = np.cross(along_v, along_u)
    normal[domain[:, 0] == 0.0, 0] = 0.0
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)


def domain_of_frontal(points_xy: Array) -> Array:
    """[M, 2] frontal shell coordinates (x >= 0, y) -> [M, 2] domain points, by Newton's method on the shell."""
    ratio = np.clip(points_xy[:, 0] / 75.0, 0.0, 0.99)
    domain = np.stack([_ELLIPSE_SCALE * np.arcsin(ratio), np.interp(-points_xy[:, 1], -RAILS[:, 0], _RAIL_V)], axis=1)
    step = 1e-4
    step_u, step_v = np.array([step, 0.0]), np.array([0.0, step])
    for _ in range(12):
        value = base_shell(domain)[:, :2]
        along_u = (base_shell(domain + step_u)[:, :2] - value) / step
        along_v = (base_shell(domain + step_v)[:, :2] - value) / step
        residual = points_xy - value
        determinant = along_u[:, 0] * along_v[:, 1] - along_u[:, 1] * along_v[:, 0]
        domain = domain + np.stack(
            [
                (residual[:, 0] * along_v[:, 1] - residual[:, 1] * along_v[:, 0]) / determinant,
                (along_u[:, 0] * residual[:, 1] - along_u[:, 1] * residual[:, 0]) / determinant,
            ],
            axis=1,
        )
    return domain


def distance_to(points: Array, queries: Array) -> Array:
    """Distance of each query [M, K] to the nearest of points [P, K]."""
    return np.asarray(cKDTree(points).query(queries)[0], dtype=np.float64)


def smoothstep(low: float, high: float, value: Array) -> Array:
    """0 below low, 1 above high, C2 between."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * t * (t * (6.0 * t - 15.0) + 10.0)


# Eye: centre, half width of the opening, heights of the lids over the line between the corners, eyeball apex.
EYE_X, EYE_Y, EYE_HALF_WIDTH = 31.5, -0.4, 13.2
EYE_CORNER_RISE = 1.1  # the outer corner is this much above the middle, the inner this much below
LID_HEIGHT_UPPER, LID_HEIGHT_LOWER = 5.6, 4.6
EYEBALL_APEX = 5.0
LID_THICKNESS = 1.4
LID_EDGE = 0.8  # the margin rises from the eyeball over this frontal width


@dataclass(frozen=True)
class EyeCoordinates:
    """Where a shell point lies with respect to the eye opening."""

    along: Array  # -1 inner corner, +1 outer corner
    above: Array  # mm over the line between the corners
    level: Array  # < 1 inside the opening, 1 on the lid margin
    outside: Array  # mm from the lid margin, negative inside (first-order distance)


def eye_coordinates(x: Array, y: Array) -> EyeCoordinates:
    along = (x - EYE_X) / EYE_HALF_WIDTH
    above = y - EYE_Y - EYE_CORNER_RISE * np.tanh(along)
    height = LID_HEIGHT_LOWER + (LID_HEIGHT_UPPER - LID_HEIGHT_LOWER) * smoothstep(-3.0, 3.0, above)
    rounding = 0.03 + 0.6 * smoothstep(0.8, 1.5, np.abs(along))  # no crease in the skin beyond the corners
    ratio = np.sqrt((above / height) ** 2 + rounding**2) - rounding
    exponent = 1.4  # lens |above|/height = (1 - along^2)^(1/1.4): rounder than a parabola, pointed at the corners
    level = along**2 + ratio**exponent
    gradient = np.hypot(2.0 * along / EYE_HALF_WIDTH, exponent * ratio ** (exponent - 1.0) / height)
    return EyeCoordinates(along, above, level, (level - 1.0) / np.maximum(gradient, 0.06))


def lid_curve(along: Array, upper: bool, inset: float = 0.0) -> Array:
    """[K] position along the opening in [-1, 1] -> [K, 2] frontal (x, y) of the lid margin, or `inset` mm inside it."""
    along = along * (1.0 - 1.6 * inset / EYE_HALF_WIDTH)
    height = (LID_HEIGHT_UPPER if upper else -LID_HEIGHT_LOWER) * (1.0 - inset / LID_HEIGHT_LOWER)
    lens = np.maximum(1.0 - (along / (1.0 - 1.6 * inset / EYE_HALF_WIDTH)) ** 2, 0.0) ** (1.0 / 1.4)
    return np.stack([EYE_X + EYE_HALF_WIDTH * along, EYE_Y + EYE_CORNER_RISE * np.tanh(along) + height * lens], axis=1)


def eyeball_depth(x: Array, y: Array) -> Array:
    """z of the eyeball (with the corners' tissue) at frontal (x, y): a paraboloid turned a little outwards."""
    dx, dy = x - EYE_X, y - EYE_Y
    return EYEBALL_APEX - 0.19 * dx - dx**2 / 36.0 - dy**2 / 26.0


def add_eye(position: Array) -> Array:
    """Replace z around the opening by eyeball, lid margin and lids; far from it nothing changes."""
    x, y, z = position.T
    eye = eye_coordinates(x, y)
    upper = smoothstep(-2.0, 2.0, eye.above)
    reach = 9.0 + 2.0 * upper
    lids = 1.0 - smoothstep(0.0, 1.0, np.maximum(eye.outside, 0.0) / reach)
    near_ball = eyeball_depth(EYE_X + np.clip(x - EYE_X, -20, 20), EYE_Y + np.clip(y - EYE_Y, -16, 16))
    margin = LID_THICKNESS * smoothstep(-LID_EDGE, 0.0, eye.outside)
    crease = -1.3 * upper * np.exp(-(((eye.outside - 6.0) / 1.3) ** 2)) * np.exp(-((eye.along / 0.85) ** 4))
    fold = 0.8 * upper * np.exp(-(((eye.outside - 3.0) / 2.0) ** 2)) * np.exp(-((eye.along / 0.85) ** 4))
    lower_crease = (
        -0.5 * (1.0 - upper) * np.exp(-(((eye.outside - 5.0) / 1.5) ** 2)) * np.exp(-((eye.along / 0.8) ** 4))
    )
    new_z = lids * (near_ball + margin) + (1.0 - lids) * z + crease + fold + lower_crease
    return np.stack([x, y, new_z], axis=1)


# Mouth: corners, and cross-sections of the lips at the middle. A lip coordinate of 0 is the edge of the mouth hole.
MOUTH_Y, MOUTH_HALF_WIDTH = -69.0, 25.5
HOLE_HALF_HEIGHT = 4.0
# columns: lip coordinate, distance from the seam along y, z relative to the shell
_UPPER_LIP = np.array(
    [
        (0.0, 1.8, -8.0),
        (1.6, 0.9, -4.0),
        (3.0, 0.1, 0.4),  # the lips touch
        (4.2, 0.9, 3.2),
        (5.6, 2.6, 5.2),
        (7.2, 5.2, 6.1),
        (8.6, 7.6, 5.7),  # vermilion border
        (10.5, 10.9, 3.9),
        (14.0, 16.4, 1.4),
        (17.0, 20.5, 0.3),
        (20.0, 24.0, 0.0),
        (24.0, 28.0, 0.0),
        (60.0, 64.0, 0.0),
    ]
)
_LOWER_LIP = np.array(
    [
        (0.0, 1.8, -8.0),
        (1.6, 0.9, -4.0),
        (3.0, 0.1, 0.0),
        (4.2, 1.0, 2.6),
        (5.6, 2.8, 4.6),
        (7.4, 5.6, 5.4),
        (9.2, 8.6, 4.2),  # vermilion border
        (11.5, 12.4, 2.0),
        (15.0, 18.0, 0.4),
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
    return MOUTH_Y + 1.2 * np.exp(-((s / 0.55) ** 2)) * 0.5 - 1.6 * s**2 / (1.0 + s**4)


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
    result = position.copy()
    result[:, 1] += np.where(clipped < 60.0, shift, 0.0)
    result[:, 2] += taper**0.8 * section[:, 1]
    return result


# Nose ridge: shell height y0 -> final (y, z), the columella spread out so that the under-side has vertices.
_RIDGE = np.array(
    [
        (30.0, 30.0, 0.0),
        (16.0, 16.0, 0.0),
        (5.0, 5.0, 1.5),
        (-5.0, -5.0, 5.6),
        (-15.0, -15.0, 11.0),
        (-25.0, -25.0, 16.6),
        (-31.0, -32.0, 19.2),
        (-35.0, -36.5, 19.0),
        (-38.0, -40.5, 16.5),
        (-41.0, -43.0, 12.5),
        (-45.0, -45.0, 7.0),
        (-49.0, -47.3, 3.0),
        (-53.0, -51.5, 1.2),
        (-60.0, -60.0, 0.0),
        (-80.0, -80.0, 0.0),
    ]
)  # columns: shell y, final y, height over the shell
_RIDGE_SPLINE = PchipInterpolator(-_RIDGE[:, 0], _RIDGE[:, 1:])
_NOSE_HALF_WIDTH = PchipInterpolator(
    [-30.0, -5.0, 5.0, 15.0, 25.0, 35.0, 42.0, 50.0, 80.0], [9.0, 7.5, 7.5, 8.0, 9.5, 10.0, 9.0, 8.0, 8.0]
)


def add_nose(position: Array, shell: Array) -> Array:
    x, y = shell[:, 0], shell[:, 1]
    inside = (y < 30.0) & (y > -80.0)
    final_y, height = _RIDGE_SPLINE(-np.clip(y, -80.0, 30.0)).T
    width = _NOSE_HALF_WIDTH(-np.clip(y, -80.0, 30.0))
    section = np.exp(-np.log(2.0) * (np.abs(x) / width) ** 2.2)
    shift_mask = np.exp(-((np.abs(x) / 17.0) ** 4))
    result = position.copy()
    result[:, 1] += np.where(inside, (final_y - np.clip(y, -80.0, 30.0)) * shift_mask, 0.0)
    result[:, 2] += np.where(inside, height * section, 0.0)
    return result


# Soft forms: centre (x, y, z) on the shell, radii (x, y, z), displacement (x, y, z); x > 0 ones are mirrored too.
FORMS = np.array(
    [
        (66.0, 42.0, -28.0, 14.0, 34.0, 22.0, -3.0, 0.0, -5.0),  # temple
        (45.0, 78.0, -18.0, 16.0, 20.0, 20.0, -2.0, -2.0, -5.0),  # forehead corner
        (19.0, 2.0, 12.0, 7.0, 9.0, 30.0, 0.0, 0.0, -8.0),  # inner orbit
        (33.0, 8.0, 8.0, 8.0, 6.0, 30.0, 0.0, 0.0, 1.0),
        (30.0, -16.0, 8.0, 11.0, 9.0, 30.0, 0.0, 0.0, -4.0),  # below the eye
        (31.0, -34.0, 10.0, 11.0, 12.0, 30.0, 0.0, 0.0, -4.0),  # front of the cheek
        (26.0, 22.0, 13.0, 15.0, 6.5, 30.0, 0.0, 0.0, 1.5),  # brow ridge
        (47.0, 18.0, 2.0, 9.0, 8.0, 30.0, 0.5, 0.0, 2.5),
        (0.0, 20.0, 17.0, 9.0, 8.0, 30.0, 0.0, 0.0, 1.0),  # glabella
        (17.0, -22.0, 17.0, 6.0, 11.0, 30.0, 0.0, 0.0, -3.5),  # beside the nose
        (48.0, -20.0, 0.0, 12.0, 10.0, 25.0, 0.5, 0.0, 1.5),  # cheekbone
        (64.0, -8.0, -28.0, 12.0, 14.0, 20.0, -2.0, 0.0, -4.0),
        (48.0, -60.0, -2.0, 14.0, 16.0, 25.0, 0.0, 0.0, 1.5),  # cheek
        (13.0, -41.5, 20.0, 4.0, 4.6, 30.0, 2.0, 0.0, 8.5),  # ala
        (6.8, -44.5, 21.0, 2.6, 2.4, 30.0, 0.0, 3.5, -5.0),  # nostril
        (0.0, -33.0, 22.0, 7.0, 5.5, 30.0, 0.0, 0.0, 1.5),  # tip
        (0.0, -56.0, 23.0, 2.6, 6.0, 30.0, 0.0, 0.0, -1.2),  # philtrum
        (5.0, -57.0, 23.0, 2.2, 6.0, 30.0, 0.0, 0.0, 0.6),
        (0.0, -88.0, 19.0, 16.0, 4.5, 30.0, 0.0, 0.0, -1.2),  # mentolabial fold
        (0.0, -99.0, 19.0, 12.0, 8.0, 30.0, 0.0, 0.0, 1.0),  # chin
        (28.0, -70.0, 12.0, 4.0, 6.0, 30.0, 0.0, 0.0, -2.0),  # mouth corner
    ]
)


def add_forms(position: Array, shell: Array, forms: Array = FORMS) -> Array:
    """Add Gaussian forms, each with its mirror image so that the midline stays smooth."""
    result = position.copy()
    for form in forms:
        centre, radius, shift = form[:3], form[3:6], form[6:9]
        for sign in (1.0, -1.0) if centre[0] > 0.0 else (1.0,):
            mirror = np.array([sign, 1.0, 1.0])
            weight = np.exp(-0.5 * np.sum(((shell - centre * mirror) / radius) ** 2, axis=1))
            result += weight[:, None] * (shift * mirror)
    return result


def sculpt(domain: Array) -> Array:
    """[M, 2] domain points with u >= 0 -> [M, 3] the neutral face, mm, sculptor's frame."""
    shell = base_shell(domain)
    position = add_forms(shell, shell)
    position = add_nose(position, shell)
    position = add_lips(position, shell)
    return add_eye(position)
