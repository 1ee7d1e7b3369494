"""An ablation as it runs: variants from one warm-up, rows that are kept, going on."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import ClassVar

import pytest
import torch

from facecore.training.ablation import Ablation, Row, read_rows
from facecore.training.ablation_run import PICTURES, ROWS, is_current, run_ablation, slug
from facecore.training.checkpoint import Checkpoint
from facecore.training.config import RunConfig, config_hash


@dataclasses.dataclass(frozen=True)
class Settings:
    run: RunConfig = dataclasses.field(default_factory=lambda: RunConfig(checkpoint_every=1))
    slope: float = 1.0


class Line:
    """A trainer whose one weight rises by `slope` a step."""

    built: ClassVar[list[Settings]] = []
    total_iterations = 4

    def __init__(self, config: Settings) -> None:
        self.config = config
        Line.built.append(config)
        self.weight = torch.zeros(1)
        if config.run.start_from is not None and not config.run.resume:
            self.weight = Checkpoint.load(config.run.start_from).tensors["model"]["weight"].clone()

    def images_in(self, iteration: int) -> int:
        return 1

    def step(self, iteration: int) -> dict[str, torch.Tensor]:
        self.weight = self.weight + self.config.slope
        return {"total": self.weight.sum()}

    def validate(self) -> dict[str, float]:
        return {}

    def picture_grid(self) -> torch.Tensor:
        return torch.zeros(3, 8, 8)

    def checkpoint(self, iteration: int, *, resumable: bool) -> Checkpoint:
        plain = {"iteration": iteration, "config_hash": config_hash(self.config)}
        return Checkpoint({"model": {"weight": self.weight}}, plain)

    def restore(self, checkpoint: Checkpoint) -> int:
        self.weight = checkpoint.tensors["model"]["weight"].clone()
        return int(checkpoint.plain["iteration"])


def run_lines(
    out: pathlib.Path, slopes: dict[str, float], seeds=(0, 1), *, warmup: float = 10.0, morphable: str = "one", **facts
) -> list[Row]:
    Line.built = []
    experiment = Ablation("lines", {"slope": warmup}, {name: {"slope": slope} for name, slope in slopes.items()}, [])
    return list(
        run_ablation(
            experiment,
            Settings(),
            out,
            seeds=seeds,
            variants=list(slopes),
            build=Line,
            measure=lambda trainer: {"weight": float(trainer.weight)},
            facts={"commit": "here", "morphable": morphable} | facts,
        )
    )


def test_variants_start_from_the_warm_up_and_rows_are_kept(tmp_path):
    rows = run_lines(tmp_path, {"one": 1.0, "two, 2": 2.0})
    assert [(row.seed, row.variant, row.measures["weight"]) for row in rows] == [
        (0, "one", 44.0),
        (0, "two, 2", 48.0),
        (1, "one", 44.0),
        (1, "two, 2", 48.0),
    ]
    assert len(Line.built) == 6  # one warm-up for each seed
    assert all(row.facts["seconds"] >= 0 for row in rows)
    assert rows[0].facts["config_hash"] == config_hash(Settings()) and rows[0].facts["commit"] == "here"
    assert (tmp_path / "seed1" / "two-2" / PICTURES).is_file()
    assert sorted(read_rows(tmp_path / ROWS), key=lambda row: (row.seed, row.variant)) == rows


def test_what_is_done_is_not_done_again(tmp_path):
    run_lines(tmp_path, {"one": 1.0})
    assert len(run_lines(tmp_path, {"one": 1.0})) == 2 and Line.built == []
    run_lines(tmp_path, {"one": 1.0, "two": 2.0}, seeds=(0,))
    assert [config.slope for config in Line.built] == [2.0]


def test_two_processes_with_other_seeds_keep_both_rows(tmp_path, monkeypatch):
    """What another wrote while this one trained stays."""
    build = Line.__init__

    def meanwhile(self, config):
        build(self, config)
        if config.run.seed == 0 and config.slope == 1.0:
            monkeypatch.setattr(Line, "__init__", build)
            run_lines(tmp_path, {"one": 1.0}, seeds=(1,))

    monkeypatch.setattr(Line, "__init__", meanwhile)
    run_lines(tmp_path, {"one": 1.0}, seeds=(0,))
    assert [row.seed for row in read_rows(tmp_path / ROWS)] == [0, 1]


def test_other_settings_are_other_rows(tmp_path):
    run_lines(tmp_path, {"one": 1.0}, seeds=(0,))
    (tmp_path / "seed0" / "one" / "last.safetensors").unlink()
    (row,) = run_lines(tmp_path, {"one": 3.0}, seeds=(0,))
    assert row.measures["weight"] == 52.0 and len(read_rows(tmp_path / ROWS)) == 1


def test_a_training_of_other_settings_is_not_gone_on_with(tmp_path):
    """Nor deleted: it may be the only one."""
    run_lines(tmp_path, {"one": 1.0}, seeds=(0,))
    with pytest.raises(ValueError, match=r"seed0.one has a training of .*, configuration .* another --out, or delete"):
        run_lines(tmp_path, {"one": 3.0}, seeds=(0,))
    assert [row.measures["weight"] for row in read_rows(tmp_path / ROWS)] == [44.0]


def test_rows_of_other_settings_are_known(tmp_path):
    """`two` changed after its row was made, and was not asked for since."""
    rows = run_lines(tmp_path, {"one": 1.0, "two": 2.0}, seeds=(0,))
    changed = Ablation("lines", {"slope": 10.0}, {"one": {"slope": 1.0}, "two": {"slope": 3.0}}, [])
    facts = {"commit": "later", "morphable": "one"}
    assert [is_current(row, changed, Settings(), facts) for row in rows] == [True, False]
    assert not is_current(rows[0], changed, Settings(), facts | {"morphable": "another"})
    gone = dataclasses.replace(changed, variants={"two": {"slope": 2.0}})
    assert [is_current(row, gone, Settings(), facts) for row in rows] == [False, True]


def test_a_warm_up_of_other_settings_is_refused(tmp_path):
    run_lines(tmp_path, {"one": 1.0}, seeds=(0,))
    with pytest.raises(ValueError, match=r"the warm-up in .*seed0.warmup was trained with configuration .* --out"):
        run_lines(tmp_path, {"two": 2.0}, seeds=(0,), warmup=5.0)
    assert [row.variant for row in read_rows(tmp_path / ROWS)] == ["one"]


def test_rows_of_another_morphable_model_do_not_count(tmp_path):
    """The configuration's hash leaves out where the model lies."""
    run_lines(tmp_path, {"one": 1.0}, seeds=(0,))
    run_lines(tmp_path, {"one": 1.0}, seeds=(0,), morphable="another")
    assert len(Line.built) == 1, "trained again, or, by a real trainer, refused"


def test_rows_of_another_recognition_network_do_not_count(tmp_path):
    """Nor does the hash say which network a manifest's path stood for; its warm-up is refused too."""
    run_lines(tmp_path, {"one": 1.0}, seeds=(0,), recognition="one")
    assert run_lines(tmp_path, {"one": 1.0}, seeds=(0,), recognition="one") and not Line.built
    run_lines(tmp_path, {"one": 1.0}, seeds=(0,), recognition="another")
    assert len(Line.built) == 1


def test_an_interrupted_training_goes_on(tmp_path, monkeypatch):
    step = Line.step

    def failing(self: Line, iteration: int) -> dict[str, torch.Tensor]:
        if iteration == 2 and self.config.slope == 1.0:
            raise RuntimeError("the lights went out")
        return step(self, iteration)

    monkeypatch.setattr(Line, "step", failing)
    with pytest.raises(RuntimeError, match="lights"):
        run_lines(tmp_path, {"one": 1.0}, seeds=(0,))
    assert not (tmp_path / ROWS).exists()
    monkeypatch.undo()
    (row,) = run_lines(tmp_path, {"one": 1.0}, seeds=(0,))
    assert row.measures["weight"] == 44.0 and "seconds" not in row.facts, "nobody knows how long it took"
    assert [config.slope for config in Line.built] == [1.0], "the warm-up is there"


def test_slugs_are_names_of_folders():
    assert slug("no mask, no symmetry") == "no-mask-no-symmetry" and slug("../x") == "x"
