"""The claims of the weakly supervised paper as trainings that differ in one thing (METHODS 8.3: 9 to 11)."""

from __future__ import annotations

from typing import Any

import torch

from facecore.data import LabelledRenders, PersonRenders
from facecore.evaluation.alignment import vertex_error
from facecore.evaluation.held_out import evaluate_held_out, held_out_errors
from facecore.nn import aggregate
from facecore.systems import seeds
from facecore.systems.weakly_supervised_config import WeaklySupervisedConfig, WeakWeights
from facecore.systems.weakly_supervised_training import NAME, WeaklySupervisedTrainer
from facecore.training.ablation import Ablation, Comparison, Measures
from facecore.training.config import merged

NUM_RENDERS = 200
NUM_PERSONS = 40  # of claim 11; each of as many pictures as a set has
BASE, SCALAR = "all", "scalar confidence"
# Variants branch from an R-Net that knows where points, pose and light are, and of coefficients what landmarks and the
# prior say, with the paper's weight of L_coef: what these become is then the work of the losses that are compared.
WARMUP = {
    "stages": {"weak_iterations": 0, "confidence_iterations": 0, "head_renders": 0},
    "weights": {"labelled_code": 0.0, "labelled_prior": WeakWeights.coefficient},
}
BRANCH: dict[str, Any] = {"stages": {"encoder_iterations": 0, "head_renders": 0}}
NO_SETS: dict[str, Any] = {"stages": {"confidence_iterations": 0}}  # C-Net changes nothing of R-Net
VARIANTS: dict[str, dict[str, Any]] = {
    BASE: {},
    "perception alone": NO_SETS
    | {"weights": {"photometric": 0.0, "landmark": 0.0, "flattening": 0.0, "surface_points": 0.0}},
    "no perception": NO_SETS | {"weights": {"perception": 0.0}},
    "no pixels": NO_SETS | {"weights": {"photometric": 0.0, "flattening": 0.0}},
    "no attention": NO_SETS | {"weights": {"attention": "none"}},
    SCALAR: {"model": {"confidence": "scalar"}},
}
COMPARISONS = (
    Comparison("9", "perception alone is worse than all losses", "neutral_mm", BASE, "perception alone"),
    Comparison("9", "perception adds to pixels and landmarks", "neutral_mm", BASE, "no perception"),
    Comparison("9", "pixels add to landmarks and perception", "neutral_mm", BASE, "no pixels"),
    Comparison("10", "skin attention helps where something hides the face", "occluded_mm", BASE, "no attention"),
    Comparison("11", "a confidence for each coefficient beats one for all", "aggregated_mm", BASE, SCALAR),
    Comparison("11", "which beats the average", "aggregated_mm", SCALAR, SCALAR, "average_mm"),
)


def ablation(config: WeaklySupervisedConfig) -> Ablation:
    """The trainings of METHODS 8.3 over a configuration that has all stages and a recognition network."""
    variants = {name: merged(BRANCH, changes) for name, changes in VARIANTS.items()}
    return Ablation(NAME, WARMUP, variants, COMPARISONS)


@torch.no_grad()
def measure(trainer: WeaklySupervisedTrainer, count: int = NUM_RENDERS) -> Measures:
    """Every measure of the comparisons, means over held-out renders of the world, turned as far as the photographs;
    lower is better in each.

    shape_mm, neutral_mm, albedo, shading, landmark_percent: evaluate_held_out. occluded_mm: neutral_mm of renders that
    all have something in front of the face. average_mm: error of the identity shape that the plain mean of a person's
    pictures makes; aggregated_mm: that C-Net makes, where there is one.
    """
    trainer.system.eval()
    config, arguments = trainer.config, (trainer.system.reconstruct, trainer.world)
    size, seed = config.model.image_size, config.run.seed + seeds.HELD_OUT
    renders = LabelledRenders(trainer.world, size, size, seed, yaw=config.world.yaw)
    result = evaluate_held_out(*arguments, renders, trainer.baseline, count)
    hidden = LabelledRenders(trainer.world, size, size, seed, yaw=config.world.yaw, occluders=1.0)
    occluded = held_out_errors(*arguments, hidden, trainer.baseline, count)
    result["occluded_mm"] = float(occluded["neutral_mm"].mean())
    result["average_mm"] = aggregated_error(trainer, confident=False)
    if trainer.system.confidence_net is not None:
        result["aggregated_mm"] = aggregated_error(trainer, confident=True)
    return result


@torch.no_grad()
def aggregated_error(trainer: WeaklySupervisedTrainer, persons: int = NUM_PERSONS, *, confident: bool) -> float:
    """Claim 11, mm: over sets of renders whose yaws are drawn from the whole range; by C-Net, or their plain mean."""
    system, world, size = trainer.system, trainer.world, trainer.config.model.image_size
    pictures = trainer.config.data.photos_per_identity
    seed = trainer.config.run.seed + seeds.ABLATION_PERSONS
    renders = PersonRenders(world, size, size, seed, pictures=pictures, yaw=trainer.config.world.yaw)
    errors = []
    for person in range(persons):
        batch = renders.batch(person * pictures + torch.arange(pictures))
        encoding = system.encode(batch.image)
        identity = system.morphable.prior.unwhiten("identity", encoding.codes.identity)
        weight = system.confidence(encoding.maps) if confident else torch.ones_like(identity)
        shape = system.morphable.shape(aggregate(identity, weight)[None])
        errors.append(vertex_error(shape, world.shape(batch.identity[:1])))
    return float(torch.cat(errors).mean())
