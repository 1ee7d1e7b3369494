"""sh_shading: facecore, the plain PyTorch definition, eager and through torch.compile, and kaolin's basis."""

from __future__ import annotations

import peers
import torch
from harness import Suite, compiled, peer

from facecore import ops, reference


def make_inputs(
    device: torch.device, generator: torch.Generator, *, images: int, height: int, width: int
) -> tuple[torch.Tensor, ...]:
    normals = torch.nn.functional.normalize(torch.randn(images, height, width, 3, generator=generator), dim=-1)
    sh_coefficients = torch.randn(images, 9, 3, generator=generator)
    return normals.to(device).requires_grad_(), sh_coefficients.to(device).requires_grad_()


suite = Suite(
    op="sh_shading",
    providers={
        "facecore": ops.sh_shading,
        "reference": reference.sh_shading,
        "torch.compile": compiled(reference.sh_shading),
        "kaolin": peer("kaolin", peers.sh_shading_kaolin),
    },
    cases={
        f"pixels_{size}_b{images}": {"images": images, "height": size, "width": size}
        for size, images in ((224, 1), (224, 8), (224, 32), (256, 1), (256, 8), (512, 1), (512, 8))
    },
    make_inputs=make_inputs,
    quick=("pixels_224_b1", "pixels_224_b8", "pixels_512_b1"),
)
bench_sh_shading = suite.benchmark()
