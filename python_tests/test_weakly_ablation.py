"""Claims 9 to 11 as trainings: every variant is a configuration, every measure is taken."""

from __future__ import annotations

import pytest
import torch
from tiny_weak import SIZE, config, write_recogniser

from facecore.cli import main
from facecore.data import LabelledRenders
from facecore.evaluation.alignment import vertex_error
from facecore.evaluation.held_out import evaluate_held_out
from facecore.morphable import load as load_model
from facecore.perception import load_identity_network
from facecore.systems import weakly_supervised_ablation
from facecore.systems.weakly_supervised_ablation import ablation
from facecore.systems.weakly_supervised_config import PRESETS
from facecore.systems.weakly_supervised_training import WeaklySupervisedTrainer
from facecore.training.config import overlay


@pytest.fixture(scope="module")
def morphable():
    return load_model("procedural", num_vertices=2500)


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory):
    return write_recogniser(tmp_path_factory.mktemp("network"))


def test_ablation_measures_what_its_claims_compare(morphable, monkeypatch, recogniser):
    """Each variant's settings make a configuration; renders turn as far as the photographs."""
    experiment = ablation(PRESETS["ablation"])
    for settings in (experiment.warmup, *experiment.variants.values()):
        overlay(PRESETS["ablation"], dict(settings))
    monkeypatch.setattr(weakly_supervised_ablation, "FIT_STEPS", 2)
    trainer = WeaklySupervisedTrainer(config(world={"yaw": 80.0}), morphable, None)
    assert trainer.photos.renders.yaw == 80
    of_sets = weakly_supervised_ablation.measure(trainer, persons=2)
    trainer.system.confidence_net = None
    measures = weakly_supervised_ablation.measure(trainer, count=4)
    assert {name for c in experiment.comparisons for name in (c.measure, c.worse_measure)} <= {*of_sets, *measures}
    system, world = trainer.system, trainer.world
    turned = LabelledRenders(world, SIZE, SIZE, trainer.held_out.seed, yaw=80.0)
    assert measures["shading"] == evaluate_held_out(system.reconstruct, world, turned, trainer.baseline, 4)["shading"]
    assert measures["shading"] != trainer.validate()["shading"]


def test_codes_are_fitted_by_the_losses_of_the_training(morphable, recogniser):
    """They begin with what R-Net says and come nearer to the truth; from the mean face the prior moves nothing, L_per
    does; and nothing of the network moves."""
    renders = LabelledRenders(morphable, 64, 64, seed=9, occluders=0.0, yaw=5.0)
    prior = dict.fromkeys(("photometric", "landmark", "flattening", "perception"), 0.0)

    def fitted(steps: int, spread: float, **weights: float) -> float:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(weakly_supervised_ablation, "FIT_STEPS", steps)
            settings = config(
                model={"image_size": 64, "focal": 10150.0, "distance_mm": 10_000.0},  # as the renders' parallel rays
                weights={"perception": 0.0} | weights,
            )
            trainer = WeaklySupervisedTrainer(settings, morphable, None, load_identity_network(recogniser))
            torch.nn.init.normal_(trainer.system.identity_head.weight, std=spread)
            trainer.system.eval()
            before = {name: value.clone() for name, value in trainer.system.state_dict().items()}
            error = weakly_supervised_ablation.fitted_error(trainer, renders, 6)
            assert all(value.equal(before[name]) for name, value in trainer.system.state_dict().items())
            if not steps:
                batch = renders.batch(torch.arange(6))
                said = trainer.system.reconstruct(batch.image).neutral_vertices
                assert error == pytest.approx(float(vertex_error(said, morphable.shape(batch.identity)).mean()))
            return error

    said, mean = fitted(0, 0.02), fitted(0, 0.0)
    assert said > 1.02 * mean
    assert fitted(15, 0.0, **prior) == pytest.approx(mean, rel=1e-6)
    assert fitted(3, 0.0, **prior | {"perception": 1.0}) != pytest.approx(mean, rel=1e-4)
    assert fitted(60, 0.0) < 0.85 * mean  # 0.76 was seen


def test_sets_are_weighed_by_confidence(morphable, monkeypatch):
    """An untrained C-Net trusts all pictures alike, so its set is the plain mean's; a trained one's is not."""
    trainer = WeaklySupervisedTrainer(config(), morphable, None)
    trainer.step(0)  # codes that differ from picture to picture
    trainer.system.eval()
    plain = weakly_supervised_ablation.set_errors(trainer, 2)
    assert plain["aggregated_mm"] == pytest.approx(plain["average_mm"], rel=1e-5)
    assert plain["trust_at_0"] == plain["trust_at_80"] == pytest.approx(1.0)
    with torch.no_grad():
        for parameter in trainer.system.confidence_net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    other = weakly_supervised_ablation.set_errors(trainer, 2)
    assert other["average_mm"] == pytest.approx(plain["average_mm"], rel=1e-6)
    assert other["aggregated_mm"] != pytest.approx(plain["aggregated_mm"], rel=1e-5)
    assert other["trust_at_80"] != pytest.approx(1.0, rel=1e-4)
    # by hand, of the first person: the frontal picture's share of what a set of five has
    monkeypatch.setattr(trainer.system, "confidence", lambda maps: torch.tensor([1.0, 1.0, 4.0, 1.0, 1.0])[:, None])
    assert weakly_supervised_ablation.set_errors(trainer, 1)["trust_at_0"] == pytest.approx(4 / 1.6)


def test_ablate_command_needs_a_recognition_network(tmp_path, capsys):
    command = ["ablate", "--system", "weakly-supervised", "--out", str(tmp_path / "a")]
    assert main.main([*command, "--list"]) == 0
    assert "perception alone" in capsys.readouterr().out
    assert main.main(command) == 2
    assert "L_per needs a recognition network" in capsys.readouterr().err and not (tmp_path / "a").exists()
