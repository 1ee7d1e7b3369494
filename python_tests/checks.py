"""Checks that every operator's test runs: equality with the reference, exact gradients, registration."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from facecore import _C

# float64 may differ from the reference by the order of a sum; float32 by 1e-5 of the values, which are of order 1.
TOLERANCES = {torch.float64: (1e-12, 1e-12), torch.float32: (1e-5, 1e-5)}


def check_matches_reference(
    op: Callable[..., torch.Tensor],
    reference: Callable[..., torch.Tensor],
    inputs: Sequence[object],
    *,
    tolerance: tuple[float, float] | None = None,
) -> None:
    """Forward, and every gradient through one fixed random projection (a plain sum would hide errors that cancel)."""
    mine, theirs = _detached(inputs), _detached(inputs)
    out, expected = op(*mine), reference(*theirs)
    rtol, atol = tolerance or TOLERANCES[expected.dtype]
    torch.testing.assert_close(out, expected, rtol=rtol, atol=atol)
    projection = torch.randn(expected.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    projection = projection.to(expected)
    leaves = [t for t in mine if isinstance(t, torch.Tensor) and t.requires_grad]
    expected_leaves = [t for t in theirs if isinstance(t, torch.Tensor) and t.requires_grad]
    if not leaves:
        return
    grads = torch.autograd.grad((out * projection).sum(), leaves, allow_unused=True)
    expected_grads: Sequence[torch.Tensor | None] = [None] * len(leaves)  # an empty reference result has no graph
    if expected.requires_grad:
        expected_grads = torch.autograd.grad((expected * projection).sum(), expected_leaves, allow_unused=True)
    for grad, expected_grad, leaf in zip(grads, expected_grads, leaves):
        grad = torch.zeros_like(leaf) if grad is None else grad
        expected_grad = torch.zeros_like(leaf) if expected_grad is None else expected_grad
        scale = float(expected_grad.abs().max()) if expected_grad.any() else 1.0  # the gradient of a mean is small
        torch.testing.assert_close(grad / scale, expected_grad / scale, rtol=rtol, atol=10 * atol)


@contextlib.contextmanager
def at_level(level: int) -> Iterator[None]:
    """At most this instruction set: 0 base, 1 AVX2, 2 AVX-512."""
    before = _C.limit_simd_level(level)
    try:
        yield
    finally:
        _C.limit_simd_level(before)


def check_registration(op: torch._ops.OpOverload, function: Callable, inputs: Sequence[object]) -> None:
    """opcheck of the registered op, and torch.compile(fullgraph=True) of the public function."""
    torch.library.opcheck(op, tuple(inputs))
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    expected, got = function(*_detached(inputs)), compiled(*_detached(inputs))
    torch.testing.assert_close(got, expected)


def added_and_gathered(compute: Callable[[], Any]) -> tuple[Any, Any]:
    """compute() with atomics and, under torch.use_deterministic_algorithms(True), without."""
    before = torch.are_deterministic_algorithms_enabled()
    results = []
    try:
        for deterministic in (False, True):
            torch.use_deterministic_algorithms(deterministic)
            results.append(compute())
    finally:
        torch.use_deterministic_algorithms(before)
    return results[0], results[1]


def _detached(inputs: Sequence[object]) -> list[object]:
    return [t.detach().requires_grad_(t.requires_grad) if isinstance(t, torch.Tensor) else t for t in inputs]
