"""Every operator twice under torch.use_deterministic_algorithms(True): results and derivatives have the same bits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
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
    uv_map = build_uv_map(Mesh(points, triangles, fix_winding=False), SIZE, SIZE, uv=0.5 * points[:, :2] + 0.5)
    fragments = ops.rasterize(vertices, triangles, SIZE, SIZE)

    def function(image: torch.Tensor, vertices_clip: torch.Tensor) -> torch.Tensor:
        return ops.uv_unwrap(image, vertices_clip, uv_map, fragments)[0]

    return function, (random(2, 3, SIZE, SIZE).to(device), vertices)


def uv_sample(device: torch.device) -> tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]:
    return ops.uv_sample, (random(2, 3, 20, 30).to(device), random(2, SIZE, SIZE, 2).sigmoid().to(device))


OPERATORS = (chebyshev_conv, interpolate, rasterize, sh_shading, sparse_matmul, uv_sample, uv_unwrap, vertex_normals)
CASES = {f.__name__: f for f in OPERATORS}
ONCE_DIFFERENTIABLE = (uv_sample, uv_unwrap)


def test_every_operator_has_a_case():
    assert sorted(CASES) == sorted(ops.__all__)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_two_runs_give_the_same_bits(device, deterministic, case):
    function, inputs = case(device)
    runs = []
    for _ in range(2):
        leaves = [x.clone().requires_grad_() for x in inputs]
        out = function(*leaves)
        twice = case not in ONCE_DIFFERENTIABLE
        grads = torch.autograd.grad(out.pow(3).sum(), leaves, create_graph=twice)
        second = torch.autograd.grad(sum(g.pow(2).sum() for g in grads), leaves) if twice else ()
        runs.append((out, *grads, *second))
    assert all(x.abs().max() > 0 for x in runs[0])
    for got, want in zip(*runs):
        assert torch.equal(got, want)
