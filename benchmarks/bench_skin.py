"""skin_probability of pictures; its gradient is needed by no system here."""

from __future__ import annotations

from typing import Any

import torch
from floor import Work
from loss_peers import loss_suite, two_passes

from facecore import losses, reference_losses


def make_inputs(device: torch.device, generator: torch.Generator, *, images: int, size: int) -> tuple[Any, ...]:
    return (torch.rand(images, 3, size, size, generator=generator).to(device).requires_grad_(),)


def work(image: torch.Tensor, *, mode: str) -> list[Work]:
    return two_passes(image, mode=mode, result_bytes=image.nbytes // 3)


suite = loss_suite(
    "skin",
    losses.skin_probability,
    reference_losses.skin_probability,
    {"224_b8": {"images": 8, "size": 224}},
    make_inputs,
    work,
)
bench_skin = suite.benchmark()
