"""`facecore train --run.start-from`: what is taken over, what is said, what is refused."""

from __future__ import annotations

import pathlib

import pytest
import yaml
from test_semi_supervised import overlay_values

from facecore.cli import train
from facecore.cli.errors import UsageError
from facecore.training.checkpoint import Checkpoint


def arguments(folder: pathlib.Path, *more: str) -> list[str]:
    stages = {"encoder_iterations": 0, "warmup_iterations": 0, "hybrid_iterations": 0}
    settings = folder.with_suffix(".yaml")
    settings.write_text(yaml.safe_dump(overlay_values(str(folder), stages)))
    return ["--config", str(settings), *more]


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("start") / "run"
    assert train.main(arguments(folder)) == 0
    return folder / "model.safetensors"


def test_says_what_was_not_taken_over(start, tmp_path, capsys):
    assert train.main(arguments(tmp_path / "same", "--run.start-from", str(start))) == 0
    assert f"weights from {start}: all\n" in capsys.readouterr().out
    other = arguments(tmp_path / "other", "--run.start-from", str(start), "--model.shape-decoder", "linear")
    assert train.main(other) == 0
    out = capsys.readouterr().out
    assert f"weights from {start}: all but 2: shape_decoder.0.bias, shape_decoder.0.weight\n" in out
    tuned = Checkpoint.load(tmp_path / "other" / "last.safetensors")
    assert tuned.plain["start"].endswith("seed 0, 1 iterations")
    before = Checkpoint.load(start).tensors["model"]
    name = "encoder.conv1.weight"  # which no iteration of either run trains
    assert tuned.tensors["model"][name].equal(before[name])


def test_a_texture_alone_starts_from_a_run_that_had_both_albedos(tmp_path):
    """Before its stage C that run drew with the graph's albedo, which the new one does not have."""
    both = arguments(tmp_path / "both", "--model.albedo-decoder", "both", "--stages.texture-iterations", "0")
    assert train.main(both) == 0
    weights = tmp_path / "both" / "model.safetensors"
    assert not Checkpoint.load(weights).tensors["model"]["uses_texture"]
    alone = ["--model.albedo-decoder", "texture", "--stages.decoder-iterations", "0", "--stages.hybrid-iterations", "1"]
    assert train.main(arguments(tmp_path / "alone", "--run.start-from", str(weights), *alone)) == 0
    assert Checkpoint.load(tmp_path / "alone" / "model.safetensors").tensors["model"]["uses_texture"]


def test_a_resumed_run_does_not_start_again(start, tmp_path, capsys):
    command = arguments(tmp_path / "run", "--run.start-from", str(start))
    assert train.main(command) == 0
    capsys.readouterr()
    assert train.main([*command, "--run.resume"]) == 0
    assert "weights from" not in capsys.readouterr().out


def test_bad_settings_are_refused(start, tmp_path):
    refusals = {
        "--run.start-from /nowhere.safetensors": r"--run.start-from /nowhere.safetensors: no such file",
        "--data.workers -1": "--data.workers must be at least 0, got -1",
        "--stages.accumulate 0": "--stages.accumulate must be at least 1, got 0",
        "--stages.accumulate 3": r"--data.labelled-batch must be a multiple of 6, got 4.* x stages.accumulate 3",
        "--stages.rise-steps -1": "--stages.rise-steps must be at least 0, got -1",
        "--stages.history-size 0": "--stages.history-size must be at least 1, got 0",
        "--model.num-terms 0": "--model.num-terms must be at least 1, got 0",
        "--world.persons -1": "--world.persons must be at least 0, got -1",
        "--world.labelled-modes -1": "--world.labelled-modes must be at least 0, got -1",
        "--model.encoder-norm layer": "norm",
    }
    for options, message in refusals.items():
        with pytest.raises(UsageError, match=message):
            train.main(arguments(tmp_path / "refused", *options.split()))
    assert not (tmp_path / "refused").exists()
