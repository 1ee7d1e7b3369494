"""MeshDiscriminator, the whole network on 37,000 vertices, and its step with a gradient penalty."""

from __future__ import annotations

from typing import Any

import torch
from graph_layers import DATA, check_few, hierarchy, network_providers, network_work
from harness import MODES, Suite

from facecore.nn import MeshDiscriminator


def make_inputs(
    device: torch.device, generator: torch.Generator, *, images: int, ict: int, double: int = 0
) -> tuple[Any, ...]:
    dtype = torch.float64 if double else torch.float32
    torch.manual_seed(0)  # of the parameters
    levels = hierarchy("ict" if ict else "grid")
    network = MeshDiscriminator(levels, kind="symmetric").to(device, dtype)
    x = torch.randn(images, levels.sizes[0], 3, generator=generator).to(device, dtype)
    return x.requires_grad_(), network, *network.parameters()


suite = Suite(
    op="discriminator",
    providers=network_providers(),
    cases={
        f"{name}_37k_b{images}": {"images": images, "ict": name == "ict"}
        for name in ("grid", *(["ict"] if DATA else []))
        for images in (1, 8, 32)
    },
    make_inputs=make_inputs,
    modes=MODES[:3],
    check_sizes=lambda sizes: {**check_few(sizes), "double": 1},  # see network_of
    work=network_work,
)
bench_discriminator = suite.benchmark()
