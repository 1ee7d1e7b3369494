"""What no implementation can do without: the bytes of a call, and how fast this machine copies bytes now."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

COPIED = 32 * 2**20  # bytes; read once and written once, beyond most caches


def bytes_needed(
    inputs: Sequence[Any], outputs: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor], mode: str
) -> int | None:
    """Each tensor of the inputs read once and each result written once; None for a mode without such a rule.

    forward: the outputs are written, and a sparse matrix is read without its transpose. forward+backward: what comes
    back to each differentiable output is read and the gradients are written; what is kept in between does not count.
    """
    if mode not in ("forward", "forward+backward"):
        return None
    read = {tensor.data_ptr(): _bytes(tensor) for value in inputs for tensor in _tensors(value, mode)}
    return sum(read.values()) + sum(map(_bytes, (*outputs, *gradients)))


def _bytes(tensor: torch.Tensor) -> int:
    """Of the memory behind it: an expanded dimension counts once."""
    count = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride else 1
    return count * tensor.element_size()


def _tensors(value: Any, mode: str) -> Iterator[torch.Tensor]:
    """The tensors in an argument: its own, and those of containers such as SparseMatrix and Fragments."""
    if isinstance(value, torch.Tensor):
        yield value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            if mode != "forward" or not field.name.startswith("transposed_"):
                yield from _tensors(getattr(value, field.name), mode)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part, mode)


def copy_gigabytes_per_second(device: torch.device, rounds: int = 4) -> float:
    """Bytes read plus bytes written in a second of copying a large tensor; the fastest of a few rounds."""
    source = torch.zeros(COPIED // 4, device=device)
    target = torch.zeros_like(source)
    times = []
    for _ in range(rounds + 1):
        _wait(device)
        start = time.perf_counter()
        target.copy_(source)
        _wait(device)
        times.append(time.perf_counter() - start)
    return 2 * COPIED / min(times[1:]) / 1e9


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
