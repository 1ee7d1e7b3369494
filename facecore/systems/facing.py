"""Reconstructions that look straight ahead, of systems that estimate neither pose nor light."""

from __future__ import annotations

import torch

from facecore.data.renders import framed_pose
from facecore.render import WeakPerspectiveCamera
from facecore.systems.reconstruction import Reconstruction
from facecore.systems.refinement import typical_light


def facing_reconstruction(
    vertices: torch.Tensor,
    neutral_vertices: torch.Tensor,
    albedo: torch.Tensor,
    codes: dict[str, torch.Tensor],
    *,
    triangles: torch.Tensor,
    landmarks68: torch.Tensor,
    size: int,
) -> Reconstruction:
    """Faces in the middle of crops of size x size, framed by their own landmarks, in typical light; see Reconstruction.

    Raises ValueError when the sizes do not agree.
    """
    n = len(vertices)
    nothing = vertices.new_zeros(n, 3)
    pose = framed_pose(nothing, vertices[:, landmarks68], nothing[:, 0] + 1, nothing[:, :2])
    return Reconstruction(
        vertices=vertices,
        neutral_vertices=neutral_vertices,
        triangles=triangles,
        albedo=albedo,
        camera=WeakPerspectiveCamera.from_pose(pose, size, size),
        pose=pose,
        sh_coefficients=typical_light(vertices.new_zeros(n, 9, 3)),
        codes=codes,
        landmarks68=landmarks68,
    )
