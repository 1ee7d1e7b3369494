"""Claims 7 and 8: variants that train equally long, fits of several photographs, every measure taken."""

from __future__ import annotations

import math

import pytest
import torch

from facecore.cli import main
from facecore.morphable import load as load_model
from facecore.systems.joint_recognition_ablation import BASE, CODES_ALONE, ablation, errors_of_fits, measure
from facecore.systems.joint_recognition_config import PRESETS
from facecore.systems.joint_recognition_training import JointRecognitionTrainer
from facecore.training.ablation import read_rows
from facecore.training.ablation_run import ROWS
from facecore.training.config import overlay, write_yaml

TINY = {
    "model": {"surface_points": 68, "point_features": 1, "num_vertices": 2500},
    "stages": {"head_renders": 8, "encoder_iterations": 1, "joint_iterations": 1, "final_iterations": 1},
    "data": {"labelled_batch": 4},
    "world": {"persons": 5, "pictures": 3},
    "run": {"validation_size": 4},
}


def test_every_variant_trains_and_has_every_measure(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(measure.__wrapped__, "__defaults__", (2, 4, 1))  # renders, persons verified, persons fitted
    monkeypatch.setattr("facecore.systems.joint_recognition_training.VERIFIED_PERSONS", 4)
    settings = overlay(PRESETS["ablation"], TINY)
    write_yaml(tmp_path / "settings.yaml", settings)
    arguments = ["--system", "joint-recognition", "--config", str(tmp_path / "settings.yaml"), "--seeds", "0"]
    assert main.main(["ablate", *arguments, "--out", str(tmp_path / "out")]) == 0
    assert "claim  8: open" in capsys.readouterr().out
    experiment = ablation(settings)
    rows = {row.variant: row.measures for row in read_rows(tmp_path / "out" / ROWS)}
    assert rows.keys() == experiment.variants.keys()
    wanted = {name for c in experiment.comparisons for name in (c.measure, c.worse_measure)}
    for variant, values in rows.items():
        assert wanted <= values.keys() and all(math.isfinite(value) for value in values.values()), variant
    # the fits are of the seed's persons and of no training
    assert rows[BASE]["fit_10_mm"] == rows[CODES_ALONE]["fit_10_mm"]
    assert rows[BASE]["neutral_mm"] != rows[CODES_ALONE]["neutral_mm"]


@pytest.mark.parametrize("preset", ["ablation", "small"])
def test_both_variants_train_equally_long(preset):
    experiment = ablation(PRESETS[preset])
    counts = []
    for changes in experiment.variants.values():
        stages = overlay(PRESETS[preset], dict(changes)).stages
        counts.append(stages.encoder_iterations + stages.joint_iterations + stages.final_iterations)
    assert counts[0] == counts[1] > 0


def test_the_variant_with_more_labels_sees_new_persons():
    """None of those that the warm-up showed."""
    settings = overlay(PRESETS["ablation"], TINY | {"stages": {"head_renders": 8, "encoder_iterations": 3}})
    experiment, morphable = ablation(settings), load_model("procedural", num_vertices=2500)
    seen: list[set[int]] = []
    for changes in (experiment.warmup, experiment.variants[CODES_ALONE]):
        trainer = JointRecognitionTrainer(overlay(settings, dict(changes)), morphable, None)
        numbers = [trainer._numbers(i) for i in range(trainer.config.stages.encoder_iterations)]
        seen.append(set(torch.cat(numbers).tolist()))
    assert all(seen) and not seen[0] & seen[1]


def test_photographs_together_tell_more_than_apart():
    errors = errors_of_fits(load_model("procedural", num_vertices=2500), 112, seed=0, persons=4)
    assert errors["fit_10_mm"] < errors["fit_2_mm"] < errors["fit_1_mm"]
    assert errors["fit_10_mm"] < errors["fit_mean_of_10_mm"] < errors["fit_1_mm"]
