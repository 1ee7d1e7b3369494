"""Euler angles and rotation matrices, in the one order that facecore uses: R = Rz(roll) Ry(yaw) Rx(pitch)."""

from __future__ import annotations

import torch

from facecore.ops._library import check_tensor


def euler_to_matrix(angles: torch.Tensor) -> torch.Tensor:
    """Returns the rotation matrices of pitch, yaw, roll: [N, 3, 3]; column vectors rotate as s' = R s.

    Args:
        angles: (pitch, yaw, roll) in radians, float32 or float64 [N, 3]. Pitch > 0 looks down, yaw > 0 turns the nose
            to image right, roll > 0 turns the top of the head to image left.

    Differentiable to any order. Deterministic. Raises ValueError for a wrong shape or dtype. METHODS 1.2.
    """
    check_tensor("angles", angles, ("N", 3))
    sin_p, sin_y, sin_r = torch.sin(angles).unbind(-1)
    cos_p, cos_y, cos_r = torch.cos(angles).unbind(-1)
    rows = [
        [cos_r * cos_y, cos_r * sin_y * sin_p - sin_r * cos_p, cos_r * sin_y * cos_p + sin_r * sin_p],
        [sin_r * cos_y, sin_r * sin_y * sin_p + cos_r * cos_p, sin_r * sin_y * cos_p - cos_r * sin_p],
        [-sin_y, cos_y * sin_p, cos_y * cos_p],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def matrix_to_euler(rotation: torch.Tensor) -> torch.Tensor:
    """Returns (pitch, yaw, roll) in radians, [N, 3], of rotation matrices [N, 3, 3]; yaw lies in [-pi/2, pi/2].

    Where cos(yaw) is below the square root of the dtype's precision, pitch and roll turn about the same axis: roll is
    then 0 and pitch carries both. Differentiable; in that degenerate case yaw and roll have gradient 0.
    The matrices are taken to be rotations, this is not checked. Raises ValueError for a wrong shape or dtype.
    METHODS 1.2.
    """
    check_tensor("rotation", rotation, ("N", 3, 3))
    r00, r10, r20 = rotation[:, 0, 0], rotation[:, 1, 0], rotation[:, 2, 0]
    squared = r00 * r00 + r10 * r10  # cos(yaw)^2
    gimbal = squared < torch.finfo(rotation.dtype).eps
    one, zero = torch.ones_like(squared), torch.zeros_like(squared)
    cos_yaw = torch.where(gimbal, zero, torch.sqrt(torch.where(gimbal, one, squared)))
    yaw = torch.atan2(-r20, cos_yaw)  # equals -asin(R20), without its infinite slope at 90 degrees
    # The arguments are replaced where the branch is not taken, because atan2(0, 0) has a NaN gradient.
    pitch = torch.atan2(
        torch.where(gimbal, -rotation[:, 1, 2], rotation[:, 2, 1]),
        torch.where(gimbal, rotation[:, 1, 1], rotation[:, 2, 2]),
    )
    roll = torch.atan2(torch.where(gimbal, zero, r10), torch.where(gimbal, one, r00))
    return torch.stack([pitch, yaw, roll], -1)


def matrix_from_300wlp(angles: torch.Tensor) -> torch.Tensor:
    """Returns the rotations [N, 3, 3] that 300W-LP and 3DDFA files mean by (pitch, yaw, roll), [N, 3] in radians.

    Theirs is Rx(-p) Ry(-y) Rz(-r), the transpose of ours: import this matrix, never the angles, and take
    `matrix_to_euler` of it for facecore's angles. Differentiable. METHODS 1.2.
    """
    return euler_to_matrix(angles).transpose(-1, -2)
