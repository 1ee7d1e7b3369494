"""Identity modes of the procedural face: displacements for one standard deviation, in millimetres.

Sizes were chosen for plausible spreads of adult face measures and compared with those of the ICT model
(docs/procedural_model.md); how they fall into modes is a choice.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facecore.morphable import procedural_eye as eyes
from facecore.morphable import procedural_mouth as mouth
from facecore.morphable import procedural_shell as shell_map
from facecore.morphable.procedural_fields import FaceCoordinates, Handle, handles, lid_motion
from facecore.morphable.procedural_shell import Array

# Handles: centre, radii, displacement; all symmetric.
_LOCAL: dict[str, tuple[Handle, ...]] = {
    "jaw_width": ((56.0, -78.0, -30.0, 22.0, 30.0, 34.0, 3.0, 0.0, 0.0),),
    "jaw_angle": ((54.0, -90.0, -40.0, 24.0, 26.0, 34.0, 0.8, -2.4, 0.0),),
    "chin_projection": ((0.0, -102.0, 18.0, 24.0, 15.0, 26.0, 0.0, 0.0, 3.2),),
    "chin_width": ((16.0, -104.0, 10.0, 13.0, 13.0, 20.0, 2.6, 0.0, 1.0),),
    "chin_height": ((0.0, -115.0, 5.0, 34.0, 18.0, 40.0, 0.0, -3.2, 0.0),),
    "under_chin": ((0.0, -120.0, -20.0, 36.0, 18.0, 26.0, 0.0, -2.2, 0.0),),
    "nose_length": ((0.0, -41.0, 32.0, 17.0, 13.0, 22.0, 0.0, -2.6, 0.0),),
    "nose_projection": ((0.0, -36.0, 38.0, 15.0, 15.0, 22.0, 0.0, 0.0, 2.3),),
    "nose_width": ((15.0, -41.0, 24.0, 8.0, 9.0, 14.0, 1.7, 0.0, 0.0),),
    "nose_bridge_width": ((10.0, -10.0, 19.0, 7.0, 18.0, 14.0, 1.3, 0.0, 0.3),),
    "nose_bridge_height": ((0.0, 0.0, 20.0, 11.0, 16.0, 20.0, 0.0, 0.0, 1.9),),
    "nose_hump": ((0.0, -13.0, 30.0, 9.0, 9.0, 18.0, 0.0, 0.0, 1.3),),
    "nose_tip_turn": ((0.0, -34.0, 42.0, 9.0, 9.0, 14.0, 0.0, 1.8, 0.4),),
    "nose_tip_width": ((7.0, -34.0, 37.0, 6.0, 8.0, 10.0, 1.2, 0.0, 0.3),),
    "nostril_height": ((12.0, -43.0, 25.0, 7.0, 6.0, 12.0, 0.3, 1.2, 0.0),),
    "eye_distance": ((31.5, 0.0, 4.0, 18.0, 16.0, 30.0, 1.7, 0.0, 0.0),),
    "eye_depth": ((31.0, 2.0, 4.0, 19.0, 13.0, 30.0, 0.0, 0.0, -1.7),),
    "eye_height": ((31.5, 2.0, 4.0, 22.0, 18.0, 30.0, 0.0, 1.5, 0.0),),
    "brow_height": ((32.0, 22.0, 10.0, 24.0, 9.0, 25.0, 0.0, 1.8, 0.0),),
    "brow_ridge": ((30.0, 20.0, 10.0, 20.0, 7.5, 22.0, 0.0, 0.0, 1.7),),
    "brow_slant": (
        (14.0, 22.0, 15.0, 11.0, 9.0, 20.0, 0.0, -1.3, 0.0),
        (48.0, 20.0, 2.0, 12.0, 9.0, 20.0, 0.0, 1.3, 0.0),
    ),
    "glabella": ((0.0, 18.0, 17.0, 11.0, 11.0, 15.0, 0.0, 0.0, 1.3),),
    "forehead_width": ((62.0, 48.0, -25.0, 20.0, 32.0, 30.0, 2.8, 0.0, 0.0),),
    "forehead_bulge": ((0.0, 56.0, 8.0, 34.0, 20.0, 30.0, 0.0, 0.0, 2.0),),
    "hairline": ((0.0, 80.0, -10.0, 60.0, 22.0, 50.0, 0.0, 3.0, -1.0),),
    "temple": ((66.0, 22.0, -28.0, 14.0, 20.0, 22.0, 2.0, 0.0, 0.8),),
    "cheekbone_width": ((62.0, -14.0, -22.0, 17.0, 15.0, 24.0, 2.4, 0.0, 1.0),),
    "cheekbone_projection": ((42.0, -18.0, 4.0, 17.0, 11.0, 22.0, 0.5, 0.0, 2.2),),
    "cheekbone_height": ((46.0, -22.0, 0.0, 18.0, 14.0, 24.0, 0.0, 2.2, 0.0),),
    "cheek_fullness": ((50.0, -50.0, -8.0, 20.0, 22.0, 26.0, 2.4, 0.0, 2.6),),
    "cheek_front": ((29.0, -36.0, 11.0, 13.0, 14.0, 18.0, 0.0, 0.0, 1.6),),
    "under_eye": ((31.0, -14.0, 5.0, 13.0, 7.0, 20.0, 0.0, 0.0, 1.0),),
    "mouth_height": ((0.0, -69.0, 22.0, 32.0, 14.0, 26.0, 0.0, 2.0, 0.0),),
    "mouth_width": ((26.0, -70.0, 13.0, 12.0, 11.0, 20.0, 1.6, 0.0, -0.3),),
    "mouth_projection": ((0.0, -68.0, 22.0, 27.0, 18.0, 26.0, 0.0, 0.0, 2.2),),
    "mouth_corner_height": ((26.0, -70.0, 12.0, 9.0, 8.0, 18.0, 0.0, 1.3, 0.0),),
    "mentolabial_fold": ((0.0, -87.0, 19.0, 18.0, 6.0, 16.0, 0.0, 0.0, -1.1),),
    "philtrum": ((0.0, -56.0, 26.0, 3.0, 6.0, 10.0, 0.0, 0.0, -0.6),),
}
# Deviations from symmetry: the mirror image of each handle is subtracted; those on the midline move sideways.
_ASYMMETRIC: dict[str, tuple[Handle, ...]] = {
    "nose_bend": ((0.0, -30.0, 34.0, 14.0, 20.0, 22.0, 0.9, 0.0, 0.0),),
    "jaw_shift": ((0.0, -100.0, 5.0, 50.0, 32.0, 60.0, 1.4, 0.0, 0.0),),
    "mouth_tilt": ((24.0, -70.0, 14.0, 14.0, 11.0, 20.0, 0.0, 0.7, 0.0),),
    "eye_level": ((31.5, 4.0, 4.0, 20.0, 18.0, 30.0, 0.0, 0.6, 0.0),),
    "cheek_difference": ((50.0, -40.0, -8.0, 22.0, 26.0, 30.0, 0.8, 0.0, 0.8),),
}
# Low-frequency waves along the shell's normal: (waves across, waves down, standard deviation in mm).
_WAVES = (
    (0, 1, 0.8),
    (0, 2, 0.7),
    (1, 0, 0.7),
    (1, 1, 0.7),
    (1, 2, 0.6),
    (2, 0, 0.5),
    (2, 1, 0.5),
    (0, 3, 0.5),
    (1, 3, 0.45),
    (2, 2, 0.4),
)


def _global_modes(face: FaceCoordinates) -> dict[str, Array]:
    """Changes of size and proportion of the whole face about its middle."""
    zero = np.zeros_like(face.x)
    y, z = face.y + 20.0, face.z + 15.0
    down = y / 100.0

    def field(dx: Array, dy: Array, dz: Array) -> Array:
        return np.stack([dx, dy, dz], axis=1)

    return {
        # Three modes for three directions: a width, a height and a size would be linearly dependent with depth.
        "size": 0.034 * field(face.x, y, z),
        "aspect": field(0.028 * face.x, -0.024 * y, zero),
        "depth": 0.045 * field(zero, zero, z),
        "taper": 0.035 * field(face.x * down, zero, zero),
        "profile_curve": field(zero, zero, 2.4 * (down**2 - 0.35)),
        "profile_slope": field(zero, zero, 2.0 * down),
        "forehead_slope": field(zero, zero, -3.0 * np.maximum((face.y - 20.0) / 60.0, 0.0) ** 1.5),
        "lower_face_height": field(zero, -2.4 * shell_map.smoothstep(35.0, 100.0, -face.y), zero),
    }


def _eye_modes(face: FaceCoordinates) -> dict[str, Array]:
    """Size, slant and opening of the eyes, lids and eyeballs together."""
    x, y = np.abs(face.x) - eyes.EYE_X, face.y - eyes.EYE_Y
    centre = (eyes.EYE_X, eyes.EYE_Y, 4.0)
    near = handles(face, [(*centre, 14.0, 10.0, 25.0, 0.0, 0.0, 1.0)])[:, 2]
    outward = np.sign(face.x)
    turn = np.deg2rad(3.0)
    zero = np.zeros_like(x)
    return {
        "eye_size": 0.06 * near[:, None] * np.stack([outward * x, y, zero], axis=1),
        "eye_slant": turn * near[:, None] * np.stack([-outward * y, x, zero], axis=1),
        "eye_opening": lid_motion(face, 0.55, -0.2),
    }


def _lip_modes(face: FaceCoordinates) -> dict[str, Array]:
    """Fullness of the lips: the red parts grow away from the seam and forward."""
    taper = mouth.mouth_taper(face.shell[:, 0])
    upper = face.lip_side > 0
    border = np.where(upper, mouth.UPPER_BORDER, mouth.LOWER_BORDER)
    swell = taper * np.exp(-(((face.lip_coordinate - border + 2.5) / 3.5) ** 2))
    # Where the lips touch they only come forward: fuller lips stay closed.
    apart = shell_map.smoothstep(mouth.LIP_CONTACT, mouth.LIP_CONTACT + 2.5, face.lip_coordinate)
    shift = np.stack([np.zeros_like(swell), 0.9 * face.lip_side * apart * swell, 0.9 * swell], axis=1)
    return {
        "lip_fullness_upper": np.where(upper[:, None], shift, 0.0),
        "lip_fullness_lower": np.where(upper[:, None], 0.0, shift),
    }


def _wave_modes(face: FaceCoordinates) -> dict[str, Array]:
    """Smooth cosine waves over the domain along the normal of the shell."""
    normal = shell_map.shell_normals(face.domain)
    normal[:, 0] *= np.where(face.x < 0, -1.0, 1.0)
    across = np.pi * face.domain[:, 0] / shell_map.DOMAIN_WIDTH
    down = np.pi * face.domain[:, 1] / shell_map.DOMAIN_LENGTH
    modes = {}
    for waves_across, waves_down, deviation in _WAVES:
        wave = np.sqrt(2.0) * deviation * np.cos(waves_across * across) * np.cos(waves_down * down)
        modes[f"wave_{waves_across}{waves_down}"] = wave[:, None] * normal
    return modes


def identity_modes(face: FaceCoordinates, mirror_map: NDArray[np.int64]) -> dict[str, Array]:
    """Displacements [V, 3] of all identity modes for one standard deviation, by name.

    All are exactly symmetric, except those of _ASYMMETRIC, which are exactly antisymmetric.
    """
    modes = _global_modes(face)
    modes |= {name: handles(face, table) for name, table in _LOCAL.items()}
    modes |= _eye_modes(face) | _lip_modes(face) | _wave_modes(face)
    flip = np.array([-1.0, 1.0, 1.0])
    modes = {name: 0.5 * (field + field[mirror_map] * flip) for name, field in modes.items()}
    for name, table in _ASYMMETRIC.items():
        field = handles(face, table, mirror=-1.0)
        modes[name] = 0.5 * (field - field[mirror_map] * flip)
    return modes
