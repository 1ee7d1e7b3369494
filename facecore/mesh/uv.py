"""Texture coordinates of a face region by unwrapping it on a cylinder (METHODS 1.9)."""

from __future__ import annotations

import torch

from facecore.mesh.mesh import Mesh


def cylindrical_uv(mesh: Mesh) -> torch.Tensor:
    """Cylindrical texture coordinates of a face region in the object frame: float32 [V, 2] in [0, 1], v upwards.

    theta = atan2(x, z - min z), u = 1/2 + theta / (2 max|theta|), v = (y - min y) / (max y - min y). The axis is
    vertical through x = 0, the plane of symmetry, at the depth of the rearmost vertex; mirrored vertices have
    mirrored u. A whole head would fold over itself: crop it first. Deterministic. Raises ValueError for a mesh
    without height or width.
    """
    x, y, z = mesh.vertices.double().unbind(1)
    angle = torch.atan2(x, z - z.min())
    widest, height = angle.abs().max(), y.max() - y.min()
    if widest == 0 or height == 0:
        raise ValueError("mesh must extend in x and y to be unwrapped on a cylinder; check its axes (y up, z forward)")
    return torch.stack([0.5 + angle / (2.0 * widest), (y - y.min()) / height], dim=1).float()
