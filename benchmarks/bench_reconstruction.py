"""reconstruction_loss: photometric and gradient difference together, a boolean mask, gradient of the render.

The same with the render laid over the photograph by its coverage, which the plain form makes as a picture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from loss_peers import loss_suite

from facecore import reference_losses
from facecore.losses import reconstruction_loss


def make_inputs(device: torch.device, generator: torch.Generator, *, images: int, size: int) -> tuple[Any, ...]:
    rendered, image = torch.rand(2, images, 3, size, size, generator=generator).to(device)
    mask = (torch.rand(images, size, size, generator=generator) > 0.3).to(device)
    return rendered.requires_grad_(), image, mask


def make_covered(device: torch.device, generator: torch.Generator, **sizes: int) -> tuple[Any, ...]:
    rendered, image, mask = make_inputs(device, generator, **sizes)
    return rendered, image, mask, torch.rand(mask.shape, generator=generator).to(device)


def covered(loss: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    return lambda rendered, image, mask, coverage: loss(rendered, image, mask, coverage=coverage)


suite = loss_suite(
    "reconstruction",
    reconstruction_loss,
    reference_losses.reconstruction_loss,
    {"224_b8": {"images": 8, "size": 224}, "224_b1": {"images": 1, "size": 224}},
    make_inputs,
)
bench_reconstruction = suite.benchmark()
bench_reconstruction_covered = loss_suite(
    "reconstruction_covered",
    covered(reconstruction_loss),
    covered(reference_losses.reconstruction_loss),
    {"224_b8": {"images": 8, "size": 224}},
    make_covered,
).benchmark()
