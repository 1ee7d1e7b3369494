"""landmark_structure_loss over the 2,278 pairs of 68 points."""

from __future__ import annotations

from typing import Any

import torch
from loss_peers import loss_suite

from facecore import losses, reference_losses


def make_inputs(device: torch.device, generator: torch.Generator, *, images: int) -> tuple[Any, ...]:
    predicted, target = torch.randn(2, images, 68, 2, generator=generator).to(device)
    return predicted.requires_grad_(), target


suite = loss_suite(
    "landmark",
    losses.landmark_structure_loss,
    reference_losses.landmark_structure_loss,
    {"68_b8": {"images": 8}, "68_b32": {"images": 32}},
    make_inputs,
)
bench_landmark = suite.benchmark()
