"""vertex_normals: facecore, its definition, what people write in PyTorch, eager and through torch.compile, and kaolin.

pytorch3d is no peer: it weighs the triangles by their area, facecore does not (METHODS 1.5).
"""

from __future__ import annotations

import peers
import torch
from grid import bent_grid
from harness import Suite, compiled, peer

from facecore import ops, reference


def eager(vertices: torch.Tensor, triangles: torch.Tensor) -> torch.Tensor:
    """Without the definition's care for degenerate triangles."""
    index = triangles.long()
    a, b, c = vertices[:, index].unbind(2)
    unit = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
    total = torch.zeros_like(vertices)
    for corner in range(3):
        total = total.index_add(1, index[:, corner], unit)
    return torch.nn.functional.normalize(total, dim=-1)


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
        "eager": eager,
        "torch.compile": compiled(eager),
        "kaolin": peer("kaolin", peers.vertex_normals_kaolin),
    },
    cases={
        f"{name}_b{images}": {"images": images, "rows": side, "columns": side}
        for name, side in (("face_5k", 71), ("face_37k", 193))
        for images in (1, 8, 32)
    },
    make_inputs=make_inputs,
    quick=("face_5k_b1", "face_37k_b1", "face_37k_b8"),
)
bench_vertex_normals = suite.benchmark()
