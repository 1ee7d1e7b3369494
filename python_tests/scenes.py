"""Triangles in clip space that the tests of the rasterizer share."""

from __future__ import annotations

import torch
from meshes import sphere

from facecore import ops


def from_pixels(points, height, width, dtype=torch.float64):
    """[V, 3] points (u, v, z_ndc) in pixels, v down: clip coordinates [1, V, 4] with w = 1."""
    u, v, z = torch.tensor(points, dtype=torch.float64).reshape(-1, 3).unbind(-1)
    clip = torch.stack((2 * u / width - 1, 1 - 2 * v / height, z, torch.ones_like(z)), -1)
    return clip.to(dtype).unsqueeze(0)


def indices(*triangles):
    return torch.tensor(triangles, dtype=torch.int32).reshape(-1, 3)


def soup(seed, dtype=torch.float64, *, n=2, t=12, v=20, kind="perspective"):
    """Random triangles: w = 1, w > 0, or w of both signs (then many are clipped)."""
    generator = torch.Generator().manual_seed(seed)
    vertices = torch.randn(n, v, 4, generator=generator, dtype=torch.float64) * 0.8
    w = torch.rand(n, v, generator=generator, dtype=torch.float64)
    vertices[..., 3] = {"affine": torch.ones_like(w), "perspective": 0.5 + w, "any_w": 3 * w - 1}[kind]
    if kind != "any_w":
        vertices[..., 2] = vertices[..., 3] * (1.8 * torch.rand(n, v, generator=generator, dtype=torch.float64) - 0.9)
    triangles = torch.stack([torch.randperm(v, generator=generator)[:3] for _ in range(t)]).int()
    return vertices.to(dtype), triangles


def coverage(vertices, triangles, height, width, **options):
    """How many triangles, each drawn alone, cover each pixel [H, W]."""
    alone = vertices[0, triangles.long()]  # an image per triangle
    first = indices((0, 1, 2)).to(vertices.device)
    return (ops.rasterize(alone, first, height, width, **options).triangle_id >= 0).sum(0)


def winding(vertices, triangles, height, width):
    """How many more triangles cover each pixel from the front than from behind [H, W]."""
    front = coverage(vertices, triangles, height, width, cull_backfaces=True)
    return 2 * front - coverage(vertices, triangles, height, width)


def star(seed, subdivisions, *, scale=1.0):
    """A bumpy closed surface seen from outside, in perspective: clip coordinates [1, V, 4] and triangles.

    Every direction from its centre meets it once, so it does not cut itself.
    """
    generator = torch.Generator().manual_seed(seed)
    mesh = sphere(subdivisions, 1.0)
    points = mesh.vertices.double() * (0.55 + 0.45 * torch.rand(mesh.num_vertices, 1, generator=generator).double())
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    x, y, z = (points @ (turn * turn.det().sign())).unbind(-1)
    w = 2.5 - z
    return torch.stack((2 * scale * x, 2 * scale * y, w - 2.5, w), -1).unsqueeze(0), mesh.triangles


def dense_surface(n=1, rows=90, columns=90, dtype=torch.float32):
    """A bent sheet of 15,842 triangles, more than one pixel wide each, over the whole picture."""
    v, u = torch.meshgrid(torch.linspace(-0.97, 0.97, rows), torch.linspace(-0.9, 0.9, columns), indexing="ij")
    vertices = torch.stack((u, v, 0.4 * torch.sin(5 * u) * torch.cos(4 * v), torch.ones_like(u)), -1).reshape(1, -1, 4)
    vertices = vertices.repeat(n, 1, 1) * torch.linspace(1, 0.7, n).view(n, 1, 1)
    vertices[..., 3] = 1
    i = torch.arange(rows - 1).view(-1, 1) * columns + torch.arange(columns - 1)
    cells = torch.stack((i, i + columns, i + 1, i + 1, i + columns, i + columns + 1), -1).reshape(-1, 3)
    return vertices.to(dtype), cells.int()
