"""What the interpreted tests of the losses' Triton kernels share: the switch, small blocks, half precision, layouts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import pytest
import torch

from facecore.losses import _triton, _triton_blocks


@pytest.fixture(autouse=True)
def kernels_take_cpu_tensors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For a file that imports it, CPU tensors take the Triton kernels."""
    monkeypatch.setattr(_triton, "runs_on", lambda tensor: True)
    yield


def use_small_blocks(monkeypatch: pytest.MonkeyPatch, kernels: ModuleType, numbers: int = 8) -> None:
    """Blocks of few numbers, and few parts at a time for the program that adds them."""
    monkeypatch.setattr(kernels, "block_size", lambda size, largest=1024: min(_triton.power_of_two(size), numbers))
    for module in (kernels, _triton_blocks):
        if hasattr(module, "FINISH_NUMBERS"):
            monkeypatch.setattr(module, "FINISH_NUMBERS", 4)


def check_low_precision(
    loss: Callable[..., torch.Tensor],
    reference: Callable[..., torch.Tensor],
    leaves: Sequence[torch.Tensor],
    dtype: torch.dtype,
    *,
    tolerance: float = 1e-6,
) -> None:
    """Half precision is read and written, the arithmetic and the result are float32's; float64's is the truth."""
    low = [leaf.detach().to(dtype).requires_grad_() for leaf in leaves]
    exact = [leaf.detach().double().requires_grad_() for leaf in low]
    value, expected = loss(*low), reference(*exact)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), expected, rtol=tolerance, atol=tolerance)
    # One rounding to the dtype of the leaf, after float32 arithmetic.
    rounding = max(torch.finfo(dtype).eps, 10 * tolerance)
    grads = torch.autograd.grad(value.sum(), low)
    for grad, expected_grad in zip(grads, torch.autograd.grad(expected.sum(), exact)):
        assert grad.dtype == dtype
        scale = float(expected_grad.abs().max())
        torch.testing.assert_close(grad.double(), expected_grad, rtol=rounding, atol=rounding * scale)


def in_every_other_number(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers, in memory that holds NaN between them."""
    return tensor.new_full((*tensor.shape[:-1], 2 * tensor.shape[-1] + 1), math.nan)[..., 1::2].copy_(tensor)


def in_every_other_image(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.new_full((2 * len(tensor), *tensor.shape[1:]), math.nan)[::2].copy_(tensor)


LAYOUTS = (in_every_other_number, in_every_other_image)


def check_layouts(loss: Callable[..., torch.Tensor], leaves: Sequence[torch.Tensor]) -> None:
    """Any strides give the same bits, value and gradient."""
    plain = value_and_gradients(loss, leaves)
    for layout in LAYOUTS:
        odd = value_and_gradients(loss, [layout(leaf.detach()) for leaf in leaves])
        assert all(torch.equal(a, b) for a, b in zip(plain, odd)), layout.__name__


def value_and_gradients(loss: Callable[..., torch.Tensor], leaves: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    fresh = [leaf.detach().requires_grad_() for leaf in leaves]
    value = loss(*fresh)
    return [value.detach(), *torch.autograd.grad(value.sum(), fresh)]


def check_fakes(op: Any, arguments: Sequence[Any]) -> None:
    """What a compiled graph believes of the results' shapes, strides and dtypes is so."""
    real = op(*arguments)
    fake = op(*(a.to("meta") if isinstance(a, torch.Tensor) else a for a in arguments))
    pairs = zip(real, fake, strict=True) if isinstance(real, tuple) else [(real, fake)]
    for a, b in pairs:
        assert (a.shape, a.stride(), a.dtype) == (b.shape, b.stride(), b.dtype)


def random(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    """Numbers in [0, 1), others for every shape and seed."""
    generator = torch.Generator().manual_seed(1000 * seed + sum(shape))
    return torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)
