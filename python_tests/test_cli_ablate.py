"""`facecore ablate`: what it refuses, how it goes on, and a report from rows alone; the variants of system 0."""

from __future__ import annotations

import math
from typing import Any

import pytest
from test_semi_supervised import TINY

from facecore.cli.main import main
from facecore.morphable import load as load_model
from facecore.systems.semi_supervised_ablation import COMPARISONS, VARIANTS, ablation, measure
from facecore.systems.semi_supervised_config import PRESETS
from facecore.systems.semi_supervised_training import SemiSupervisedTrainer
from facecore.training.ablation import Row, write_rows
from facecore.training.config import config_hash, merged
from facecore.training.loop import Interrupted


class TestSemiSupervised:
    """The system's own table: every variant is a configuration, and the measures are there."""

    def test_claims_of_the_paper(self):
        assert {c.claim for c in COMPARISONS} == {"0a", "0b", "1", "2", "3", "4", "5", "6"}

    def test_every_variant_trains_and_is_measured(self):
        """One step of each from the same weights; every comparison finds its measure, finite."""
        from facecore.training.config import overlay

        model = load_model("procedural", num_vertices=2500)
        values: dict[str, Any] = merged(TINY, {"stages": {"warmup_iterations": 0, "hybrid_iterations": 1}})
        config = overlay(PRESETS["ablation"], values | {"world": {"persons": 4, "pictures": 2}})
        experiment = ablation(config)
        hashes = set()
        for name, changes in experiment.variants.items():
            resolved = overlay(config, dict(changes))
            hashes.add(config_hash(resolved))
            resolved = overlay(resolved, {"stages": {"hybrid_iterations": 1}})  # some variants have steps of their own
            trainer = SemiSupervisedTrainer(resolved, model, None)
            for iteration in range(trainer.total_iterations):
                trainer.step(iteration)
            if name in ("all", "texture"):
                measures = measure(trainer, count=20)
                assert all(math.isfinite(measures[c.measure]) for c in COMPARISONS)
        assert len(hashes) == len(VARIANTS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0", "0"], "--seeds must be different numbers from 0, got [0, 0]"),
        (["--variants", "no hope"], "--variants 'no hope': choose among 'all'"),
        (["--rows", "none.jsonl"], "--rows none.jsonl: no such file"),
        (["--config", "none.yaml"], "cannot read the configuration none.yaml"),
    ],
)
def test_bad_usage(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["ablate", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_model_that_is_not_there_is_a_setting_of_the_file(tmp_path, capsys):
    """`ablate` has no option --model.morphable, which the refusal of `train` names."""
    (tmp_path / "settings.yaml").write_text("model: {morphable: /nowhere}")
    command = ["ablate", "--config", str(tmp_path / "settings.yaml"), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "no such file" in error and "takes its settings from a YAML file" in error
    assert len(error.strip().splitlines()) == 1 and not (tmp_path / "out").exists()


def test_rows_of_another_system_are_named(tmp_path, capsys):
    write_rows(tmp_path / "rows.jsonl", [Row("joint-recognition", "all", 0, {"neutral_mm": 1.0}, {})])
    assert main(["ablate", "--rows", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out")]) == 2
    assert "holds rows of joint-recognition: give --system joint-recognition" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_rows_of_two_configurations_are_not_compared(tmp_path, capsys):
    rows = [Row("semi-supervised", "all", seed, {"shape_mm": 1.0}, {"config_hash": str(seed)}) for seed in range(2)]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert main(["ablate", "--rows", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out")]) == 2
    assert "the rows of 'all' are of several configurations" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "kind"), [("morphable", "morphable models"), ("recognition", "recognition networks")])
def test_rows_of_two_models_or_networks_are_not_compared(name, kind, tmp_path, capsys):
    rows = [
        Row("semi-supervised", variant, 0, {"shape_mm": 1.0}, {"config_hash": "a", name: variant})
        for variant in ("all", "no pairs")
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert main(["ablate", "--rows", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out")]) == 2
    assert (
        f"the rows are of several {kind}, all, no pairs" in capsys.readouterr().err and not (tmp_path / "out").exists()
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("setting", ["seed: 7", "out: elsewhere", "start_from: weights.safetensors", "resume: true"])
def test_settings_that_an_ablation_makes_itself_are_refused(tmp_path, capsys, monkeypatch, setting):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.safetensors").touch()
    (tmp_path / "c.yaml").write_text(f"run: {{{setting}}}")
    assert main(["ablate", "--config", "c.yaml", "--out", str(tmp_path / "out")]) == 2
    name = setting.split(":")[0]
    assert f"--config: run.{name} is not used here" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_what_an_ablation_lacks_belongs_into_its_file(tmp_path, capsys):
    assert main(["ablate", "--system", "unsupervised-regression", "--out", str(tmp_path / "out")]) == 2
    assert "An ablation takes settings from a YAML file, --config" in capsys.readouterr().err.replace(" its ", " ")


def test_photographs_of_a_folder_are_refused(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "c.yaml").write_text(f"data: {{photos: {tmp_path / 'photos'}}}")
    assert main(["ablate", "--config", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "out")]) == 2
    assert "data.photos is not used here" in capsys.readouterr().err


def test_an_interrupted_ablation_says_how_it_goes_on(tmp_path, capsys, monkeypatch):
    """Not by --run.resume, an option of train that ablate does not have."""

    def interrupted(*_: Any, **__: Any) -> Any:
        raise Interrupted("stopped by SIGTERM after 3 iterations", "go on with --run.resume")
        yield

    monkeypatch.setattr("facecore.training.ablation_run.run_ablation", interrupted)
    assert main(["ablate", "--out", str(tmp_path / "out")]) == 1
    expected = "facecore ablate: stopped by SIGTERM after 3 iterations; call facecore ablate again to go on\n"
    assert capsys.readouterr().err == expected


def test_report_from_rows_alone(tmp_path, capsys):
    rows = []
    for seed in range(3):
        for name in VARIANTS:
            better = name in ("all", "strange faces", "texture, no mask, no symmetry")
            measures = {c.measure: (1.0 if better else 2.0) + 0.01 * seed for c in COMPARISONS}
            rows.append(Row("semi-supervised", name, seed, measures, {"commit": "abc"}))
    write_rows(tmp_path / "rows.jsonl", rows)
    assert main(["ablate", "--rows", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "report")]) == 0
    out = capsys.readouterr().out
    assert "claim 0a: holds         shape_mm: +49.8 % over 3 seeds" in out
    assert "claim  4: does not hold shading_error: +0.0 %" in out  # both of its variants are alike here
    assert (tmp_path / "report" / "index.html").is_file()
    assert (tmp_path / "report" / "claims.md").read_text().startswith("| claim |")
    assert main(["ablate", "--list"]) == 0 and "no centers" in capsys.readouterr().out
