"""Claims 12 to 14 as trainings: every variant is a configuration that trains, and every measure is taken."""

from __future__ import annotations

import math

import pytest
import torch

from facecore.cli import main
from facecore.morphable import load as load_model
from facecore.systems.conditional_estimation_ablation import BASE, ablation, measure, renders_per_frame
from facecore.systems.conditional_estimation_config import PRESETS
from facecore.systems.conditional_estimation_training import ConditionalEstimationTrainer
from facecore.training.ablation import read_rows
from facecore.training.ablation_run import ROWS
from facecore.training.config import overlay, write_yaml

TINY = {
    "model": {
        "image_size": 32,
        "texture_size": 32,
        "width": 0.0625,
        "surface_points": 70,
        "point_features": 1,
        "num_vertices": 2500,
    },
    "stages": {"warmup_iterations": 1, "head_renders": 8, "iterations": 1},
    "data": {"labelled_batch": 4, "photo_batch": 4},
    "world": {"persons": 3, "pictures": 4},
    "run": {"validation_size": 2},
}


@pytest.fixture(scope="module")
def morphable():
    return load_model("procedural", num_vertices=2500)


@pytest.fixture(scope="module")
def settings():
    return overlay(PRESETS["ablation"], TINY)


def test_every_variant_trains_and_has_every_measure(tmp_path, capsys, monkeypatch, settings):
    monkeypatch.setattr(measure.__wrapped__, "__defaults__", (2,))  # held-out renders
    write_yaml(tmp_path / "settings.yaml", settings)
    arguments = ["--system", "conditional-estimation", "--config", str(tmp_path / "settings.yaml"), "--seeds", "0"]
    assert main.main(["ablate", *arguments, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "index.html").is_file() and "claim 14: open" in capsys.readouterr().out
    experiment = ablation(settings)
    measures = {row.variant: row.measures for row in read_rows(tmp_path / "out" / ROWS)}
    assert measures.keys() == experiment.variants.keys()
    wanted = {comparison.measure for comparison in experiment.comparisons}
    for variant, values in measures.items():
        assert wanted <= values.keys() and all(math.isfinite(value) for value in values.values()), variant
    renders = {variant: values["renders"] for variant, values in measures.items()}
    expected = {BASE: 2, "uncoupled": 2, "warmed up again": 2}
    assert renders == expected | {"consistency": 1, "symmetry": 2, "none": 1, "all exchanges": 8}


def test_variants_differ_from_the_base_in_one_thing(settings):
    experiment = ablation(settings)
    base = overlay(settings, dict(experiment.variants[BASE]))
    for name, changes in experiment.variants.items():
        own = overlay(settings, dict(changes))
        same = [part for part in ("model", "weights", "data", "world") if getattr(own, part) == getattr(base, part)]
        assert len(same) == (4 if name in (BASE, "warmed up again") else 3)
        assert bool(own.stages.warmup_iterations) == (name in ("uncoupled", "warmed up again"))


def test_measures_tell_a_copy_from_a_reflectance(morphable, settings):
    """A reflectance network that gives T back: the picture is drawn under flat light, copying is 1."""
    trainer = ConditionalEstimationTrainer(overlay(settings, {"stages": {"warmup_iterations": 0}}), morphable, None)
    before = measure(trainer, 2)

    class Copy(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :3]

    trainer.system.reflectance_network = Copy()
    after = measure(trainer, 2)
    assert abs(after["copying"] - 1) < 1e-5 and after["copying"] > before["copying"]
    assert after["lost_direction"] == before["lost_direction"] == 1.0  # an untrained light is ambient
    assert renders_per_frame(trainer) == 2


def test_the_command_lists_the_claims_of_the_system(capsys):
    assert main.main(["ablate", "--system", "conditional-estimation", "--list"]) == 0
    printed = capsys.readouterr().out
    assert "  uncoupled\n" in printed and "14  one exchange a frame" in printed and "no centers" not in printed


def test_settings_without_effect_are_refused(tmp_path, capsys):
    path = tmp_path / "settings.yaml"
    path.write_text("model: {coupled: false, detach_crop: true}\n")
    arguments = ["--system", "conditional-estimation", "--config", str(path), "--out", str(tmp_path / "out")]
    assert main.main(["ablate", *arguments]) == 2
    assert "--model.detach-crop has no effect here" in capsys.readouterr().err
