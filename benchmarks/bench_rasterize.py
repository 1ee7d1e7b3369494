"""rasterize: facecore and its definition in plain PyTorch (timed on a coarse mesh only), nvdiffrast where installed.

The mesh is a bent half ellipsoid with the vertex count, triangle count and screen coverage of a face in its crop.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from harness import Suite, peer

from facecore import ops, reference


def make_inputs(
    device: torch.device, generator: torch.Generator, *, images: int, rows: int, columns: int, height: int, width: int
) -> tuple[Any, ...]:
    """rows x columns vertices in clip space (w = 1), each image moved a little, and their triangles."""
    latitude = torch.linspace(0.02, math.pi - 0.02, rows).view(-1, 1)
    longitude = torch.linspace(-1.65, 1.65, columns).view(1, -1)
    x, y = 0.62 * latitude.sin() * longitude.sin(), 0.85 * latitude.cos().expand(rows, columns)
    z = latitude.sin() * longitude.cos() + 0.15 * torch.exp(-((x / 0.1) ** 2) - (y / 0.25) ** 2)  # a nose
    vertices = torch.stack((x, y, -0.4 * z, torch.ones_like(z)), -1).reshape(1, -1, 4).repeat(images, 1, 1)
    vertices[..., :2] += 0.05 * torch.rand(images, 1, 2, generator=generator)
    corner = torch.arange(rows - 1).view(-1, 1) * columns + torch.arange(columns - 1)
    below = corner + columns
    cells = torch.stack((corner, below, corner + 1, corner + 1, below, below + 1), -1)
    return vertices.to(device).requires_grad_(), cells.reshape(-1, 3).int().to(device), height, width


def definition(vertices_clip: torch.Tensor, triangles: torch.Tensor, height: int, width: int) -> Any:
    if triangles.shape[0] > 2000:
        pytest.skip("the definition passes over the picture once per triangle: timed on the coarse case only")
    return reference.rasterize(vertices_clip, triangles, height, width)


def nvdiffrast() -> Callable[..., Any]:
    """Its barycentrics are (u, v) of the first two corners; the third makes them comparable. CUDA only."""
    import nvdiffrast.torch

    context = nvdiffrast.torch.RasterizeCudaContext()

    def rasterize(vertices_clip: torch.Tensor, triangles: torch.Tensor, height: int, width: int) -> Any:
        out, _ = nvdiffrast.torch.rasterize(context, vertices_clip, triangles, (height, width), grad_db=False)
        u, v, triangle_id = out[..., 0].flip(1), out[..., 1].flip(1), out[..., 3].flip(1).int() - 1
        third = torch.where(triangle_id >= 0, 1 - u - v, torch.zeros_like(u))
        return triangle_id, torch.stack((u, v, third), -1), out[..., 2].flip(1)

    return rasterize


def agree(got: Any, expected: Any) -> torch.Tensor:
    """The same triangle at 99 % of pixels (rasterizers differ at edges), and there the same barycentrics.

    Returns where, [N, H, W, 1]: the gradients are compared there.
    """
    same = got[0] == expected[0]
    assert same.float().mean() > 0.99, f"triangle ids differ at {(~same).sum().item()} pixels"
    torch.testing.assert_close(got[1][same], expected[1][same], rtol=0, atol=1e-2)
    return same.unsqueeze(-1)


suite = Suite(
    op="rasterize",
    providers={
        "facecore": ops.rasterize,
        "reference": definition,
        "nvdiffrast": peer("nvdiffrast.torch", nvdiffrast),
    },
    cases={
        "coarse_b1": {"images": 1, "rows": 20, "columns": 20, "height": 64, "width": 64},
        "face_5k_b1": {"images": 1, "rows": 71, "columns": 71, "height": 224, "width": 224},
        "face_5k_b8": {"images": 8, "rows": 71, "columns": 71, "height": 224, "width": 224},
        "face_37k_b1": {"images": 1, "rows": 193, "columns": 193, "height": 224, "width": 224},
        "face_37k_b8": {"images": 8, "rows": 193, "columns": 193, "height": 224, "width": 224},
        "face_37k_b32": {"images": 32, "rows": 193, "columns": 193, "height": 224, "width": 224},
        "face_37k_256_b1": {"images": 1, "rows": 193, "columns": 193, "height": 256, "width": 256},
        "face_37k_512_b1": {"images": 1, "rows": 193, "columns": 193, "height": 512, "width": 512},
    },
    make_inputs=make_inputs,
    check_sizes={"images": 1, "rows": 20, "columns": 20, "height": 64, "width": 64},
    agree=agree,
)
bench_rasterize = suite.benchmark()
