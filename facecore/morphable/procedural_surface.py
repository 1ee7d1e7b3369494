"""The sculpted surface of the procedural face: shell, soft forms, nose, lips and eyes put together.

Features are functions of the shell point, so each is written in the plane in which people measure faces. The numbers
were set by hand, by looking at pictures and at millimetre differences to the neutral face of the ICT model.
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import PchipInterpolator

from facecore.morphable.procedural_eye import add_eye
from facecore.morphable.procedural_mouth import add_lips
from facecore.morphable.procedural_shell import Array, base_shell, gaussian_sum, mirrored_rows

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
        (-51.5, -50.2, 1.9),
        (-56.0, -56.0, 0.6),
        (-62.0, -62.0, 0.0),
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


def sculpt(domain: Array) -> Array:
    """[M, 2] domain points with u >= 0 -> [M, 3] the neutral face, mm, sculptor's frame."""
    shell = base_shell(domain)
    # Forms come with their mirror images, so that the midline stays smooth.
    position = shell + gaussian_sum(shell, np.concatenate([FORMS, mirrored_rows(FORMS)]))
    position = add_nose(position, shell)
    position = add_lips(position, shell)
    return add_eye(position)
