"""Batches of photographs made ahead by worker processes, so that a GPU does not wait; equal for any number of them."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterator
from typing import Any, Generic

import torch
from torch.utils.data import DataLoader, Dataset

from facecore.data.batches import Batch, PictureSource
from facecore.data.random import occurrences, sample_generator

MAX_WORKERS = 8
PREFETCH = 4  # batches that each worker makes ahead


def default_workers(device: torch.device | str) -> int:
    """Processes to load with: none where a CPU trains, which needs its cores; else the cores less one, at most 8."""
    if torch.device(device).type == "cpu":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MAX_WORKERS, cores - 1))


@dataclasses.dataclass(frozen=True, eq=False)
class PhotoBatches(Dataset[Any], Generic[Batch]):
    """The photographs of each iteration: `self[iteration]` depends on (seed, iteration) and the photographs alone.

    photos: any source; worker processes can load files alone. count: of a batch, over all processes of a run;
    per_identity: of a person, where persons are known (`PhotoFolder.sample`). rank, world_size: this process of several
    that share each batch; it gets an equal part, and the parts together are the batch of one process. purpose: tells
    the draws of several streams of one seed apart.
    Raises ValueError unless world_size divides count.
    """

    photos: PictureSource[Batch]
    seed: int
    count: int
    per_identity: int = 2
    rank: int = 0
    world_size: int = 1
    purpose: str = "photos"

    def __post_init__(self) -> None:
        if self.count < 1 or self.per_identity < 1:
            raise ValueError(f"count and per_identity must be at least 1, got {self.count} and {self.per_identity}")
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank must be in [0, {self.world_size}), got {self.rank}")
        if self.count % self.world_size:
            raise ValueError(f"{self.count} photographs do not divide among {self.world_size} processes")

    def index(self, iteration: int) -> torch.Tensor:
        """Which photographs the whole batch has, of all processes, int64 [count]."""
        return self.photos.sample(sample_generator(self.seed, self.purpose, iteration), self.count, self.per_identity)

    def __getitem__(self, iteration: int) -> Batch:
        index = self.index(iteration)
        if self.world_size == 1:
            return self.photos.batch(index, iteration)
        part = self.count // self.world_size
        mine = slice(self.rank * part, (self.rank + 1) * part)
        return self.photos.batch(index[mine], iteration, occurrences(index.tolist())[mine])


class PhotoStream(Generic[Batch]):
    """`at(iteration)` for iterations in rising order, each batch made ahead while earlier ones are used.

    Args:
        batches: what to make.
        end: the iteration after the last one.
        num_workers: processes; 0 = each batch is made when it is asked for, in this process.
        pin_memory: whether batches lie in page-locked memory, from which a GPU copies without waiting.

    The batches are those of `batches`, whatever the number of processes. Asking for another iteration than the next one
    starts anew there, so a resumed run goes on exactly. Use as a context manager, or call `close`, to end the
    processes.
    """

    def __init__(
        self, batches: PhotoBatches[Batch], end: int, *, num_workers: int = 0, pin_memory: bool = False
    ) -> None:
        if num_workers < 0:
            raise ValueError(f"num_workers must be at least 0, got {num_workers}")
        self.batches, self.end, self.num_workers, self.pin_memory = batches, end, num_workers, pin_memory
        self._iterator: Iterator[Batch | _Failure] | None = None
        self._next = -1
        self._kept: tuple[int, Batch] | None = None  # iteration, what `part` takes parts of

    def part(self, iteration: int, rows: slice, device: torch.device | str) -> Batch:
        """Some rows of an iteration's whole batch, all of them of this process, on a device.

        The parts of an iteration are asked for one after the other: it is made once. Raises what `at` raises.
        """
        if self._kept is None or self._kept[0] != iteration:
            self._kept = (iteration, self.at(iteration).to(device))
        first = self.batches.rank * len(self._kept[1])
        return self._kept[1][rows.start - first : rows.stop - first]

    def at(self, iteration: int) -> Batch:
        """The batch of an iteration, where its photographs lie: a folder's on the CPU.

        Raises ValueError for an iteration outside [0, end) and for what a picture raises (`PhotoFolder.batch`),
        ChildProcessError when a worker was ended from outside.
        """
        if not 0 <= iteration < self.end:
            raise ValueError(f"iteration must be in [0, {self.end}), got {iteration}")
        if self.num_workers == 0:
            batch = self.batches[iteration]
            return batch.pin_memory() if self.pin_memory else batch
        if self._iterator is None or iteration != self._next:
            self.close()
            self._iterator = self._start(iteration)
        self._next = iteration + 1
        try:
            result = next(self._iterator)
        except RuntimeError as error:
            self.close()
            reason = " ".join(str(error).split())
            raise ChildProcessError(f"a loading process ended ({reason}); fewer of them need less memory") from error
        if isinstance(result, _Failure):
            self.close()
            raise ValueError(result.message)
        return result

    def close(self) -> None:
        """Ends the processes; `at` starts them again."""
        self._iterator = None

    def __enter__(self) -> PhotoStream[Batch]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, first: int) -> Iterator[Batch | _Failure]:
        return iter(
            DataLoader(
                _Guarded(self.batches),
                batch_size=None,
                sampler=range(first, self.end),
                num_workers=self.num_workers,
                prefetch_factor=PREFETCH,
                pin_memory=self.pin_memory,
                collate_fn=_unchanged,
                worker_init_fn=_ignore_interrupts,
            )
        )


@dataclasses.dataclass(frozen=True)
class _Failure:
    """A ValueError of a worker, to be raised where the batch is asked for, in one line and without its traceback."""

    message: str


@dataclasses.dataclass(frozen=True, eq=False)
class _Guarded(Dataset[Any]):
    batches: PhotoBatches[Any]

    def __getitem__(self, iteration: int) -> Any:
        try:
            return self.batches[iteration]
        except ValueError as error:
            return _Failure(str(error))


def _unchanged(batch: Any) -> Any:
    return batch


def _ignore_interrupts(_: int) -> None:
    """Ctrl-C reaches all processes of a terminal, and a cluster's SIGTERM all of a job.

    The training process finishes its iteration, for which it may need a batch, saves, and ends the workers itself; they
    also end when it is gone.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
