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
        (-85.0, 19.0, 60.0, -78.5, -53.0),  # mentolabial fold
        (-97.0, 19.5, 55.5, -87.5, -54.0),  # pogonion
        (-107.0, 16.5, 51.5, -94.0, -57.0),
        (-114.0, 7.0, 48.5, -99.5, -60.0),  # menton
        (-118.0, -9.0, 45.5, -105.0, -63.0),
        (-121.0, -29.0, 42.5, -111.0, -66.0),  # under the chin
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


# Nose ridge: shell height y0 -> final (y, z), the columella spread out so that the under-side has vertices.
_RIDGE = np.array(
    [
        (30.0, 30.0, 0.0),
        (16.0, 16.0, 0.0),
        (5.0, 5.0, 1.5),
        (-5.0, -5.0, 5.6),
        (-15.0, -15.0, 11.0),
        (-25.0, -25.0, 16.6),
        (-30.0, -30.6, 18.8),
        (-34.0, -35.4, 19.2),
        (-37.0, -39.0, 17.8),
        (-40.0, -42.0, 14.6),
        (-44.0, -44.8, 9.2),
        (-48.0, -46.8, 4.4),
        (-52.0, -50.0, 1.8),
        (-57.0, -56.0, 0.5),
        (-64.0, -64.0, 0.0),
        (-80.0, -80.0, 0.0),
    ]
)  # columns: shell y, final y, height over the shell
_RIDGE_SPLINE = PchipInterpolator(-_RIDGE[:, 0], _RIDGE[:, 1:])
# Half width of the ridge's section, and the exponent of its fall-off, by depth below the eyes.
_NOSE_SECTION = PchipInterpolator(
    [-30.0, -5.0, 5.0, 15.0, 24.0, 32.0, 38.0, 44.0, 50.0, 80.0],
    [
        (10.0, 2.0),
        (8.0, 2.0),
        (7.6, 2.0),
        (8.6, 2.3),
        (10.6, 2.7),
        (11.6, 2.7),
        (10.4, 2.4),
        (7.0, 2.0),
        (6.0, 2.0),
        (6.0, 2.0),
    ],
)


# Masses joined to the ridge: centre (x, y), radii (x, y), z of the top, drop of z at one radius,
# mm over which it melts into the rest.
_NOSE_MASSES = np.array(
    [
        (0.0, -34.0, 11.0, 10.5, 41.2, 11.0, 5.0),  # tip
        (12.2, -38.8, 5.6, 7.6, 30.0, 11.5, 6.0),  # wing
    ]
)
# Hollows: centre (x, y), radii (x, y), displacement (y, z).
_NOSTRIL = (6.8, -44.2, 2.6, 2.3, 2.5, -8.0)


def _smooth_maximum(first: Array, second: Array, width: float) -> Array:
    blend = np.maximum(width - np.abs(first - second), 0.0) / width
    return np.maximum(first, second) + width * blend**3 / 6.0


def add_nose(position: Array, shell: Array) -> Array:
    """Ridge over the shell, then tip and wings as separate masses that melt into it, then the nostrils."""
    x = shell[:, 0]
    y = np.clip(shell[:, 1], -80.0, 30.0)
    final_y, height = _RIDGE_SPLINE(-y).T
    width, exponent = _NOSE_SECTION(-y).T
    section = np.exp(-np.log(2.0) * (x / width) ** exponent)
    new_y = position[:, 1] + (final_y - y) * np.exp(-((x / 17.0) ** 4))
    new_z = position[:, 2] + height * section
    for centre_x, centre_y, radius_x, radius_y, top, drop, join in _NOSE_MASSES:
        mass = np.full_like(new_z, -np.inf)
        for sign in (1.0, -1.0) if centre_x > 0.0 else (1.0,):
            distance = ((x - sign * centre_x) / radius_x) ** 2 + ((new_y - centre_y) / radius_y) ** 2
            mass = np.maximum(mass, top - drop * distance)
        lift = _smooth_maximum(new_z, mass, join) - new_z
        new_z = new_z + lift
    centre_x, centre_y, radius_x, radius_y, shift_y, shift_z = _NOSTRIL
    hollow = np.exp(-(((x - centre_x) / radius_x) ** 2) - ((new_y - centre_y) / radius_y) ** 2)
    return np.stack([position[:, 0], new_y + shift_y * hollow, new_z + shift_z * hollow], axis=1)


# Soft forms: centre (x, y, z) on the shell, radii (x, y, z), displacement (x, y, z); x > 0 ones are mirrored too.
FORMS = np.array(
    [
        (66.0, 42.0, -28.0, 14.0, 34.0, 22.0, -3.0, 0.0, -5.0),  # temple
        (45.0, 78.0, -18.0, 16.0, 20.0, 20.0, -2.0, -2.0, -5.0),  # forehead corner
        (19.0, 2.0, 12.0, 7.0, 9.0, 30.0, 0.0, 0.0, -8.0),  # inner orbit
        (38.0, 11.0, 6.0, 9.0, 6.0, 30.0, 0.0, 0.0, 3.0),  # fold over the lid
        (30.0, -16.0, 8.0, 12.0, 9.0, 30.0, 0.0, 0.0, -4.5),  # below the eye
        (27.0, -43.0, 12.0, 12.0, 15.0, 30.0, 0.0, 0.0, -5.0),  # front of the cheek
        (26.0, 22.0, 13.0, 15.0, 6.5, 30.0, 0.0, 0.0, 1.8),  # brow ridge
        (53.0, 15.0, -4.0, 9.0, 9.0, 30.0, 0.5, 0.0, 4.5),  # outer end of the brow
        (0.0, 20.0, 17.0, 9.0, 8.0, 30.0, 0.0, 0.0, 1.0),  # glabella
        (18.0, -20.0, 17.0, 8.0, 12.0, 30.0, 0.0, 0.0, -3.0),  # beside the nose
        (47.0, -21.0, 0.0, 12.0, 9.0, 25.0, 0.5, 0.0, 1.0),  # cheekbone
        (64.0, -22.0, -26.0, 12.0, 16.0, 20.0, 1.0, 0.0, 3.5),  # arch of the cheekbone
        (50.0, -58.0, -4.0, 16.0, 14.0, 25.0, 0.0, 0.0, -2.0),  # hollow of the cheek
        (0.0, -56.0, 23.0, 2.6, 6.0, 30.0, 0.0, 0.0, -1.2),  # philtrum
        (5.0, -57.0, 23.0, 2.2, 6.0, 30.0, 0.0, 0.0, 0.6),
        (0.0, -89.0, 19.0, 16.0, 5.0, 30.0, 0.0, 0.0, -1.4),  # mentolabial fold
        (0.0, -99.0, 19.0, 12.0, 8.0, 30.0, 0.0, 0.0, 1.0),  # chin
        (28.0, -70.0, 12.0, 4.0, 6.0, 30.0, 0.0, 0.0, -2.0),  # mouth corner
    ]
)


def _with_mirror_images(forms: Array) -> Array:
    """Forms off the midline together with their mirror images, so that the midline stays smooth."""
    lateral = forms[forms[:, 0] > 0.0].copy()
    lateral[:, [0, 6]] *= -1.0
    return np.concatenate([forms, lateral])


def add_forms(position: Array, shell: Array, forms: Array = FORMS) -> Array:
    """Add Gaussian forms exp(-|(shell - centre) / radius|^2 / 2) * displacement, mirror images included."""
    forms = _with_mirror_images(forms)
    centre, precision = forms[:, :3], forms[:, 3:6] ** -2.0
    # The square expanded, so that two matrix products do all forms at once.
    constant = np.sum(centre**2 * precision, axis=1)
    square = shell**2 @ precision.T - 2.0 * shell @ (centre * precision).T + constant
    return position + np.exp(-0.5 * square) @ forms[:, 6:9]


def sculpt(domain: Array) -> Array:
    """[M, 2] domain points with u >= 0 -> [M, 3] the neutral face, mm, sculptor's frame."""
    shell = base_shell(domain)
    position = add_forms(shell, shell)
    position = add_nose(position, shell)
    position = add_lips(position, shell)
    return add_eye(position)
