"""A mesh of any size for the benchmarks of graph and mesh operators: a bent grid, numbered row by row."""

from __future__ import annotations

import torch

from facecore.mesh import Mesh

DISTANCE, NEAR, FAR = 600.0, 400.0, 800.0  # of the camera and its clip planes, mm


def bent_grid(rows: int, columns: int) -> Mesh:
    """rows x columns vertices of a half ellipsoid in mm, two triangles a cell, counter-clockwise seen from outside."""
    latitude = torch.linspace(0.02, torch.pi - 0.02, rows).view(-1, 1)
    longitude = torch.linspace(-1.65, 1.65, columns).view(1, -1)
    height = latitude.cos().expand(rows, columns)
    points = torch.stack(
        (75 * latitude.sin() * longitude.sin(), 100 * height, 80 * latitude.sin() * longitude.cos()), -1
    )
    corner = torch.arange(rows - 1).view(-1, 1) * columns + torch.arange(columns - 1)
    below = corner + columns
    cells = torch.stack((corner, below, corner + 1, corner + 1, below, below + 1), -1)
    return Mesh(points.reshape(-1, 3), cells.reshape(-1, 3))


def to_clip(mesh: Mesh, images: int) -> torch.Tensor:
    """Clip coordinates [images, V, 4] of a head in its crop: turned by up to 40 degrees to either side, in perspective,
    as high as 5/6 of the picture."""
    angle = torch.linspace(-0.7, 0.7, images) if images > 1 else torch.tensor([0.4])
    sine, cosine = angle.sin().unsqueeze(1), angle.cos().unsqueeze(1)
    x, y, z = mesh.vertices.expand(images, -1, -1).unbind(-1)
    w = DISTANCE - (cosine * z - sine * x)
    depth = ((FAR + NEAR) * w - 2 * FAR * NEAR) / (FAR - NEAR)
    return torch.stack((5 * (cosine * x + sine * z), 5 * y, depth, w), -1)
