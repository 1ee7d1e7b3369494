"""The least time that counted work takes at the rates that this machine shows at this moment."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import torch

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
