"""What no implementation can do without: the bytes of a call, and the least time of counted work on this machine."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

COPIED = 32 * 2**20  # bytes of the copy in every row; read once and written once, beyond most caches
# conftest.py sets time.process_time where the core is shared: a round then counts the time that the process ran
clock: Callable[[], float] = time.perf_counter


@dataclasses.dataclass(frozen=True)
class Work:
    """A step of an operator.

    flops: additions and multiplications, taken at the rate of a product of two 1024 x 1024 matrices. This flatters a
        sparse product, whose arithmetic comes with a gather that the floor does not count.
    bytes: read and written when everything that one pass needs twice is read once.
    resident: bytes that lie in memory together, and so say in which cache; the rate is that of a copy of this size.
    """

    flops: float
    bytes: float
    resident: float


def floor_milliseconds(steps: Sequence[Work], sgemm_ms: float, device: torch.device) -> float:
    """The sum over steps of flops over the sgemm's rate and bytes over a copy's, measured now."""
    per_flop = sgemm_ms / (2 * 1024**3)
    per_byte: dict[int, float] = {}
    total = 0.0
    for step in steps:
        # The power of two below, rather too fast a rate; but a copy of less than 256 KiB would time its call.
        size = 1 << max(18, round(step.resident).bit_length() - 1)
        if size not in per_byte:
            per_byte[size] = copy_milliseconds(size, device) / size
        total += step.flops * per_flop + step.bytes * per_byte[size]
    return total


def copy_milliseconds(size: int, device: torch.device, rounds: int = 30) -> float:
    """The least time to copy one half of `size` bytes onto the other: `size` bytes read and written."""
    source, target = torch.zeros(2, size // 8, device=device)
    times = []
    for _ in range(rounds + 2):
        start = synchronised_clock()
        target.copy_(source)
        times.append(1e3 * (synchronised_clock() - start))
    return min(times[2:])


def copy_gigabytes_per_second(device: torch.device, rounds: int = 4) -> float:
    """Bytes read plus bytes written in a second of copying a large tensor; the fastest of a few rounds."""
    return 2 * COPIED / copy_milliseconds(2 * COPIED, device, rounds) / 1e6


def synchronised_clock() -> float:
    """Seconds. Waits for the GPU, so that a round counts the work that was queued and not the queueing."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return clock()


def percentile(ascending: Sequence[float], fraction: float) -> float:
    """Linear interpolation between the two nearest of the sorted values."""
    position = fraction * (len(ascending) - 1)
    low = int(position)
    high = min(low + 1, len(ascending) - 1)
    return ascending[low] + (position - low) * (ascending[high] - ascending[low])


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
