"""vertex_normals: facecore, the plain PyTorch definition, and that definition through torch.compile."""

from __future__ import annotations

import torch
from grid import bent_grid
from harness import Suite, compiled

from facecore import ops, reference


def make_inputs(
    device: torch.device, generator: torch.Generator, *, images: int, rows: int, columns: int
) -> tuple[torch.Tensor, ...]:
    """A bent grid, each vertex moved by up to a hundredth of a mm, differently in each image."""
    mesh = bent_grid(rows, columns)
    vertices = mesh.vertices + 0.01 * torch.rand(images, rows * columns, 3, generator=generator)
    return vertices.to(device).requires_grad_(), mesh.triangles.to(device)


suite = Suite(
    op="vertex_normals",
    providers={
        "facecore": ops.vertex_normals,
        "reference": reference.vertex_normals,
        "torch.compile": compiled(reference.vertex_normals),
    },
    cases={
        "face_5k_b1": {"images": 1, "rows": 71, "columns": 71},
        "face_5k_b8": {"images": 8, "rows": 71, "columns": 71},
        "face_37k_b1": {"images": 1, "rows": 193, "columns": 193},
        "face_37k_b8": {"images": 8, "rows": 193, "columns": 193},
    },
    make_inputs=make_inputs,
)
bench_vertex_normals = suite.benchmark()
