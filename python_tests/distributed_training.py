"""One of the processes of test_distributed: gradients of every stage, losses of twenty steps, and
what is looked at between stages by networks whose statistics differ."""

from __future__ import annotations

import sys

import test_recognition_training
import tiny_joint
import tiny_weak
import torch
from test_semi_supervised import overlay_values

from facecore.morphable import load as load_model
from facecore.systems import solved_heads
from facecore.systems.joint_recognition_training import JointRecognitionTrainer
from facecore.systems.recognition_training import RecognitionTrainer
from facecore.systems.semi_supervised_config import PRESETS, SemiSupervisedConfig
from facecore.systems.semi_supervised_training import STAGES, SemiSupervisedTrainer
from facecore.systems.weakly_supervised_training import WeaklySupervisedTrainer
from facecore.training import distributed
from facecore.training.config import overlay

STEPS = 20


def settings(**stages: int) -> SemiSupervisedConfig:
    """Every stage, photographs of persons of which one is unknown in some batches, nothing that crosses the batch."""
    iterations = {"decoder_iterations": 4, "encoder_iterations": 4, "warmup_iterations": 2, "hybrid_iterations": 6}
    values = overlay_values("unused", iterations | {"texture_iterations": 4, "history_size": 6} | stages)
    values["model"] |= {"albedo_decoder": "both", "encoder_norm": "group"}
    values["data"] = {"labelled_batch": 8, "photo_batch": 8}
    values["stages"] |= {"encoder_batch": 8, "encoder_precision": "float32", "critic_learning_rate": 5e-5}
    values["stages"] |= {"learning_rate": 5e-5}
    values["world"] = {"persons": 5, "pictures": 3}
    return overlay(PRESETS["ablation"], values)


def make(config: SemiSupervisedConfig) -> SemiSupervisedTrainer:
    """A trainer whose second half of the photographs is of nobody known."""
    trainer = SemiSupervisedTrainer(config, load_model("procedural", num_vertices=2500), None)
    assert trainer.photos is not None
    trainer.photos.identity[9:] = -1
    return trainer


def gradients(trainer: SemiSupervisedTrainer) -> dict[str, torch.Tensor]:
    """Of each stage's first batch with the weights as they are at first; nothing moves."""
    result = {}
    trained = [p for p in trainer.system.parameters() if p.requires_grad]
    for stage in STAGES:
        trainer._prepare(stage)
        trainer.optimizer.zero_grad(set_to_none=True)
        trainer._add_gradients(stage, trainer.schedule.first(stage))
        for name, parameter in trainer.objective.named_parameters():
            if parameter.grad is not None:
                result[f"{stage}/{name}"] = parameter.grad.clone()
    for parameter in trained:  # stage C freezes some
        parameter.requires_grad_(True)
    return result


def losses(trainer: SemiSupervisedTrainer) -> list[dict[str, float]]:
    """Of STEPS steps."""
    return [{name: float(v) for name, v in trainer.step(i).items()} for i in range(STEPS)]


def features_of_heads() -> tuple[torch.Tensor, torch.Tensor]:
    """With batch normalisation: features of the same renders in every process when the heads are solved, and after."""
    stages = {"decoder_iterations": 0, "encoder_iterations": 2, "texture_iterations": 0}
    trainer = make(overlay(settings(**stages), {"model": {"encoder_norm": "batch", "albedo_decoder": "graph"}}))
    images = trainer.renders.batch(torch.arange(4)).image
    seen = []
    solve = solved_heads.solve_code_heads

    def watched(system, codes_of, error, batches):
        with torch.no_grad():
            seen.append(distributed.gathered(system.encode(images).features))
        return solve(system, codes_of, error, batches)

    solved_heads.solve_code_heads = watched
    for iteration in range(2):
        trainer.step(iteration)
    with torch.no_grad():
        after = trainer.system.eval().encode(images).features
    (at_solving,) = seen
    return at_solving, after


def statistics(network: torch.nn.Module) -> torch.Tensor:
    """Of every process: running means of the network's batch normalisation, [processes, C]."""
    means = [part.running_mean for part in network.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    return distributed.gathered(torch.cat(means))


def places_of_persons() -> dict[str, torch.Tensor]:
    """Where each process of a recognition training puts its persons; statistics before and after that."""
    model, stages = {"architecture": "small-recognition"}, {"coefficient_iterations": 2, "iterations": 1}
    config = test_recognition_training.config(model=model, stages=stages)
    trainer = RecognitionTrainer(config, load_model("procedural", num_vertices=2500), None)
    for iteration in range(2):
        trainer.step(iteration)
    before = statistics(trainer.network)
    trainer._place_persons()
    result = {"before": before, "after": statistics(trainer.network)}
    return result | {"found": distributed.gathered(trainer.objective.persons.weight)}


def sets_by_yaw() -> dict[str, torch.Tensor]:
    """The sets that each process of a training of system 2 draws; statistics before and after it looked at yaws."""
    config = tiny_weak.config()
    trainer = WeaklySupervisedTrainer(config, load_model("procedural", num_vertices=2500), None)
    for iteration in range(2):
        trainer.step(iteration)  # the first ends with heads that are solved on one process's statistics
    before = statistics(trainer.system.encoder)
    sets = trainer.sets().sample(torch.Generator().manual_seed(0), 3)
    result = {"before": before, "after": statistics(trainer.system.encoder)}
    return result | {"found": distributed.gathered(sets)}


def softmax_over_persons() -> dict[str, torch.Tensor]:
    """The one that each process of a training of system 1 begins phase III with; statistics before and after that."""
    stages = {"classifier": "solved", "encoder_iterations": 2}
    config = tiny_joint.config(model=tiny_joint.POINTS["model"], stages=stages)
    trainer = JointRecognitionTrainer(config, load_model("procedural", num_vertices=2500), None)
    for iteration in range(2):
        trainer.step(iteration)
    before = statistics(trainer.system.encoder)
    trainer._solve_classifier()
    result = {"before": before, "after": statistics(trainer.system.encoder)}
    return result | {"found": distributed.gathered(trainer.objective.classifier.weight)}


def main(path: str) -> None:
    distributed.start(torch.device("cpu"))
    trainer = make(settings())
    own = {"gradients": gradients(trainer), "losses": losses(trainer)}
    own["state"] = trainer.objective.state_dict()
    own["features"] = features_of_heads()
    own["persons"], own["sets"], own["softmax"] = places_of_persons(), sets_by_yaw(), softmax_over_persons()
    if distributed.is_first():
        torch.save(own, path)
    distributed.finish()


if __name__ == "__main__":
    main(sys.argv[1])
