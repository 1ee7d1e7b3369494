"""A small reconstruction with known geometry, for tests of what is done with reconstructions."""

from __future__ import annotations

import torch
import trimesh

from facecore.render import PerspectiveCamera, WeakPerspectiveCamera
from facecore.systems.reconstruction import Reconstruction

SIZE = 64  # of the crop, pixels


def make_face(count: int = 1, *, perspective: bool = False, seed: int = 0) -> Reconstruction:
    """`count` ellipsoids, 140 x 190 x 160 mm, each with its own pose; vertex i of landmarks68 is a face-side vertex."""
    generator = torch.Generator().manual_seed(seed)
    sphere = trimesh.creation.icosphere(subdivisions=3)
    unit = torch.tensor(sphere.vertices, dtype=torch.float32)
    vertices = (unit * torch.tensor([70.0, 95.0, 80.0])).expand(count, -1, -1).contiguous()
    front = torch.argsort(unit[:, 2], descending=True)[:68]
    pose = torch.randn(count, 6, generator=generator) * torch.tensor([0.1, 0.2, 0.1, 0.05, 0.05, 0.05])
    light = torch.zeros(count, 9, 3)
    light[:, 0], light[:, 2] = 0.6, 0.25
    camera = WeakPerspectiveCamera.from_pose(pose, SIZE, SIZE)
    if perspective:
        camera = PerspectiveCamera.from_pose(pose[:, :3], 20 * pose[:, 3:], SIZE, SIZE, focal=290.0)
    return Reconstruction(
        vertices=vertices,
        neutral_vertices=vertices * 0.98,
        triangles=torch.tensor(sphere.faces, dtype=torch.int32),
        albedo=(0.5 + 0.4 * unit).expand(count, -1, -1).contiguous(),
        camera=camera,
        pose=pose,
        sh_coefficients=light,
        codes={"identity": torch.randn(count, 5, generator=generator), "expression": torch.zeros(count, 3)},
        landmarks68=front,
    )
