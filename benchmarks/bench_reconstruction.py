"""reconstruction_loss: photometric and gradient difference together, a boolean mask, gradient of the render."""

from __future__ import annotations

from typing import Any

import torch
from loss_peers import loss_suite

from facecore import reference_losses
from facecore.losses import reconstruction_loss


def make_inputs(device: torch.device, generator: torch.Generator, *, images: int, size: int) -> tuple[Any, ...]:
    rendered, image = torch.rand(2, images, 3, size, size, generator=generator).to(device)
    mask = (torch.rand(images, size, size, generator=generator) > 0.3).to(device)
    return rendered.requires_grad_(), image, mask


suite = loss_suite(
    "reconstruction",
    reconstruction_loss,
    reference_losses.reconstruction_loss,
    {"224_b8": {"images": 8, "size": 224}, "224_b1": {"images": 1, "size": 224}},
    make_inputs,
)
bench_reconstruction = suite.benchmark()
