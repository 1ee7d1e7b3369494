"""symmetry_loss by a list of opposite vertices, and texture_symmetry_loss inside a valid region."""

from __future__ import annotations

from typing import Any

import torch
from loss_peers import loss_suite

from facecore import losses, reference_losses


def make_vertices(
    device: torch.device, generator: torch.Generator, *, images: int, rows: int, columns: int
) -> tuple[Any, ...]:
    albedo = torch.rand(images, rows * columns, 3, generator=generator).to(device).requires_grad_()
    mirror = torch.arange(rows * columns).view(rows, columns).flip(1).reshape(-1)
    return albedo, mirror.to(device)


def make_texture(device: torch.device, generator: torch.Generator, *, images: int, size: int) -> tuple[Any, ...]:
    texture = torch.rand(images, 3, size, size, generator=generator).to(device).requires_grad_()
    return texture, (torch.rand(size, size, generator=generator) > 0.3).to(device)


bench_symmetry = loss_suite(
    "symmetry",
    losses.symmetry_loss,
    reference_losses.symmetry_loss,
    {"face_37k_b8": {"images": 8, "rows": 193, "columns": 193}},
    make_vertices,
).benchmark()
bench_texture_symmetry = loss_suite(
    "texture_symmetry",
    losses.texture_symmetry_loss,
    reference_losses.texture_symmetry_loss,
    {"256_b8": {"images": 8, "size": 256}},
    make_texture,
).benchmark()
