"""Two processes under torchrun learn what one learns from the same batches; a stopped run goes on."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time

import distributed_training
import pytest
import torch
import yaml
from test_semi_supervised import overlay_values

import facecore
from facecore.systems.semi_supervised_schedule import STAGES
from facecore.systems.semi_supervised_training import check_shares
from facecore.training import distributed
from facecore.training.checkpoint import Checkpoint
from facecore.training.config import overlay
from facecore.training.distributed import Share

TESTS = pathlib.Path(__file__).parent


def torchrun(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]


def environment() -> dict[str, str]:
    """The copy of facecore that these tests import, and one thread: the order of sums must not change."""
    path = os.pathsep.join([str(pathlib.Path(facecore.__file__).parents[1]), str(TESTS)])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """In this process as in those of torchrun: sums split over threads are other sums (seen: 6e-5 of a loss near 0)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes found."""
    path = tmp_path_factory.mktemp("two") / "result"
    command = torchrun(str(TESTS / "distributed_training.py"), str(path))
    subprocess.run(command, check=True, capture_output=True, timeout=300, env=environment())
    return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def trainer():
    return distributed_training.make(distributed_training.settings())


@pytest.fixture(scope="module")
def gradients(trainer):
    return distributed_training.gradients(trainer)


@pytest.mark.parametrize("stage", STAGES)
def test_first_gradients_are_those_of_one_process(two, gradients, stage):
    """1e-5 of the gradient's length: 1e-7 to 2e-6 were seen, the rounding of sums in another order."""
    names = [name for name in gradients if name.startswith(stage)]
    assert set(names) == {name for name in two["gradients"] if name.startswith(stage)}
    expected, result = (torch.cat([g[name].flatten() for name in names]) for g in (gradients, two["gradients"]))
    assert float((result - expected).norm() / expected.norm()) < 1e-5


def test_twenty_losses_are_those_of_one_process(two, gradients, trainer):
    """Over all stages, discriminators and solved heads included. 1e-3: Adam enlarges rounding, 1e-4 was seen."""
    losses = distributed_training.losses(trainer)
    assert len(losses) == distributed_training.STEPS
    for own, other in zip(losses, two["losses"]):
        assert set(own) == set(other)
        assert other["total"] == pytest.approx(own["total"], rel=1e-3)


def test_two_processes_are_two_parts_of_a_batch(two):
    """One process that adds up two parts does the same sums: terms, weights, centres agree far closer.

    Equal to the bit where it was tried; 1e-5 for other linear algebra.
    """
    parts = distributed_training.make(distributed_training.settings(accumulate=2))
    for own, other in zip(distributed_training.losses(parts), two["losses"]):
        assert other == pytest.approx(own, rel=1e-5, abs=1e-7)
    for name, tensor in parts.objective.state_dict().items():
        torch.testing.assert_close(two["state"][name], tensor, rtol=1e-5, atol=1e-6, msg=name)


def test_heads_are_solved_on_the_statistics_that_are_saved(two):
    """Batch normalisation on the CPU: each process updates statistics of its own, the first one's are kept."""
    at_solving, after = two["features"]
    assert at_solving[0].equal(at_solving[1]) and at_solving[0].equal(after)


@pytest.mark.parametrize("what", ["persons", "sets", "softmax"])
def test_what_is_looked_at_between_stages_is_the_same_for_all(two, what):
    """Persons are placed, and sets drawn, by one network: the first process's statistics, which differed before."""
    result = two[what]
    assert not result["before"][0].equal(result["before"][1])
    assert result["after"][0].equal(result["after"][1]) and result["after"][0].equal(result["before"][0])
    assert result["found"][0].equal(result["found"][1])


@pytest.mark.slow  # three starts of torchrun
def test_a_stopped_run_goes_on_under_torchrun(tmp_path):
    """SIGTERM to torchrun saves in all processes alike; resumed, the weights are those of an uninterrupted run."""
    values = overlay_values("unused", {"warmup_iterations": 3, "hybrid_iterations": 6})
    values["run"]["checkpoint_every"] = 1
    for name in ("whole", "stopped"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values))

    def command(name: str, *more: str) -> list[str]:
        train = ["-m", "facecore.cli.main", "train", "--config", str(tmp_path / f"{name}.yaml")]
        return torchrun(*train, "--run.out", str(tmp_path / name), *more)

    options = {"env": environment(), "cwd": tmp_path, "timeout": 300}
    whole = subprocess.run(command("whole"), check=True, capture_output=True, text=True, **options)
    assert "cpu x 2 processes" in whole.stdout and "over its own pictures" in whole.stdout
    assert whole.stdout.count("configuration") == 1  # the first process speaks alone
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command("stopped"), env=environment(), cwd=tmp_path, **quiet)
    last = tmp_path / "stopped" / "last.safetensors"
    deadline = time.monotonic() + 240
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)
    assert Checkpoint.load(last).plain["iteration"] < 11, "the run ended before it was stopped"
    subprocess.run(command("stopped", "--run.resume"), check=True, capture_output=True, **options)
    expected, resumed = (Checkpoint.load(tmp_path / n / "model.safetensors") for n in ("whole", "stopped"))
    for name, tensor in expected.tensors["model"].items():
        assert tensor.equal(resumed.tensors["model"][name]), name
    rows = (tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == 1 and '"processes": 2' in rows[0]


def test_shares():
    assert [Share(i, 4).rows(8) for i in range(4)] == [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 8)]
    assert Share(1, 2).part(2, 3) == Share(5, 6)
    with pytest.raises(ValueError, match="a batch of 8 cannot be split into 3 equal parts"):
        Share(0, 3).rows(8)


def test_unequal_shares_are_refused():
    config = overlay(distributed_training.settings(), {"data": {"photo_batch": 6}})
    check_shares(config, False, 4)
    check_shares(config, True, 1)
    with pytest.raises(ValueError, match=r"data.photo_batch must be a multiple of 4, got 6.* 4 processes"):
        check_shares(config, True, 4)
    with pytest.raises(ValueError, match=r"data.labelled_batch must be a multiple of 16, got 8.*, pairs kept together"):
        check_shares(config, False, 8)
    halves = overlay(config, {"stages": {"accumulate": 8}})
    with pytest.raises(ValueError, match=r"for 1 processes x stages.accumulate 8"):
        check_shares(halves, False, 1)


def test_alone_nothing_is_exchanged():
    assert distributed.own_share() == Share() and distributed.is_first() and distributed.world_size() == 1
    tensor, module = torch.arange(3.0), torch.nn.Linear(2, 2)
    assert distributed.summed(tensor) is tensor and distributed.mean(tensor) is tensor
    assert distributed.gathered(tensor).tolist() == [[0.0, 1.0, 2.0]]
    assert distributed.averaged(module) is module and distributed.any_process(True)
    norm = torch.nn.BatchNorm1d(2)
    distributed.take_first_buffers(norm)
    assert norm.running_mean.tolist() == [0, 0]
