"""What the benchmarks of the losses share: a suite of facecore's function, its definition and that compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness import Suite, compiled

FACE = {"images": 8, "vertices": 37249}


def loss_suite(
    op: str,
    function: Callable[..., Any],
    definition: Callable[..., Any],
    cases: Mapping[str, Mapping[str, int]],
    make_inputs: Callable[..., Any],
    **others: Any,
) -> Suite:
    """`others`: more providers, by name."""
    providers = {"facecore": function, "reference": definition, "torch.compile": compiled(definition), **others}
    return Suite(op=op, providers=providers, cases=cases, make_inputs=make_inputs)
