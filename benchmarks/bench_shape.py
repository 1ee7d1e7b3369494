"""shape_loss against a known shape, gradient of the prediction."""

from __future__ import annotations

from typing import Any

import torch
from loss_peers import FACE, loss_suite

from facecore import losses, reference_losses


def make_inputs(device: torch.device, generator: torch.Generator, *, images: int, vertices: int) -> tuple[Any, ...]:
    predicted, target = torch.randn(2, images, vertices, 3, generator=generator).to(device)
    return predicted.requires_grad_(), target


suite = loss_suite(
    "shape",
    losses.shape_loss,
    reference_losses.shape_loss,
    {"face_37k_b8": FACE},
    make_inputs,
)
bench_shape = suite.benchmark()
