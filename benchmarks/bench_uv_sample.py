"""uv_sample: facecore, the plain PyTorch definition, grid_sample, eager and compiled, and nvdiffrast's texture."""

from __future__ import annotations

import peers
import torch
from eager import sample_bilinear
from harness import Suite, compiled, peer

from facecore import ops, reference


def with_grid_sample(texture: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
    colors = sample_bilinear(texture, 2 * (uv if uv.ndim == 4 else uv.unsqueeze(2)) - 1)
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


TEXTURE = {"channels": 3, "texels": 256}
suite = Suite(
    op="uv_sample",
    providers={
        "facecore": ops.uv_sample,
        "reference": reference.uv_sample,
        "grid_sample": with_grid_sample,
        "torch.compile": compiled(with_grid_sample),
        "nvdiffrast": peer("nvdiffrast.torch", peers.uv_sample_nvdiffrast),
    },
    cases={
        **{
            f"picture_{size}_b{images}": {"images": images, "rows": size, "columns": size} | TEXTURE
            for size, images in ((224, 1), (224, 8), (224, 32), (256, 8), (512, 1), (512, 8))
        },
        "vertices_5k_b8": {"images": 8, "rows": 71 * 71, "columns": 0} | TEXTURE,
        "vertices_37k_b8": {"images": 8, "rows": 193 * 193, "columns": 0} | TEXTURE,
    },
    make_inputs=make_inputs,
    # The gradient in uv jumps at texel centres: among a million places a few are rounded to the other side of one.
    quick=("picture_224_b1", "picture_224_b8"),
    check_sizes={"images": 1, "rows": 224, "columns": 224} | TEXTURE,
)
bench_uv_sample = suite.benchmark()
