"""interpolate: facecore, the plain PyTorch definition, eager and through torch.compile, and the peers that are here."""

from __future__ import annotations

import peers
import torch
from harness import Suite, compiled, peer

from facecore import ops, reference

FACE = {"vertices": 37280, "triangles": 73840}  # a refined face mesh
SMALL_FACE = {"vertices": 5023, "triangles": 9976}


def case(mesh: dict[str, int], size: int, images: int, channels: int) -> dict[str, int]:
    return mesh | {"height": size, "width": size, "images": images, "channels": channels}


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
        "nvdiffrast": peer("nvdiffrast.torch", peers.interpolate_nvdiffrast),
        "pytorch3d": peer("pytorch3d", peers.interpolate_pytorch3d),
        "drtk": peer("drtk", peers.interpolate_drtk),
    },
    cases={
        **{f"face_37k_{size}_rgb_b{n}": case(FACE, size, n, 3) for size in (224, 256, 512) for n in (1, 8)},
        "face_37k_224_rgb_b32": case(FACE, 224, 32, 3),
        **{f"face_5k_224_rgb_b{n}": case(SMALL_FACE, 224, n, 3) for n in (1, 8)},
        **{f"face_37k_224_{c}_channels_b8": case(FACE, 224, 8, c) for c in (1, 6, 16)},
        "face_37k_224_64_channels_b1": case(FACE, 224, 1, 64),
    },
    make_inputs=make_inputs,
    quick=("face_37k_224_rgb_b1", "face_37k_224_rgb_b8", "face_37k_512_rgb_b1"),
)
bench_interpolate = suite.benchmark()
