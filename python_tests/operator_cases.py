"""One case of every operator: what the tests of devices, streams and determinism run. Random scenes for rasterize."""

from __future__ import annotations

import math
from collections.abc import Callable

import scipy.sparse
import torch

from facecore import ops
from facecore.mesh import Mesh, build_uv_map
from facecore.structures import SparseMatrix

SIZE = 48  # pixels a side


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def sheet(device: torch.device, rows: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """A bent grid in clip space, [2, V, 4]: many pixels to a triangle, six triangles to a vertex."""
    v, u = torch.meshgrid(torch.linspace(-0.9, 0.9, rows), torch.linspace(-0.9, 0.9, rows), indexing="ij")
    vertices = torch.stack((u, v, 0.4 * torch.sin(5 * u), torch.ones_like(u)), -1).reshape(1, -1, 4)
    corner = torch.arange(rows - 1).view(-1, 1) * rows + torch.arange(rows - 1)
    cells = torch.stack((corner, corner + rows, corner + 1, corner + 1, corner + rows, corner + rows + 1), -1)
    both = torch.cat((vertices, vertices * torch.tensor([0.8, 0.7, 1.0, 1.0])))
    return both.to(device), cells.reshape(-1, 3).int().to(device)


def matrix(device: torch.device) -> SparseMatrix:
    return SparseMatrix.from_scipy(scipy.sparse.random(300, 300, 0.02, random_state=5) * 0.2).to(device)


def rasterize(device: torch.device) -> tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]:
    vertices, triangles = sheet(device)
    return (lambda v: ops.rasterize(v, triangles, SIZE, SIZE).barycentric), (vertices,)


def interpolate(device: torch.device) -> tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]:
    vertices, triangles = sheet(device)
    fragments = ops.rasterize(vertices, triangles, SIZE, SIZE)

    def function(attributes: torch.Tensor, barycentric: torch.Tensor) -> torch.Tensor:
        return ops.interpolate(attributes, triangles, fragments.triangle_id, barycentric)

    return function, (random(2, vertices.shape[1], 3).to(device), fragments.barycentric)


def vertex_normals(device: torch.device) -> tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]:
    vertices, triangles = sheet(device)
    return (lambda v: ops.vertex_normals(v, triangles)), (vertices[..., :3].contiguous(),)


def sh_shading(device: torch.device) -> tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]:
    return ops.sh_shading, (random(2, SIZE, SIZE, 3).to(device), random(2, 9, 3).to(device))


def sparse_matmul(device: torch.device) -> tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]:
    constant = matrix(device)
    return (lambda x: ops.sparse_matmul(constant, x)), (random(2, 300, 9).to(device),)


def chebyshev_conv(device: torch.device) -> tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]:
    laplacian = matrix(device)
    inputs = (random(2, 300, 8), random(4, 8, 5) * 0.2, random(5))
    return (lambda x, weight, bias: ops.chebyshev_conv(x, laplacian, weight, bias)), tuple(x.to(device) for x in inputs)


def uv_unwrap(device: torch.device) -> tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]:
    vertices, triangles = sheet(device)
    points, triangles = vertices[0, :, :3], triangles[:, [0, 2, 1]].contiguous()  # counter-clockwise on the screen
    # no texel's centre falls on a pixel's, where the gradient jumps and rounding would decide
    uv_map = build_uv_map(Mesh(points, triangles, fix_winding=False), 41, 53, uv=0.5 * points[:, :2] + 0.5)
    fragments = ops.rasterize(vertices, triangles, SIZE, SIZE)

    def function(image: torch.Tensor, vertices_clip: torch.Tensor) -> torch.Tensor:
        return ops.uv_unwrap(image, vertices_clip, uv_map, fragments)[0]

    return function, (random(2, 3, SIZE, SIZE).to(device), vertices)


def uv_sample(device: torch.device) -> tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]:
    return ops.uv_sample, (random(2, 3, 20, 30).to(device), random(2, SIZE, SIZE, 2).sigmoid().to(device))


OPERATORS = (chebyshev_conv, interpolate, rasterize, sh_shading, sparse_matmul, uv_sample, uv_unwrap, vertex_normals)
CASES = {f.__name__: f for f in OPERATORS}
ONCE_DIFFERENTIABLE = (uv_sample, uv_unwrap)


# --- scenes for rasterize --------------------------------------------------------------------------------------------

HOSTILE = (math.nan, math.inf, -math.inf, 0.0, 1e38, -1e30, 1e-42)


def random_scene(seed: int) -> tuple[torch.Tensor, torch.Tensor, int, int, bool]:
    """Arguments of rasterize: large and tiny triangles, w of one or both signs, vertices that are not finite, indices
    that are not vertices, both dtypes, any size of picture."""
    generator = torch.Generator().manual_seed(seed)

    def below(end: int) -> int:
        return int(torch.randint(0, end, (1,), generator=generator))

    n, v, t, height, width = 1 + below(3), 3 + below(60), 1 + below(300), 1 + below(140), 1 + below(140)
    vertices = torch.randn(n, v, 4, generator=generator, dtype=torch.float64)
    vertices[..., :2] *= (0.05, 0.8, 30.0)[below(3)]
    w = torch.rand(n, v, generator=generator, dtype=torch.float64)
    vertices[..., 3] = (torch.ones_like(w), 0.5 + w, 3 * w - 1)[below(3)]
    if below(2):  # on a coarse grid: edges through pixel centres, equal depths
        vertices = (vertices * 8).round() / 8
    triangles = torch.randint(0, v, (t, 3), generator=generator).int()
    if below(3) == 0:
        for _ in range(4):
            vertices.view(-1)[below(vertices.numel())] = HOSTILE[below(len(HOSTILE))]
            triangles.view(-1)[below(triangles.numel())] = (-1, v, 2**31 - 1)[below(3)]
    return vertices.to((torch.float32, torch.float64)[below(2)]), triangles, height, width, bool(below(2))


def face_scene(seed: int, images: int, rows: int) -> tuple[torch.Tensor, torch.Tensor, int, int, bool]:
    """A bent half ellipsoid of rows^2 vertices, each image in another pose, in perspective, in a 224x224 picture."""
    generator = torch.Generator().manual_seed(seed)
    latitude = torch.linspace(0.02, math.pi - 0.02, rows).view(-1, 1)
    longitude = torch.linspace(-1.65, 1.65, rows).view(1, -1)
    x, y = latitude.sin() * longitude.sin(), 1.3 * latitude.cos().expand(rows, rows)
    points = torch.stack((x, y, latitude.sin() * longitude.cos()), -1).reshape(1, -1, 3)
    angle = 1.2 * torch.rand(images, 1, generator=generator) - 0.6
    cosine, sine = angle.cos(), angle.sin()
    depth = 4 - (cosine * points[..., 2] - sine * points[..., 0])
    side = cosine * points[..., 0] + sine * points[..., 2]
    vertices = torch.stack((2.4 * side, 2.4 * points[..., 1].expand_as(side), 2 * (depth - 4), depth), -1)
    corner = torch.arange(rows - 1).view(-1, 1) * rows + torch.arange(rows - 1)
    cells = torch.stack((corner, corner + rows, corner + 1, corner + 1, corner + rows, corner + rows + 1), -1)
    return vertices, cells.reshape(-1, 3).int(), 224, 224, bool(seed % 2)
