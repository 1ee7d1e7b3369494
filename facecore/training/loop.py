"""The training loop, the same for every system: it reads top to bottom."""

from __future__ import annotations

import contextlib
import json
import pathlib
import signal
import time
import types
from typing import Any, Protocol

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from facecore.files import write_atomically
from facecore.training import distributed
from facecore.training.checkpoint import Checkpoint, remove_stale
from facecore.training.config import RunConfig

LAST, FINAL, METRICS = "last.safetensors", "model.safetensors", "metrics.jsonl"


class Trainer(Protocol):
    """What a system gives the loop. Its randomness is keyed by the iteration, so that a resumed run is the same run."""

    total_iterations: int

    def images_in(self, iteration: int) -> int:
        """Pictures that this step looks at, for the rate on the progress bar."""

    def step(self, iteration: int) -> dict[str, torch.Tensor]:
        """One update of the weights; returns the named losses. Raises NotFinite."""

    def validate(self) -> dict[str, float]:
        """Errors on held-out data."""

    def picture_grid(self) -> torch.Tensor:
        """[3, H, W] in [0, 1]: inputs beside results."""

    def checkpoint(self, iteration: int, *, resumable: bool) -> Checkpoint:
        """All that is needed to go on from after `iteration` steps, or to use the model."""

    def restore(self, checkpoint: Checkpoint) -> int:
        """Takes over a resumable checkpoint's state; returns the number of steps done."""


class _Stopped(RuntimeError):
    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason


class NotFinite(_Stopped):
    """A loss or a gradient became NaN or infinite. `reason`: the message without what to do."""


class Interrupted(_Stopped):
    """SIGTERM or Ctrl-C came; the state was saved. `reason`: the message without what to do."""


def train(trainer: Trainer, run: RunConfig, facts: dict[str, Any]) -> dict[str, float]:
    """Trains to the end and returns the last validation; `facts` (configuration hash, seed) go into every metrics row.

    Writes last.safetensors (resumable), model.safetensors (at the end), metrics.jsonl and TensorBoard events to
    run.out. Of several processes the first one alone writes, validates and returns something. Raises NotFinite naming
    the loss, Interrupted after saving, OSError when the disk is full.
    """
    folder, first = run.out, distributed.is_first()
    start = trainer.restore(Checkpoint.load(folder / LAST)) if run.resume else 0
    distributed.any_process(False)  # all have read the checkpoint before one is written
    if first:
        _tidy(folder, start, run.resume)
    writer = SummaryWriter(str(folder), purge_step=start) if first else None
    stop = _StopRequest()
    validation: dict[str, float] = {}
    total = trainer.total_iterations
    bar = tqdm(range(start, total), initial=start, total=total, unit="it", disable=not first)
    began = since = time.perf_counter()
    images = 0
    with stop, writer or contextlib.nullcontext(), bar:
        for iteration in bar:
            terms = trainer.step(iteration)
            done = iteration + 1
            images += trainer.images_in(iteration)
            last = done == total
            stopped = distributed.any_process(bool(stop.requested))
            if writer is not None and (done % run.log_every == 0 or last):
                now = time.perf_counter()
                rate, images, since = images / (now - since), 0, now
                _log(writer, bar, {name: float(value) for name, value in terms.items()}, rate, done)
            if writer is not None and (done % run.validate_every == 0 or last):
                validation = trainer.validate()
                _record(writer, folder, validation, done, facts | {"seconds": time.perf_counter() - began})
                writer.add_image("pictures", trainer.picture_grid(), done)
            if done % run.checkpoint_every == 0 or last or stopped:
                _save(trainer.checkpoint(done, resumable=True), folder / LAST)
            if stopped and not last:
                reason = stop.requested or "a signal to another process"
                raise Interrupted(f"stopped by {reason} after {done} iterations", "go on with --run.resume")
    if start == total and first:  # nothing was left to do but to write the model
        validation = trainer.validate()
    _save(trainer.checkpoint(total, resumable=False), folder / FINAL)
    return validation


def _save(checkpoint: Checkpoint, path: pathlib.Path) -> None:
    """By the first process; all make the checkpoint, so that all find out when it would hold a NaN."""
    if distributed.is_first():
        checkpoint.save(path)


def _tidy(folder: pathlib.Path, start: int, resume: bool) -> None:
    """Removes what a killed run left: halves of checkpoints, rows of iterations that come again."""
    if resume:
        for name in (LAST, FINAL):
            remove_stale(folder / name)
    _forget_rows_after(folder / METRICS, start)


def _log(writer: SummaryWriter, bar: Any, scalars: dict[str, float], rate: float, done: int) -> None:
    bar.set_postfix_str(f"loss {scalars['total']:.3f} | {rate:.0f} images/s")
    for name, value in scalars.items():
        writer.add_scalar(f"loss/{name}", value, done)
    writer.add_scalar("images_per_second", rate, done)


def _record(
    writer: SummaryWriter, folder: pathlib.Path, validation: dict[str, float], done: int, facts: dict[str, Any]
) -> None:
    for name, value in validation.items():
        writer.add_scalar(f"validation/{name}", value, done)
    with open(folder / METRICS, "a", encoding="utf-8") as file:
        file.write(json.dumps({"iteration": done, **facts, **validation}) + "\n")


def _forget_rows_after(path: pathlib.Path, iteration: int) -> None:
    """A killed run may have validated after its last checkpoint; those iterations come again."""
    if path.is_file():
        rows = [line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
        kept = [line for line in rows if json.loads(line)["iteration"] <= iteration]
        write_atomically(path, "".join(f"{line}\n" for line in kept).encode())


class _StopRequest:
    """Remembers SIGTERM or Ctrl-C until the iteration is over; a second one ends the process at once."""

    def __init__(self) -> None:
        self.requested = ""
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> _StopRequest:
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        except ValueError:  # not the main thread: signals stay with whoever owns them
            self._previous.clear()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: types.FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name
