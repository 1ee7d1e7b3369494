"""The head without features: a smooth map from the 2-D domain of the procedural face to a shell in space.

Everything is for the half with x >= 0 (the subject's left); the other half is its mirror image. The frame is the
sculptor's: origin between the pupils at the depth of the eyes, +x image right, +y up, +z out of the face, millimetres.
The model moves the origin to the centroid afterwards. The domain point (u, v) in millimetres is arc length: u along the
cross-section from the middle, v down the profile from the hairline.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

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


def gaussian_sum(points: Array, table: Array) -> Array:
    """Sum of Gaussian displacements [M, 3] at points [M, 3].

    table [F, 9]: centre, radii (standard deviations), displacement; row f adds
    exp(-|(points - centre) / radii|^2 / 2) * displacement. The square is expanded, so that two matrix products do all.
    """
    centre, precision = table[:, :3], table[:, 3:6] ** -2.0
    constant = np.sum(centre**2 * precision, axis=1)
    square = points**2 @ precision.T - 2.0 * points @ (centre * precision).T + constant
    return np.exp(-0.5 * square) @ table[:, 6:9]


def mirrored_rows(table: Array, sign: float = 1.0) -> Array:
    """The mirror images [G, 9] of the rows off the midline, their displacements multiplied by sign."""
    rows = table[table[:, 0] != 0.0].copy()
    rows[:, 0] *= -1.0
    rows[:, 6:9] *= sign * np.array([-1.0, 1.0, 1.0])
    return rows


def smoothstep(low: float, high: float, value: Array) -> Array:
    """0 below low, 1 above high, C2 between."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * t * (t * (6.0 * t - 15.0) + 10.0)
