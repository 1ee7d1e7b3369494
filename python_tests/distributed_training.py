"""One of the processes of test_distributed: gradients of every stage, then losses of twenty steps, to a file."""

from __future__ import annotations

import sys

import torch
from test_semi_supervised import overlay_values

from facecore.morphable import load as load_model
from facecore.systems.semi_supervised_config import PRESETS, SemiSupervisedConfig
from facecore.systems.semi_supervised_training import STAGES, SemiSupervisedTrainer
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
    for stage in STAGES:
        trainer._prepare(stage)
        trainer.optimizer.zero_grad(set_to_none=True)
        trainer._add_gradients(stage, trainer.schedule.first(stage))
        for name, parameter in trainer.objective.named_parameters():
            if parameter.grad is not None:
                result[f"{stage}/{name}"] = parameter.grad.clone()
    trainer.system.requires_grad_(True)
    return result


def losses(trainer: SemiSupervisedTrainer) -> list[dict[str, float]]:
    """Of STEPS steps."""
    return [{name: float(v) for name, v in trainer.step(i).items()} for i in range(STEPS)]


def main(path: str) -> None:
    distributed.start(torch.device("cpu"))
    trainer = make(settings())
    own = {"gradients": gradients(trainer), "losses": losses(trainer)}
    own["state"] = trainer.objective.state_dict()
    if distributed.is_first():
        torch.save(own, path)
    distributed.finish()


if __name__ == "__main__":
    main(sys.argv[1])
