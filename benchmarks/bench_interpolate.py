"""interpolate: facecore, the plain PyTorch definition, and that definition through torch.compile."""

from __future__ import annotations

import torch
from harness import Suite, compiled

from facecore import ops, reference

FACE = {"vertices": 37280, "triangles": 73840}  # a refined face mesh
SMALL_FACE = {"vertices": 5023, "triangles": 9976}
CROP = {"height": 224, "width": 224}  # of a network


def make_inputs(
    device: torch.device,
    generator: torch.Generator,
    *,
    images: int,
    vertices: int,
    triangles: int,
    height: int,
    width: int,
    channels: int,
) -> tuple[torch.Tensor, ...]:
    """A covered disc of about 64 % of the picture; ids run along the rows like those of a mesh with local order."""
    attributes = torch.rand(images, vertices, channels, generator=generator)
    first = torch.arange(triangles) * (vertices - 64) // triangles
    corners = torch.stack([first, first + 1, first + 63], dim=1).to(torch.int32)
    row, column = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    covered = row**2 + column**2 < 0.81
    along = torch.arange(height * width).view(height, width) * triangles // (height * width)
    triangle_id = torch.where(covered, along, torch.full_like(along, -1)).to(torch.int32).expand(images, -1, -1)
    barycentric = torch.rand(images, height, width, 3, generator=generator) * covered[..., None]
    barycentric = barycentric / barycentric.sum(-1, keepdim=True).clamp_min(1e-6)
    return (
        attributes.to(device).requires_grad_(),
        corners.to(device),
        triangle_id.contiguous().to(device),
        barycentric.to(device).requires_grad_(),
    )


suite = Suite(
    op="interpolate",
    providers={
        "facecore": ops.interpolate,
        "reference": reference.interpolate,
        "torch.compile": compiled(reference.interpolate),
    },
    cases={
        "face_rgb_b1": dict(images=1, channels=3, **FACE, **CROP),
        "face_rgb_b8": dict(images=8, channels=3, **FACE, **CROP),
        "small_face_rgb_b8": dict(images=8, channels=3, **SMALL_FACE, **CROP),
        "face_rgb_256_b8": dict(images=8, channels=3, height=256, width=256, **FACE),
        "face_rgb_512_b8": dict(images=8, channels=3, height=512, width=512, **FACE),
        "face_1_channel_b8": dict(images=8, channels=1, **FACE, **CROP),
        "face_6_channels_b8": dict(images=8, channels=6, **FACE, **CROP),
        "face_16_channels_b8": dict(images=8, channels=16, **FACE, **CROP),
        "face_64_channels_b1": dict(images=1, channels=64, **FACE, **CROP),
    },
    make_inputs=make_inputs,
)
bench_interpolate = suite.benchmark()
