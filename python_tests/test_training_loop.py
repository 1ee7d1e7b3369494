"""facecore.training.loop with a small trainer: what is written, stopping, resuming, the guard against NaN."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from facecore.training.checkpoint import Checkpoint, load_optimizer_tensors, optimizer_tensors
from facecore.training.config import RunConfig
from facecore.training.loop import FINAL, LAST, METRICS, Interrupted, NotFinite, train
from facecore.training.watch import FiniteWatch


class Line:
    """Fits one weight vector; the data of a step depends on the iteration alone."""

    def __init__(self, total: int) -> None:
        self.total_iterations = total
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.optimizer = torch.optim.Adam([self.weight], lr=0.05)
        self.hook = lambda iteration: None

    def images_in(self, iteration):
        return 4

    def step(self, iteration):
        self.hook(iteration)
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(iteration))
        loss = (x @ self.weight - x.sum(1)).square().mean()
        FiniteWatch().see({"line": loss}, iteration)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"line": loss.detach(), "total": loss.detach()}

    def validate(self):
        return {"error": float((self.weight - 1).abs().mean())}

    def picture_grid(self):
        return torch.zeros(3, 4, 4)

    def checkpoint(self, iteration, *, resumable):
        tensors = {"model": {"weight": self.weight.detach()}}
        if resumable:
            tensors["optimizer"] = optimizer_tensors(self.optimizer)
        return Checkpoint(tensors, {"iteration": iteration})

    def restore(self, checkpoint):
        self.weight.data.copy_(checkpoint.tensors["model"]["weight"])
        load_optimizer_tensors(self.optimizer, checkpoint.tensors["optimizer"])
        return int(checkpoint.plain["iteration"])


def run_config(folder, **changes) -> RunConfig:
    settings = {"out": folder, "log_every": 5, "validate_every": 10, "checkpoint_every": 10} | changes
    return RunConfig(**settings)


def test_trains_and_writes(tmp_path):
    trainer = Line(60)
    result = train(trainer, run_config(tmp_path), {"config_hash": "abc", "seed": 0})
    assert result["error"] < 0.5  # started at 1
    rows = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [10, 20, 30, 40, 50, 60]
    assert rows[-1]["error"] == result["error"] and rows[0]["config_hash"] == "abc"
    assert Checkpoint.load(tmp_path / FINAL).tensors["model"]["weight"].equal(trainer.weight.detach())
    assert any(p.name.startswith("events.out.tfevents") for p in tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_and_resume_is_exact(tmp_path, number):
    before = signal.getsignal(number)
    whole = Line(40)
    train(whole, run_config(tmp_path / "whole"), {})
    stopped = Line(40)
    stopped.hook = lambda iteration: os.kill(os.getpid(), number) if iteration == 16 else None
    folder = tmp_path / "stopped"
    with pytest.raises(Interrupted, match=r"after 17 iterations; go on with --run\.resume"):
        train(stopped, run_config(folder), {})
    assert Checkpoint.load(folder / LAST).plain["iteration"] == 17
    resumed = Line(40)
    train(resumed, run_config(folder, resume=True), {})
    assert resumed.weight.equal(whole.weight)
    assert signal.getsignal(number) == before


def test_resuming_forgets_rows_of_iterations_that_come_again(tmp_path):
    train(Line(20), run_config(tmp_path), {})
    rows = (tmp_path / METRICS).read_text()
    (tmp_path / METRICS).write_text(rows + '{"iteration": 30}\n{"iteration": 40, "err')  # killed in the middle
    train(Line(40), run_config(tmp_path, resume=True), {})
    iterations = [json.loads(line)["iteration"] for line in (tmp_path / METRICS).read_text().splitlines()]
    assert iterations == [10, 20, 30, 40]


def test_resuming_removes_what_a_killed_run_left_half_written(tmp_path):
    train(Line(20), run_config(tmp_path), {})
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    gone = [f".{LAST}.{dead.pid}.tmp", f".{FINAL}.{dead.pid}.tmp", f".{LAST}.{os.getpid()}.tmp"]
    kept = [f".{LAST}.{os.getppid()}.tmp", f".other.{dead.pid}.tmp", f".{LAST}.mine.tmp"]
    for name in gone + kept:
        (tmp_path / name).write_bytes(b"half")
    train(Line(30), run_config(tmp_path, resume=True), {})
    assert sorted(path.name for path in tmp_path.glob(".*")) == sorted(kept)


def test_nan_is_named():
    trainer = Line(10)
    trainer.weight.data.fill_(float("nan"))
    with pytest.raises(NotFinite, match="the loss 'line' is nan at iteration 0"):
        trainer.step(0)
