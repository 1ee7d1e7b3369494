"""surface_shading: facecore, sh_shading with the rest in eager torch, and the definition, eager and torch.compile."""

from __future__ import annotations

import torch
from harness import Suite, compiled

from facecore import ops, reference

Triple = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def make_inputs(
    device: torch.device, generator: torch.Generator, *, images: int, size: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A third of the pixels are background, as around a face."""
    normals = torch.randn(images, size, size, 3, generator=generator)
    normals[:, : size // 3] = 0
    albedo = torch.rand(images, size, size, 3, generator=generator)
    sh_coefficients = torch.randn(images, 9, 3, generator=generator)
    normals, albedo, sh_coefficients = (x.to(device).requires_grad_() for x in (normals, albedo, sh_coefficients))
    return normals, albedo, sh_coefficients


def color(function):
    """The colour alone, which is what a photometric loss differentiates."""
    return lambda *inputs: function(*inputs)[0]


def with_sh_shading(normals: torch.Tensor, albedo: torch.Tensor, sh_coefficients: torch.Tensor) -> Triple:
    squared = (normals * normals).sum(-1, keepdim=True)
    defined = squared > 1e-12
    unit = normals * torch.where(defined, torch.rsqrt(torch.where(defined, squared, 1.0)), 0.0)
    shading = torch.where(defined, ops.sh_shading(unit, sh_coefficients), 0.0)
    return albedo * shading, shading, unit


suite = Suite(
    op="surface_shading",
    providers={
        "facecore": color(ops.surface_shading),
        "sh_shading, eager": color(with_sh_shading),
        "reference": color(reference.surface_shading),
        "torch.compile": compiled(color(reference.surface_shading)),
    },
    cases={
        f"pixels_{size}_b{images}": {"images": images, "size": size}
        for size, images in ((96, 24), (224, 1), (224, 8), (224, 32), (512, 1))
    },
    make_inputs=make_inputs,
    quick=("pixels_96_b24", "pixels_224_b8"),
)
bench_surface_shading = suite.benchmark()
