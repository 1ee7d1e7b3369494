"""A cap of a ball and quads with their UV tables: what the tests of uv_unwrap share."""

from __future__ import annotations

import torch
from meshes import sphere

from facecore import ops
from facecore.mesh import Mesh, build_uv_map

SHAPES = {  # images, channels, height, width of the pictures, texture size
    "typical": (2, 3, 30, 28, (40, 36)),
    "one_pixel": (1, 1, 1, 1, (1, 1)),
    "odd": (3, 5, 7, 9, (11, 13)),
    "no_channels": (2, 0, 7, 9, (11, 13)),
    "empty_batch": (0, 3, 7, 9, (11, 13)),
    "empty_picture": (2, 3, 0, 9, (11, 13)),
}


def cap():
    """The front of a ball of radius 100 that its cylinder layout does not fold."""
    ball = sphere(2)
    kept = (ball.vertices[:, 2] > -20)[ball.triangles.long()].all(1)
    return Mesh(ball.vertices, ball.triangles[kept])


def clip(vertices, images, *, perspective=True):
    """Clip coordinates of `images` views, each turned and scaled differently; w from 0.6 to 1.4 with perspective."""
    angle = torch.linspace(-0.9, 1.1, images, dtype=torch.float64).view(-1, 1)
    x, y, z = (vertices.double() / 110).expand(images, -1, -1).unbind(-1)
    x, z = angle.cos() * x + angle.sin() * z, angle.cos() * z - angle.sin() * x
    w = 1 - 0.4 * z if perspective else torch.ones_like(z)
    return torch.stack((1.05 * x, 1.1 * y + 0.1, -0.7 * z * w, w), -1)


def make_inputs(device, dtype, images, channels, height, width, texture):
    """Self-occlusion by a second surface before the first: the mesh shifted and squeezed within the same vertices."""
    mesh = cap()
    uv_map = build_uv_map(mesh, *texture).to(device, dtype)
    generator = torch.Generator().manual_seed(5)
    vertices = clip(mesh.vertices, images)
    vertices[..., :3] += 0.02 * torch.randn(vertices[..., :3].shape, generator=generator, dtype=torch.float64)
    vertices = vertices.to(device, dtype).requires_grad_()
    image = torch.randn(images, channels, height, width, generator=generator, dtype=torch.float64)
    fragments = ops.rasterize(vertices.detach(), uv_map.triangles, height, width)
    return image.to(device, dtype).requires_grad_(), vertices, uv_map, fragments


def quads(*depths, width=1.0):
    """Squares that fill the picture at z_ndc = depths, side by side in the layout, counter-clockwise."""
    corner = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    points = [torch.cat((corner * width, torch.full((4, 1), z), torch.ones(4, 1)), 1) for z in depths]
    layout = (corner + 1) / 2
    uv = [torch.stack(((layout[:, 0] + k) / len(depths), layout[:, 1]), 1) for k in range(len(depths))]
    triangles = torch.tensor([[0, 1, 2], [0, 2, 3]])
    mesh = Mesh(torch.cat(points)[:, :3], torch.cat([triangles + 4 * k for k in range(len(depths))]), fix_winding=False)
    return mesh, torch.cat(uv), torch.cat(points).unsqueeze(0)
