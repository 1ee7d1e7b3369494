"""Expression modes of the procedural face: displacements for a weight of 1, in millimetres."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facecore.morphable.procedural_fields import (
    FaceCoordinates,
    Handle,
    half_weight,
    handles,
    jaw_weight,
    lid_motion,
    rotation_about_x,
)
from facecore.morphable.procedural_shell import Array

_JAW_AXIS_Y, _JAW_AXIS_Z = -8.0, -62.0  # the joint in front of the ear
_JAW_OPEN_DEGREES = 17.0

# Fields with a left and a right version: handles on the subject's left; the other side is their mirror image.
_SIDED: dict[str, tuple[Handle, ...]] = {
    "mouth_smile": (
        (27.0, -69.0, 13.0, 11.0, 11.0, 18.0, 6.0, 7.5, -4.0),
        (38.0, -40.0, 6.0, 14.0, 13.0, 18.0, 1.5, 4.0, 2.5),
        (12.0, -69.0, 22.0, 9.0, 9.0, 15.0, 1.5, 1.5, -1.5),
    ),
    "mouth_frown": (
        (26.0, -71.0, 13.0, 10.0, 10.0, 18.0, 1.0, -6.5, -1.0),
        (22.0, -88.0, 14.0, 12.0, 9.0, 16.0, 0.0, -2.0, 1.0),
    ),
    "mouth_stretch": (
        (27.0, -71.0, 12.0, 12.0, 10.0, 18.0, 7.0, -2.5, -3.5),
        (12.0, -72.0, 22.0, 10.0, 9.0, 15.0, 2.5, -0.5, -1.0),
    ),
    "mouth_dimple": ((28.0, -69.0, 12.0, 9.0, 9.0, 16.0, 4.0, 1.0, -4.5),),
    "brow_inner_up": (
        (14.0, 24.0, 15.0, 13.0, 10.0, 20.0, 0.0, 6.0, 1.0),
        (20.0, 45.0, 10.0, 18.0, 15.0, 25.0, 0.0, 2.0, 0.5),
    ),
    "brow_outer_up": (
        (45.0, 22.0, 2.0, 13.0, 10.0, 20.0, 0.5, 6.0, 0.5),
        (48.0, 42.0, -5.0, 18.0, 15.0, 25.0, 0.0, 2.0, 0.5),
    ),
    "brow_lower": (
        (15.0, 22.0, 15.0, 12.0, 9.0, 20.0, -3.0, -5.5, 1.5),
        (36.0, 22.0, 8.0, 14.0, 9.0, 20.0, -1.0, -3.0, 0.5),
    ),
    "cheek_puff": ((44.0, -58.0, 0.0, 14.0, 17.0, 22.0, 6.0, 0.0, 8.0),),
    "cheek_raise": ((40.0, -24.0, 5.0, 15.0, 10.0, 20.0, 1.0, 5.0, 3.0),),
    "nose_wrinkle": (
        (13.0, -38.0, 24.0, 8.0, 9.0, 15.0, 1.5, 4.5, 0.5),
        (14.0, -54.0, 22.0, 9.0, 7.0, 15.0, 0.0, 4.0, 0.5),
        (10.0, 5.0, 14.0, 8.0, 9.0, 15.0, -0.5, -2.0, 2.0),
        (16.0, 20.0, 14.0, 10.0, 8.0, 15.0, -0.5, -2.0, 0.5),
    ),
}
_MIDDLE: dict[str, tuple[Handle, ...]] = {
    "mouth_pucker": (
        (25.0, -69.5, 14.0, 10.0, 9.0, 18.0, -7.0, 0.0, 3.5),
        (0.0, -69.0, 24.0, 13.0, 11.0, 18.0, 0.0, 0.0, 5.5),
    ),
    "chin_raise": (
        (0.0, -94.0, 18.0, 18.0, 10.0, 18.0, 0.0, 5.0, 2.0),
        (0.0, -75.0, 24.0, 16.0, 7.0, 18.0, 0.0, 3.0, 2.0),
        (0.0, -65.0, 25.0, 18.0, 6.0, 18.0, 0.0, 2.5, 1.0),
    ),
}
_MOUTH_SIDEWAYS: tuple[Handle, ...] = (
    (0.0, -69.0, 24.0, 26.0, 14.0, 24.0, 8.0, 0.0, 0.0),
    (0.0, -92.0, 18.0, 22.0, 12.0, 24.0, 2.0, 0.0, 0.0),
)
_UPPER_LIP_UP: tuple[Handle, ...] = (
    (10.0, -62.0, 24.0, 10.0, 9.0, 18.0, 0.3, 6.0, 0.5),
    (14.0, -47.0, 20.0, 8.0, 8.0, 15.0, 0.0, 2.0, 0.5),
)
_LOWER_LIP_DOWN: tuple[Handle, ...] = (
    (10.0, -77.0, 22.0, 10.0, 9.0, 18.0, 0.5, -6.0, 0.0),
    (10.0, -92.0, 18.0, 12.0, 8.0, 15.0, 0.0, -2.0, 0.0),
)
# Movement of the upper and the lower lid's margin in mm; None closes the eye.
_LIDS: dict[str, tuple[float | None, float | None]] = {
    "eye_blink": (None, None),
    "eye_wide": (2.0, -0.6),
    "eye_squint": (-1.6, 1.8),
}


def _open_jaw(face: FaceCoordinates) -> Array:
    """Opening of the whole head's lower jaw [V, 3]: it turns about the joints and slides 2 mm forward."""
    return rotation_about_x(face, _JAW_AXIS_Y, _JAW_AXIS_Z, _JAW_OPEN_DEGREES) + np.array([0.0, 0.0, 2.0])


def _jaw_modes(face: FaceCoordinates) -> dict[str, Array]:
    jaw = jaw_weight(face)[:, None]
    forward = np.clip((face.z - _JAW_AXIS_Z) / 40.0, 0.0, 1.0)[:, None] * [0.0, -0.5, 6.0]
    return {"jaw_open": jaw * _open_jaw(face), "jaw_forward": jaw * forward}


def _lip_modes(face: FaceCoordinates) -> dict[str, Array]:
    """Symmetric modes that move the lips apart or together; the weight of the jaw tells the lips from each other."""
    lower = jaw_weight(face)[:, None]
    upper = 1.0 - lower
    middle = handles(face, [(0.0, -69.0, 22.0, 17.0, 9.0, 20.0, 0.0, 0.0, 1.0)])[:, 2:]
    corner = handles(face, [(25.0, -70.0, 13.0, 9.0, 9.0, 18.0, -6.0, 0.0, 1.5)])
    height = np.clip(face.y + 69.0, -9.0, 9.0)[:, None]
    around = np.exp(-0.5 * ((face.x / 36.0) ** 6 + ((face.y + 71.0) / 22.0) ** 4))[:, None]
    return {
        "mouth_funnel": corner + middle * (upper * [0.0, 4.5, 5.0] + lower * [0.0, -5.0, 4.5]),
        "lips_press": middle * (height * [0.0, -0.3, 0.0] + [0.0, 0.0, -2.2]),
        "lip_roll_upper": middle * upper * [0.0, -1.6, -3.5],
        "lip_roll_lower": middle * lower * [0.0, 1.6, -3.5],
        # Closes the lips over an open jaw: the lower lip most of the way up, the upper lip the rest down.
        "mouth_close": around * (0.25 * upper - 0.75 * lower) * _open_jaw(face),
    }


def _left_modes(face: FaceCoordinates) -> dict[str, Array]:
    """The subject's left version of every mode that has two sides."""
    lower = jaw_weight(face)[:, None]
    modes = {name: handles(face, table, mirror=0.0) for name, table in _SIDED.items()}
    modes["upper_lip_raise"] = (1.0 - lower) * handles(face, _UPPER_LIP_UP, mirror=0.0)
    modes["lower_lip_depress"] = lower * handles(face, _LOWER_LIP_DOWN, mirror=0.0)
    modes["mouth"] = handles(face, _MOUTH_SIDEWAYS)
    # Sideways the chin swings about the joints: nothing moves at the ears.
    modes["jaw"] = lower * np.clip((face.z - _JAW_AXIS_Z) / 80.0, 0.0, 1.0)[:, None] * [8.0, 0.0, 0.0]
    left = half_weight(face, 1.0)[:, None]
    return modes | {name: left * lid_motion(face, *heights) for name, heights in _LIDS.items()}


def expression_modes(face: FaceCoordinates, mirror_map: NDArray[np.int64]) -> dict[str, Array]:
    """Displacements [V, 3] of all expression modes for a weight of 1, by name.

    Modes of one side end in _left or _right (the subject's) and are exact mirror images of each other; the others are
    exactly symmetric.
    """
    modes = _jaw_modes(face) | _lip_modes(face)
    modes |= {name: handles(face, table) for name, table in _MIDDLE.items()}
    flip = np.array([-1.0, 1.0, 1.0])
    # The mean with the mirror image removes what rounding leaves of asymmetry.
    modes = {name: 0.5 * (field + field[mirror_map] * flip) for name, field in modes.items()}
    for name, field in _left_modes(face).items():
        modes[f"{name}_left"] = field
        modes[f"{name}_right"] = field[mirror_map] * flip
    return modes


# A mode that only makes sense on top of another: its weight is scaled by that one's (see BlendshapePrior).
SCALED_BY = {"mouth_close": "jaw_open"}
# Opposite directions of one movement: they have sides but are not used together.
EXCLUSIVE_SIDES = ("mouth", "jaw")
