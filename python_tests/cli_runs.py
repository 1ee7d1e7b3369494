"""What tests of the command line share: a picture with landmarks, a training of two steps, its checkpoint."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil

import pytest
import torch
import yaml
from tiny_settings import TINY_MODEL

from facecore.cli import main
from facecore.data import LabelledRenders, write_png
from facecore.morphable import load
from facecore.systems.semi_supervised_config import StageConfig

VERTICES = TINY_MODEL["num_vertices"]
SETTINGS = {
    "model": TINY_MODEL,
    "stages": {f.name: 0 for f in dataclasses.fields(StageConfig) if f.name.endswith("_iterations")}
    | {"warmup_iterations": 1, "hybrid_iterations": 1},
    "data": {"labelled_batch": 2},
    "run": {"validation_size": 2},
}
WRITTEN = ("glb", "npz", "obj")


@dataclasses.dataclass
class Shared:
    """Made once: a folder with face.png and face.pts, a model file, training settings, a checkpoint."""

    folder: pathlib.Path
    picture: pathlib.Path
    model: pathlib.Path
    settings: pathlib.Path
    checkpoint: pathlib.Path


def make_shared(folder: pathlib.Path) -> Shared:
    """Trains for two steps."""
    files = Shared(folder, *(folder / name for name in ("face.png", "model.npz", "tiny.yaml", "run/model.safetensors")))
    model = load("procedural", num_vertices=VERTICES)
    model.save(files.model)
    batch = LabelledRenders(model, 96, 96, seed=1, occluders=0.0).batch(torch.tensor([0]))
    write_png(files.picture, batch.image[0])
    points = "\n".join(f"{u + 0.5} {v + 0.5}" for u, v in batch.landmarks[0].tolist())
    files.picture.with_suffix(".pts").write_text(f"version: 1\nn_points: 68\n{{\n{points}\n}}\n")
    files.settings.write_text(yaml.safe_dump(SETTINGS))
    assert main.main(["train", "--config", str(files.settings), "--run.out", str(folder / "run")]) == 0
    return files


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Runs a command in this process: exit code, output, errors (without the progress bars)."""
    capsys.readouterr()
    code = main.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    errors = [line.split("\r")[-1].strip() for line in captured.err.split("\n")]
    return code, captured.out, "\n".join(line for line in errors if line)


def pictures(folder: pathlib.Path, shared: Shared, *names: str) -> list[pathlib.Path]:
    """Copies of the shared picture with its landmarks under other names."""
    for name in names:
        shutil.copy(shared.picture, folder / f"{name}.png")
        shutil.copy(shared.picture.with_suffix(".pts"), folder / f"{name}.pts")
    return [folder / f"{name}.png" for name in names]


def everything_below(folder: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
