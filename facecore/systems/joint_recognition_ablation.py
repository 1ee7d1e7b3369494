"""Claims 7 and 8 of METHODS 8.3: what joint training and fits of several photographs are for (Liu et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from facecore.data import PersonRenders
from facecore.evaluation.alignment import vertex_error
from facecore.evaluation.held_out import evaluate_held_out
from facecore.morphable import MorphableModel
from facecore.render import pixel_to_ndc
from facecore.systems import seeds
from facecore.systems.joint_recognition_config import JointRecognitionConfig
from facecore.systems.joint_recognition_training import NAME, JointRecognitionTrainer
from facecore.systems.landmark_fit import SIGMA, fit_landmarks
from facecore.training.ablation import Ablation, Comparison, Measures
from facecore.training.config import merged

NUM_RENDERS = 200
VERIFIED_PERSONS, VERIFIED_PICTURES = 200, 4
FITTED_PERSONS, FITTED_PICTURES = 40, (1, 2, 5, 10)

BASE = "all"
CODES_ALONE = "phases I and II"
# Variants branch from phases I and II, which know coefficients alone.
WARMUP: dict[str, Any] = {"stages": {"joint_iterations": 0, "final_iterations": 0}}
BRANCH: dict[str, Any] = {"stages": {"encoder_iterations": 0}}
COMPARISONS = (
    Comparison("7", "joint training tells persons apart better", "verification_error", BASE, CODES_ALONE),
    Comparison("7", "without losing shape", "shape_mm", BASE, CODES_ALONE, no_worse=True),
    Comparison("8", "ten photographs of one identity tell more than one", "fit_10_mm", BASE, BASE, "fit_1_mm"),
    Comparison("8", "and than the mean of ten separate fits", "fit_10_mm", BASE, BASE, "fit_mean_of_10_mm"),
)


def ablation(config: JointRecognitionConfig) -> Ablation:
    """The trainings over a configuration that has all phases: phase III, or as many steps more of phase I, which end
    with heads that are solved again, if the warm-up's were, on persons whom the warm-up did not see."""
    stages = config.stages
    longer = {
        "skipped_persons": stages.encoder_iterations * config.data.labelled_batch,
        "encoder_iterations": stages.joint_iterations + stages.final_iterations,
        "joint_iterations": 0,
        "final_iterations": 0,
        "encoder_learning_rate": stages.learning_rate,
    }
    variants = {BASE: merged(BRANCH, {}), CODES_ALONE: {"stages": longer}}
    return Ablation(NAME, WARMUP, variants, COMPARISONS)


@torch.no_grad()
def measure(
    trainer: JointRecognitionTrainer,
    count: int = NUM_RENDERS,
    verified: int = VERIFIED_PERSONS,
    fitted: int = FITTED_PERSONS,
) -> Measures:
    """Every measure of the comparisons, of held-out persons; lower is better in each that is compared.

    shape_mm, neutral_mm and others: evaluate_held_out. verification_error: 100 - AUC, percent, by c_Id. fit_M_mm,
    fit_mean_of_10_mm: errors_of_fits, which the training does not enter.
    """
    trainer.system.eval()
    arguments = (trainer.system.reconstruct, trainer.world, trainer.held_out, trainer.baseline)
    result = evaluate_held_out(*arguments, count, aligned=True)
    size, seed = trainer.config.model.image_size, trainer.config.run.seed + seeds.ABLATION_PERSONS
    persons = PersonRenders(trainer.world, size, size, seed, pictures=VERIFIED_PICTURES)
    result["verification_error"] = 100 - trainer.verification(persons, verified)["auc"]
    return result | errors_of_fits(trainer.world, size, seed, fitted)


def errors_of_fits(model: MorphableModel, size: int, seed: int, persons: int) -> Measures:
    """Claim 8: mean error in mm of the identity shapes of random persons, by the number of photographs fitted together.

    fit_M_mm: one identity for the first M photographs, whose landmarks are off by 1 % of their box, as fit_landmarks
    takes them to be; fit_mean_of_10_mm: the mean of ten identities, each of one photograph; fit_rounds: rounds that the
    ten together took.
    """
    errors: dict[str, list[torch.Tensor]] = {}
    rounds = 0
    for truth, points in persons_with_landmarks(model, size, seed, persons):
        together = {count: fit_landmarks(model, points[:count]) for count in FITTED_PICTURES}
        alone = torch.stack([fit_landmarks(model, points[k : k + 1]).identity for k in range(len(points))])
        found = {f"fit_{count}_mm": fit.identity for count, fit in together.items()}
        found[f"fit_mean_of_{len(points)}_mm"] = alone.mean(0)
        for name, identity in found.items():
            errors.setdefault(name, []).append(vertex_error(model.shape(identity[None]), truth))
        rounds += together[len(points)].iterations
    return {name: float(torch.cat(values).mean()) for name, values in errors.items()} | {"fit_rounds": rounds / persons}


def persons_with_landmarks(
    model: MorphableModel, size: int, seed: int, persons: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Of each person the neutral shape [1, V, 3], mm; 68 landmarks with noise, NDC [M, 68, 2]."""
    pictures = max(FITTED_PICTURES)
    renders = PersonRenders(model, size, size, seed, pictures=pictures)
    generator = torch.Generator().manual_seed(seed)
    for person in range(persons):
        batch = renders.batch(person * pictures + torch.arange(pictures))
        points = pixel_to_ndc(batch.landmarks, size, size).cpu()
        box = (points.amax(1) - points.amin(1)).mean(1)[:, None, None]
        noise = SIGMA * box * torch.randn(points.shape, generator=generator)
        yield model.shape(batch.identity[:1]), points + noise
