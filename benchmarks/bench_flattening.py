"""flattening_loss over a region of every second vertex."""

from __future__ import annotations

from typing import Any

import torch
from loss_peers import FACE, loss_suite

from facecore import losses, reference_losses


def make_inputs(device: torch.device, generator: torch.Generator, *, images: int, vertices: int) -> tuple[Any, ...]:
    albedo = torch.rand(images, vertices, 3, generator=generator).to(device).requires_grad_()
    return albedo, (torch.rand(vertices, generator=generator) > 0.5).to(device)


suite = loss_suite(
    "flattening",
    losses.flattening_loss,
    reference_losses.flattening_loss,
    {"face_37k_b8": FACE},
    make_inputs,
)
bench_flattening = suite.benchmark()
