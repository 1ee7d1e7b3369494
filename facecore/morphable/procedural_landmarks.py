"""The 68 iBUG landmarks of the procedural face as points of its domain (METHODS 1.10)."""

from __future__ import annotations

import numpy as np

from facecore.morphable import procedural_eye as eyes
from facecore.morphable import procedural_mouth as mouth
from facecore.morphable import procedural_shell as shell_map
from facecore.morphable.procedural_shell import Array

# Contour, chin to ear, as domain points (u, v) in mm; landmark 8 lies on the midline.
_CONTOUR = (
    (0.0, 207.5),
    (22.5, 205.0),
    (49.0, 203.5),
    (72.0, 198.0),
    (90.0, 182.0),
    (100.0, 158.0),
    (106.0, 137.0),
    (109.5, 116.0),
    (110.5, 92.0),
)
_BROW = ((11.5, 22.5), (23.0, 26.5), (35.5, 27.5), (48.0, 24.0), (57.5, 16.0))
_BRIDGE = (3.0, -8.5, -19.5, -31.5)  # shell y of landmarks 27 to 30 on the midline
_NOSTRIL_LINE = ((0.0, -48.5), (6.0, -48.0), (12.5, -47.0))  # shell (x, y) of 33, 34, 35
_LID_ALONG = (-0.35, 0.35)


def _frontal(x: float, y: float) -> Array:
    point = shell_map.domain_of_frontal(np.array([[x, y]]))[0]
    return np.array([0.0, point[1]]) if x == 0.0 else point


def named_points() -> dict[str, Array]:
    """Landmarks of the half x >= 0 by name: "landmark <i>", curve points with the curve's prefix before it."""
    points: dict[str, Array] = {}
    for number, (u, v) in enumerate(_CONTOUR):
        points[f"landmark {8 + number}"] = np.array([u, v])
    for number, (x, y) in enumerate(_BROW):
        points[f"landmark {22 + number}"] = _frontal(x, y)
    for number, y in enumerate(_BRIDGE):
        points[f"landmark {27 + number}"] = _frontal(0.0, y)
    for number, (x, y) in enumerate(_NOSTRIL_LINE):
        points[f"landmark {33 + number}"] = _frontal(x, y)
    return points | _eye_points() | _lip_points()


def _eye_points() -> dict[str, Array]:
    places = {
        "lid upper, landmark 42": (-1.0, True),
        "lid upper, landmark 43": (_LID_ALONG[0], True),
        "lid upper, landmark 44": (_LID_ALONG[1], True),
        "lid upper, landmark 45": (1.0, True),
        "lid lower, landmark 46": (_LID_ALONG[1], False),
        "lid lower, landmark 47": (_LID_ALONG[0], False),
    }
    return {name: _frontal(*eyes.lid_curve(np.array([along]), upper)[0]) for name, (along, upper) in places.items()}


def _lip_points() -> dict[str, Array]:
    """Outer points on the vermilion border, inner ones where the lips touch; 54 is the end of the slit."""
    places = (
        (51, 0.0, mouth.UPPER_BORDER, True),
        (52, 7.0, mouth.UPPER_BORDER, True),
        (53, 17.0, mouth.UPPER_BORDER, True),
        (54, mouth.MOUTH_HALF_WIDTH, 0.0, True),
        (55, 18.0, mouth.LOWER_BORDER, False),
        (56, 10.0, mouth.LOWER_BORDER, False),
        (57, 0.0, mouth.LOWER_BORDER, False),
        (62, 0.0, mouth.LIP_CONTACT, True),
        (63, 10.0, mouth.LIP_CONTACT, True),
        (64, 22.0, mouth.LIP_CONTACT, True),
        (65, 10.5, mouth.LIP_CONTACT, False),
        (66, 0.0, mouth.LIP_CONTACT, False),
    )
    return {
        f"lip {'upper' if upper else 'lower'} {coordinate:g} landmark {index}": _frontal(
            *mouth.lip_curve(np.array([x]), coordinate, upper)[0]
        )
        for index, x, coordinate, upper in places
    }


# Landmarks of the mirrored half (x < 0): iBUG index -> index of its mirror image.
MIRRORED = (
    {index: 16 - index for index in range(8)}
    | {17 + k: 26 - k for k in range(5)}
    | {31: 35, 32: 34}
    | {36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46}
    | {48: 54, 49: 53, 50: 52, 58: 56, 59: 55}
    | {60: 64, 61: 63, 67: 65}
)
