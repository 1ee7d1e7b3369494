"""What the benchmarks of the losses share: a suite of facecore's function, its definition and that compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from floor import Work, bytes_needed
from harness import Suite, compiled

FACE = {"images": 8, "vertices": 37249}


def loss_suite(
    op: str,
    function: Callable[..., Any],
    definition: Callable[..., Any],
    cases: Mapping[str, Mapping[str, int]],
    make_inputs: Callable[..., Any],
    work: Callable[..., Sequence[Work]] | None = None,
    **others: Any,
) -> Suite:
    """work: as Suite's; None = two_passes. `others`: more providers, by name."""
    providers = {"facecore": function, "reference": definition, "torch.compile": compiled(definition), **others}
    return Suite(op=op, providers=providers, cases=cases, make_inputs=make_inputs, work=work or two_passes)


def two_passes(*inputs: Any, mode: str, result_bytes: int = 4) -> list[Work]:
    """Any loss whose gradient is not kept from the forward pass: the inputs are read for the value, and once more to
    write the gradients. Arithmetic counts as free.
    """
    gradients = [t for t in inputs if isinstance(t, torch.Tensor) and t.requires_grad]
    moved = [bytes_needed(inputs, (), (), "forward")]
    if mode == "forward+backward":
        moved.append(bytes_needed(inputs, (), gradients, "forward"))
    return [Work(0, count + result_bytes, count + result_bytes) for count in moved if count is not None]
