"""One case of every operator: what the tests of devices, streams and determinism run. Random scenes for rasterize.

python operator_cases.py [DEVICE]: every kernel once on small cases; for compute-sanitizer (benchmarks/gpu_check.sh).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import scipy.sparse
import torch

from facecore import ops
from facecore.mesh import Mesh, build_uv_map
from facecore.structures import SparseMatrix

SIZE = 48  # pixels a side
F32 = torch.float32
Case = tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]  # a function and what it is differentiated by


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def sheet(device: torch.device, dtype: torch.dtype, rows: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """A bent grid in clip space, [2, V, 4]: many pixels to a triangle, six triangles to a vertex."""
    v, u = torch.meshgrid(torch.linspace(-0.9, 0.9, rows), torch.linspace(-0.9, 0.9, rows), indexing="ij")
    vertices = torch.stack((u, v, 0.4 * torch.sin(5 * u), torch.ones_like(u)), -1).reshape(1, -1, 4)
    corner = torch.arange(rows - 1).view(-1, 1) * rows + torch.arange(rows - 1)
    cells = torch.stack((corner, corner + rows, corner + 1, corner + 1, corner + rows, corner + rows + 1), -1)
    both = torch.cat((vertices, vertices * torch.tensor([0.8, 0.7, 1.0, 1.0])))
    return both.to(device, dtype), cells.reshape(-1, 3).int().to(device)


def matrix(device: torch.device, dtype: torch.dtype) -> SparseMatrix:
    return SparseMatrix.from_scipy(scipy.sparse.random(300, 300, 0.02, random_state=5) * 0.2).to(device, dtype)


def rasterize(device: torch.device, dtype: torch.dtype = F32) -> Case:
    vertices, triangles = sheet(device, dtype)
    return (lambda v: ops.rasterize(v, triangles, SIZE, SIZE).barycentric), (vertices,)


def interpolate(device: torch.device, dtype: torch.dtype = F32) -> Case:
    vertices, triangles = sheet(device, dtype)
    fragments = ops.rasterize(vertices, triangles, SIZE, SIZE)

    def function(attributes: torch.Tensor, barycentric: torch.Tensor) -> torch.Tensor:
        return ops.interpolate(attributes, triangles, fragments.triangle_id, barycentric)

    return function, (random(2, vertices.shape[1], 3).to(device, dtype), fragments.barycentric)


def vertex_normals(device: torch.device, dtype: torch.dtype = F32) -> Case:
    vertices, triangles = sheet(device, dtype)
    return (lambda v: ops.vertex_normals(v, triangles)), (vertices[..., :3].contiguous(),)


def sh_shading(device: torch.device, dtype: torch.dtype = F32) -> Case:
    return ops.sh_shading, (random(2, SIZE, SIZE, 3).to(device, dtype), random(2, 9, 3).to(device, dtype))


def surface_shading(device: torch.device, dtype: torch.dtype = F32) -> Case:
    normals, albedo = random(2, SIZE, SIZE, 3).to(device, dtype), random(2, SIZE, SIZE, 3).to(device, dtype)
    return (lambda *a: torch.cat(ops.surface_shading(*a), -1)), (normals, albedo, random(2, 9, 3).to(device, dtype))


def sparse_matmul(device: torch.device, dtype: torch.dtype = F32) -> Case:
    constant = matrix(device, dtype)
    return (lambda x: ops.sparse_matmul(constant, x)), (random(2, 300, 9).to(device, dtype),)


def chebyshev_conv(device: torch.device, dtype: torch.dtype = F32) -> Case:
    laplacian = matrix(device, dtype)
    inputs = tuple(x.to(device, dtype) for x in (random(2, 300, 8), random(4, 8, 5) * 0.2, random(5)))
    return (lambda x, weight, bias: ops.chebyshev_conv(x, laplacian, weight, bias)), inputs


def uv_unwrap(device: torch.device, dtype: torch.dtype = F32) -> Case:
    vertices, triangles = sheet(device, dtype)
    points, triangles = vertices[0, :, :3], triangles[:, [0, 2, 1]].contiguous()  # counter-clockwise on the screen
    # no texel's centre falls on a pixel's, where the gradient jumps and rounding would decide
    uv_map = build_uv_map(Mesh(points, triangles, fix_winding=False), 41, 53, uv=0.5 * points[:, :2] + 0.5)
    uv_map = uv_map.to(device, dtype)
    fragments = ops.rasterize(vertices, triangles, SIZE, SIZE)

    def function(image: torch.Tensor, vertices_clip: torch.Tensor) -> torch.Tensor:
        return ops.uv_unwrap(image, vertices_clip, uv_map, fragments)[0]

    return function, (random(2, 3, SIZE, SIZE).to(device, dtype), vertices)


def uv_sample(device: torch.device, dtype: torch.dtype = F32) -> Case:
    return ops.uv_sample, (random(2, 3, 20, 30).to(device, dtype), random(2, SIZE, SIZE, 2).sigmoid().to(device, dtype))


OPERATORS = (
    chebyshev_conv,
    interpolate,
    rasterize,
    sh_shading,
    sparse_matmul,
    surface_shading,
    uv_sample,
    uv_unwrap,
    vertex_normals,
)
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


# --- every kernel once -----------------------------------------------------------------------------------------------


def run_every_kernel(device: torch.device) -> None:
    """Forward and gradients in both dtypes, with atomics and gathered."""
    for deterministic in (False, True):
        torch.use_deterministic_algorithms(deterministic)
        for dtype in (torch.float32, torch.float64):
            for case in OPERATORS:
                function, inputs = case(device, dtype)
                leaves = [x.clone().requires_grad_() for x in inputs]
                torch.autograd.grad(function(*leaves).pow(3).sum(), leaves)
        for seed in range(8):
            vertices, triangles, height, width, cull = random_scene(seed)
            leaf = vertices.to(device).requires_grad_()
            fragments = ops.rasterize(leaf, triangles.to(device), height, width, cull_backfaces=cull)
            torch.autograd.grad(fragments.barycentric.square().sum(), leaf)
    torch.use_deterministic_algorithms(False)


if __name__ == "__main__":
    run_every_kernel(torch.device(sys.argv[1] if len(sys.argv) > 1 else "cuda"))
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    print("done")
