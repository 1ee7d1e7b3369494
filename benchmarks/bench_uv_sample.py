"""uv_sample: facecore, the plain PyTorch definition, and grid_sample, eager and compiled."""

from __future__ import annotations

import torch
from harness import Suite, compiled

from facecore import ops, reference


def with_grid_sample(texture: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
    grid = torch.stack((2 * uv[..., 0] - 1, 1 - 2 * uv[..., 1]), -1)
    grid = grid if uv.ndim == 4 else grid.unsqueeze(2)
    colors = torch.nn.functional.grid_sample(texture, grid, padding_mode="border", align_corners=False)
    return colors.permute(0, 2, 3, 1) if uv.ndim == 4 else colors.squeeze(3).transpose(1, 2)


def make_inputs(
    device: torch.device,
    generator: torch.Generator,
    *,
    images: int,
    channels: int,
    texels: int,
    rows: int,
    columns: int,
) -> tuple[torch.Tensor, ...]:
    """A picture of rows x columns (columns 0: rows vertices) that shows most of the texture, a little jittered."""
    texture = torch.rand(images, channels, texels, texels, generator=generator)
    side = rows if columns else round(rows**0.5)
    v, u = torch.meshgrid(torch.linspace(0.9, 0.1, side), torch.linspace(0.1, 0.9, columns or side), indexing="ij")
    uv = torch.stack((u, v), -1).expand(images, -1, -1, -1)
    uv = uv + 0.002 * torch.rand(uv.shape, generator=generator)
    uv = uv if columns else uv.reshape(images, -1, 2)
    return texture.to(device).requires_grad_(), uv.contiguous().to(device).requires_grad_()


suite = Suite(
    op="uv_sample",
    providers={
        "facecore": ops.uv_sample,
        "reference": reference.uv_sample,
        "grid_sample": with_grid_sample,
        "compiled": compiled(with_grid_sample),
    },
    cases={
        "picture_224_b1": {"images": 1, "channels": 3, "texels": 256, "rows": 224, "columns": 224},
        "picture_224_b8": {"images": 8, "channels": 3, "texels": 256, "rows": 224, "columns": 224},
        "vertices_37k_b8": {"images": 8, "channels": 3, "texels": 256, "rows": 37249, "columns": 0},
    },
    make_inputs=make_inputs,
)
bench_uv_sample = suite.benchmark()
