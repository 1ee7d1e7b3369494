"""MeshDecoder, the whole network: one code to 37,000 vertices; by facecore and by other Chebyshev layers."""

from __future__ import annotations

from typing import Any

import torch
from graph_layers import DATA, check_few, hierarchy, network_providers, network_work
from harness import Suite

from facecore.nn import MeshDecoder

LATENT = 153  # numbers of a code


def make_inputs(
    device: torch.device, generator: torch.Generator, *, images: int, ict: int, double: int = 0
) -> tuple[Any, ...]:
    dtype = torch.float64 if double else torch.float32
    torch.manual_seed(0)  # of the parameters
    network = MeshDecoder(hierarchy("ict" if ict else "grid"), LATENT, kind="symmetric").to(device, dtype)
    code = torch.randn(images, LATENT, generator=generator).to(device, dtype)
    return code.requires_grad_(), network, *network.parameters()


suite = Suite(
    op="decoder",
    providers=network_providers(),
    cases={
        f"{name}_37k_b{images}": {"images": images, "ict": name == "ict"}
        for name in ("grid", *(["ict"] if DATA else []))
        for images in (1, 8, 32)
    },
    make_inputs=make_inputs,
    check_sizes=lambda sizes: {**check_few(sizes), "double": 1},  # see network_of
    work=network_work,
)
bench_decoder = suite.benchmark()
