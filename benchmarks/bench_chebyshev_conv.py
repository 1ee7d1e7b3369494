"""chebyshev_conv: every layer of the mesh decoder and discriminator, by facecore and as one writes it with torch.

On a bent grid of 37,249 vertices and its four-fold coarser levels, six terms. The Laplacian is the symmetric one with
lambda_max = 2, the only one that PyTorch Geometric's layer computes itself. Layers of the decoder upsample first
(`before`) and end in a ReLU but for the last; those of the discriminator end in a selection (`after`) and LeakyReLU.
The plain layer is the convolution alone, as other libraries have it.
"""

from __future__ import annotations

from typing import Any

import torch
from graph_layers import FACTORS, check_few, hierarchy, layer_providers, layer_work
from harness import MODES, Suite

from facecore.mesh import laplacian

TERMS = 6
DECODER, DISCRIMINATOR = (256, 256, 128, 64, 32, 16, 3), (3, 16, 32, 64, 128, 256)  # METHODS 2.1


def make_inputs(
    device: torch.device,
    generator: torch.Generator,
    *,
    images: int,
    level: int,
    fan_in: int,
    fan_out: int,
    up: int = 0,
    down: int = 0,
) -> tuple[Any, ...]:
    """up, down: 1 where the layer comes from, or goes to, the next coarser level."""
    levels = hierarchy("grid")
    matrix = laplacian(levels.levels[level], "symmetric").to(device)
    before, after = levels.up[level].to(device) if up else None, levels.down[level].to(device) if down else None
    v_in = matrix.shape[0] if before is None else before.shape[1]
    x = torch.randn(images, v_in, fan_in, generator=generator).to(device)
    weight = torch.randn(TERMS, fan_in, fan_out, generator=generator).to(device) / (TERMS * fan_in) ** 0.5
    last = not up and not down
    bias = None if last else torch.randn(fan_out, generator=generator).to(device).requires_grad_()
    slope = None if last else 0.0 if up else 0.2
    return x.requires_grad_(), matrix, weight.requires_grad_(), bias, before, after, slope


def layers() -> dict[str, dict[str, int]]:
    """The sizes of each layer by name, without the batch."""
    steps = len(FACTORS)
    cases = {}
    for index, (fan_in, fan_out) in enumerate(zip(DECODER, DECODER[1:])):
        where = {"level": steps - 1 - index, "up": 1} if index < steps else {"level": 0}
        cases[f"decoder_{index + 1}_{fan_in}_{fan_out}"] = {"fan_in": fan_in, "fan_out": fan_out, **where}
    for index, (fan_in, fan_out) in enumerate(zip(DISCRIMINATOR, DISCRIMINATOR[1:])):
        sizes = {"fan_in": fan_in, "fan_out": fan_out, "level": index, "down": 1}
        cases[f"discriminator_{index + 1}_{fan_in}_{fan_out}"] = sizes
    cases["plain_32_16"] = {"fan_in": 32, "fan_out": 16, "level": 0}
    return cases


suite = Suite(
    op="chebyshev_conv",
    providers=layer_providers(),
    cases={
        f"{name}_b{images}": {"images": images, **sizes} for name, sizes in layers().items() for images in (1, 8, 32)
    },
    make_inputs=make_inputs,
    modes=MODES[:3],
    check_sizes=check_few,
    work=layer_work,
    quick=("decoder_5_32_16_b1",),
)
bench_chebyshev_conv = suite.benchmark()
