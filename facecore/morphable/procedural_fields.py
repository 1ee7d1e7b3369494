"""Displacement fields on the procedural face: what identity and expression modes are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facecore.morphable import procedural_eye as eyes
from facecore.morphable import procedural_mouth as mouth
from facecore.morphable import procedural_shell as shell_map
from facecore.morphable import procedural_surface as surface
from facecore.morphable.procedural_eye import EyeCoordinates
from facecore.morphable.procedural_shell import Array

Handle = tuple[float, float, float, float, float, float, float, float, float]  # centre, radii, displacement, mm


@dataclass(frozen=True)
class FaceCoordinates:
    """Where each vertex of the whole template lies: in space, on the shell, and with respect to eyes and mouth.

    All in the sculptor's frame (procedural_surface), mm. Shell, lips and eyes are those of the half x >= 0; `side` says
    on which half the vertex is.
    """

    position: Array  # [V, 3]
    domain: Array  # [V, 2], u >= 0
    shell: Array  # [V, 3], x >= 0
    side: Array  # [V] +1 subject's left (x > 0), -1 right, 0 midline
    lip_side: Array  # [V] +1 above the seam, -1 below
    lip_coordinate: Array  # [V] 0 at the slit's edge, mm at the middle of the mouth
    eye: EyeCoordinates

    @property
    def x(self) -> Array:
        return self.position[:, 0]

    @property
    def y(self) -> Array:
        return self.position[:, 1]

    @property
    def z(self) -> Array:
        return self.position[:, 2]


def face_coordinates(domain: Array, side: Array) -> FaceCoordinates:
    """Evaluate everything for vertices given by half-domain points [V, 2] and sides [V]."""
    shell = shell_map.base_shell(domain)
    position = surface.sculpt(domain)
    position[side == 0.0, 0] = 0.0  # exactly; the features' mirror images cancel only up to rounding
    eye = eyes.eye_coordinates(position[:, 0], position[:, 1])
    lip_side, lip_coordinate = mouth.lip_coordinate(shell[:, 0], shell[:, 1])
    mirror = np.stack([np.where(side < 0, -1.0, 1.0), np.ones_like(side), np.ones_like(side)], axis=1)
    return FaceCoordinates(position * mirror, domain, shell, side, lip_side, lip_coordinate, eye)


def handles(face: FaceCoordinates, table: Sequence[Handle], mirror: float = 1.0) -> Array:
    """Sum of Gaussian displacements [V, 3]; a handle off the midline has a mirror image.

    mirror = 1 makes the field symmetric, -1 antisymmetric (mirror image subtracted), 0 one-sided.
    """
    rows = np.array(table)
    if mirror != 0.0:
        rows = np.concatenate([rows, shell_map.mirrored_rows(rows, mirror)])
    return shell_map.gaussian_sum(face.position, rows)


def half_weight(face: FaceCoordinates, side: float, width: float = 9.0) -> Array:
    """Weight [V] of one side: 1 there, 0 on the other, smooth over the midline; the two sides sum to 1."""
    return shell_map.smoothstep(-width, width, side * face.x)


def jaw_weight(face: FaceCoordinates) -> Array:
    """How far each vertex follows the lower jaw, [V] in [0, 1]; jumps only across the slit between the lips.

    Around the end of the slit it is the opening mode of a crack, 1/2 - sqrt(r) sin(phi / 2) / 2, which is the smoothest
    field with two values on the two lips; phi = 0 points to the ear.
    """
    x = face.shell[:, 0]
    dx = x - mouth.MOUTH_HALF_WIDTH
    dy = face.shell[:, 1] - mouth.seam_height(x)
    radius = np.minimum(np.hypot(dx, dy) / 24.0, 1.0)
    lower = 0.5 - 0.5 * np.sqrt(radius) * np.sin(0.5 * np.arctan2(dy, dx))
    return shell_map.smoothstep(0.06, 0.94, lower)


def rotation_about_x(face: FaceCoordinates, pivot_y: float, pivot_z: float, degrees: float) -> Array:
    """Displacement [V, 3] of a rotation about a left-right axis; positive degrees open the jaw (chin down and back)."""
    angle = np.deg2rad(degrees)
    dy, dz = face.y - pivot_y, face.z - pivot_z
    new_y = np.cos(angle) * dy - np.sin(angle) * dz
    new_z = np.sin(angle) * dy + np.cos(angle) * dz
    return np.stack([np.zeros_like(dy), new_y - dy, new_z - dz], axis=1)


def lid_motion(face: FaceCoordinates, upper_mm: float | None, lower_mm: float | None) -> Array:
    """Displacement [V, 3] of the lids over the eyeballs: margins move by these heights at the middle of the opening.

    None closes: the two lids meet 85 % of the way down. Lids that narrow the opening (upper_mm < 0) slide over an
    eyeball that stays; lids that widen it stretch what lies between them, which has no hidden part to uncover.
    """
    eye = face.eye
    top, depth = eyes.lid_heights(eye.along)
    bottom, gap = -depth, top + depth
    share = gap / (eyes.LID_HEIGHT_UPPER + eyes.LID_HEIGHT_LOWER)
    move_top = -0.85 * gap if upper_mm is None else upper_mm * share
    move_bottom = 0.15 * gap if lower_mm is None else lower_mm * share
    across = np.clip((eye.above - bottom) / np.maximum(gap, 1e-6), 0.0, 1.0)
    # Soft blend of the two lids' motion beyond the corners, where the opening has no height.
    across = np.where(np.abs(eye.along) < 1.0, across, shell_map.smoothstep(-2.0, 2.0, eye.above))
    beyond = np.maximum(eye.outside, 0.0)
    reach_top = 1.0 - shell_map.smoothstep(0.0, 12.0, beyond)
    reach_bottom = 1.0 - shell_map.smoothstep(0.0, 9.0, beyond)
    dy = across * reach_top * move_top + (1.0 - across) * reach_bottom * move_bottom
    x = np.abs(face.x)
    near = np.exp(-((beyond / 9.0) ** 4))
    if upper_mm is None or upper_mm < 0.0:
        # The lids with their edges; what lies inside the edge folds away behind the lid.
        skin = shell_map.smoothstep(-2.5 * eyes.LID_EDGE, -1.01 * eyes.LID_EDGE, eye.outside)
        dy = skin * np.where(across > 0.5, reach_top * move_top, reach_bottom * move_bottom)
    dz = near * (eyes.eyeball_depth(x, face.y + dy) - eyes.eyeball_depth(x, face.y))
    return np.stack([np.zeros_like(dy), dy, dz], axis=1)
