"""The claims of the weakly supervised paper as trainings that differ in one thing (METHODS 8.3: 9 to 11)."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from facecore.data import LabelledRenders
from facecore.data.rendered_photos import as_photographs
from facecore.data.sweep import SweepRenders
from facecore.evaluation.alignment import vertex_error
from facecore.evaluation.held_out import evaluate_held_out, held_out_errors
from facecore.nn import aggregate
from facecore.systems import seeds
from facecore.systems.shared_terms import weighted_total
from facecore.systems.weakly_supervised import WeakCodes
from facecore.systems.weakly_supervised_config import WeaklySupervisedConfig
from facecore.systems.weakly_supervised_training import NAME, WeaklySupervisedTrainer
from facecore.training.ablation import Ablation, Comparison, Measures
from facecore.training.config import merged

NUM_RENDERS = 200
NUM_PERSONS = 100  # of claim 11, each seen from SET_YAWS
SET_YAWS = (-80.0, -40.0, 0.0, 40.0, 80.0)  # degrees, of the paper's sweep over poses (METHODS 8.1)
NUM_FITTED, FIT_STEPS, FIT_RATE = 20, 100, 0.05  # pictures whose codes are fitted; Adam
NUM_HIDDEN = 100  # the same under occlusion where L_per, which takes most of a fit's time, is off
POSE_SHARE = 0.2  # of that rate: its numbers are radians and 100 mm, the others standard deviations
BASE, SCALAR, ELEMENTWISE = "all", "scalar confidence", "elementwise confidence"
WARMUP = {"stages": {"weak_iterations": 0, "confidence_iterations": 0}}
BRANCH: dict[str, Any] = {"stages": {"encoder_iterations": 0, "head_renders": 0, "confidence_iterations": 0}}
# C-Net over R-Net as the warm-up leaves it, which knows faces that are turned by 45 degrees at most
SETS_ALONE: dict[str, Any] = {"stages": {"encoder_iterations": 0, "head_renders": 0, "weak_iterations": 0}}
ONE_FOR_ALL: dict[str, Any] = {"model": {"confidence": "scalar"}}
# Where R-Net errs in the pose of profiles, their points may fit best with an identity that errs with it.
NO_LANDMARKS: dict[str, Any] = {"weights": {"landmark": 0.0}}
LABELLED: dict[str, Any] = {"stages": {"confidence_pictures": "renders"}}
NO_PIXELS = {"photometric": 0.0, "flattening": 0.0}
VARIANTS: dict[str, dict[str, Any]] = {
    BASE: BRANCH,
    "perception alone": merged(BRANCH, {"weights": NO_PIXELS | {"landmark": 0.0, "surface_points": 0.0}}),
    "no perception": merged(BRANCH, {"weights": {"perception": 0.0}}),
    "perception over photographs": merged(BRANCH, {"weights": {"perception_background": "photo"}}),
    "no pixels": merged(BRANCH, {"weights": NO_PIXELS}),
    "no attention": merged(BRANCH, {"weights": {"attention": "none"}}),
    "no perception, no attention": merged(BRANCH, {"weights": {"perception": 0.0, "attention": "none"}}),
    ELEMENTWISE: SETS_ALONE,
    SCALAR: merged(SETS_ALONE, ONE_FOR_ALL),
    f"{ELEMENTWISE}, no landmarks": merged(SETS_ALONE, NO_LANDMARKS),
    f"{SCALAR}, no landmarks": merged(SETS_ALONE, NO_LANDMARKS, ONE_FOR_ALL),
    f"{ELEMENTWISE}, labelled": merged(SETS_ALONE, LABELLED),
    f"{SCALAR}, labelled": merged(SETS_ALONE, LABELLED, ONE_FOR_ALL),
}
LOSS_SETS = (
    ("perception alone is worse than all losses", BASE, "perception alone"),
    ("perception adds to pixels and landmarks", BASE, "no perception"),
    ("perception over the photograph adds to pixels and landmarks", "perception over photographs", "no perception"),
    ("pixels add to landmarks and perception", BASE, "no pixels"),
)
FITTED = "; codes fitted to each picture"
TEACHERS = (("", ""), (", no landmarks", "; C-Net without L_lan"), (", labelled", "; C-Net on labelled sets"))
COMPARISONS = (
    *(Comparison("9", says, "neutral_mm", better, worse) for says, better, worse in LOSS_SETS),
    *(Comparison("9", says + FITTED, "fitted_mm", better, worse) for says, better, worse in LOSS_SETS),
    Comparison("10", "skin attention helps where something hides the face", "occluded_mm", BASE, "no attention"),
    Comparison(
        "10",
        "skin attention helps where something hides the face" + FITTED,
        "fitted_occluded_mm",
        BASE,
        "no attention",
    ),
    Comparison(
        "10",
        "skin attention helps where something hides the face, without L_per, which sees what hides it" + FITTED,
        "fitted_hidden_mm",
        "no perception",
        "no perception, no attention",
    ),
    *(
        comparison
        for name, says in TEACHERS
        for comparison in (
            Comparison(
                "11",
                "a confidence for each coefficient beats one for all" + says,
                "aggregated_mm",
                ELEMENTWISE + name,
                SCALAR + name,
            ),
            Comparison(
                "11", "which beats the average" + says, "aggregated_mm", SCALAR + name, SCALAR + name, "average_mm"
            ),
        )
    ),
    Comparison("11", "profiles are trusted less", "trust_at_80", ELEMENTWISE, ELEMENTWISE, "trust_at_0"),
)


def ablation(config: WeaklySupervisedConfig) -> Ablation:
    """The trainings of METHODS 8.3 over a configuration that has all stages and a recognition network."""
    return Ablation(NAME, WARMUP, VARIANTS, COMPARISONS)


@torch.no_grad()
def measure(trainer: WeaklySupervisedTrainer, count: int = NUM_RENDERS, persons: int = NUM_PERSONS) -> Measures:
    """What the comparisons need of a variant, means over held-out renders of the world.

    With C-Net: `set_errors`. Without, of renders that turn as far as the photographs: evaluate_held_out (the light of
    its mean face is that of renders which turn less); occluded_mm, its neutral_mm where all have something in front of
    the face; fitted_mm, fitted_occluded_mm: `fitted_error` of the first NUM_FITTED of both, and without L_per
    fitted_hidden_mm, of the first NUM_HIDDEN of the latter.
    """
    trainer.system.eval()
    if trainer.system.confidence_net is not None:
        return set_errors(trainer, persons)
    config, arguments = trainer.config, (trainer.system.reconstruct, trainer.world)
    size, seed = config.model.image_size, config.run.seed + seeds.HELD_OUT
    renders = LabelledRenders(trainer.world, size, size, seed, yaw=config.world.yaw)
    hidden = LabelledRenders(trainer.world, size, size, seed, yaw=config.world.yaw, occluders=1.0)
    result = evaluate_held_out(*arguments, renders, trainer.baseline, count)
    occluded = held_out_errors(*arguments, hidden, trainer.baseline, count)
    result["occluded_mm"] = float(occluded["neutral_mm"].mean())
    result["fitted_mm"] = fitted_error(trainer, renders, min(count, NUM_FITTED))
    result["fitted_occluded_mm"] = fitted_error(trainer, hidden, min(count, NUM_FITTED))
    if not config.weights.perception:
        result["fitted_hidden_mm"] = fitted_error(trainer, hidden, min(count, NUM_HIDDEN))
    return result


@torch.enable_grad()
def fitted_error(trainer: WeaklySupervisedTrainer, renders: LabelledRenders, count: int) -> float:
    """Identity shape, mm, of codes that go on from what R-Net says of each picture, down the losses of its training.

    R-Net cannot learn in minutes all that its losses know: this is what they say by themselves.
    """
    objective, system, weights = trainer.objective, trainer.system, trainer.config.weights
    labelled = renders.batch(torch.arange(count))
    photos = as_photographs(labelled, torch.arange(count))
    with torch.no_grad():
        codes = system.encode(labelled.image).codes
    leaves = {field.name: getattr(codes, field.name).requires_grad_() for field in dataclasses.fields(codes)}
    rates = {name: FIT_RATE * (POSE_SHARE if name == "pose" else 1.0) for name in leaves}
    optimizer = torch.optim.Adam([{"params": [leaf], "lr": rates[name]} for name, leaf in leaves.items()])
    for _ in range(FIT_STEPS):
        terms = objective.code_terms(WeakCodes(**leaves), photos, weights)
        optimizer.zero_grad()
        weighted_total(terms, weights).backward()
        optimizer.step()
    with torch.no_grad():
        shape = system.morphable.shape(system.morphable.prior.unwhiten("identity", leaves["identity"]))
        return float(vertex_error(shape, trainer.world.shape(labelled.identity)).mean())


@torch.no_grad()
def set_errors(trainer: WeaklySupervisedTrainer, persons: int = NUM_PERSONS) -> Measures:
    """Claim 11, over persons seen from SET_YAWS, in one light, with one expression and nothing in front of the face.

    aggregated_mm: error of the identity shape that C-Net makes of a set; average_mm: that its plain mean makes.
    trust_at_0, trust_at_80: confidence of a picture over the mean of its set, mean over coefficients and persons.
    """
    system, world, size = trainer.system, trainer.world, trainer.config.model.image_size
    views = len(SET_YAWS)
    renders = SweepRenders(world, size, size, trainer.config.run.seed + seeds.ABLATION_PERSONS, yaws=SET_YAWS)
    rows = []
    for person in range(persons):
        batch = renders.batch(person * views + torch.arange(views))
        encoding = system.encode(batch.image)
        identity = system.morphable.prior.unwhiten("identity", encoding.codes.identity)
        confidence = system.confidence(encoding.maps)
        codes = torch.stack([aggregate(identity, weight) for weight in (confidence, torch.ones_like(confidence))])
        errors = vertex_error(system.morphable.shape(codes), world.shape(batch.identity[:1]).expand(2, -1, -1))
        trust = (confidence / confidence.mean(0)).mean(1)
        rows.append(torch.stack([*errors, trust[views // 2], trust[[0, -1]].mean()]))
    names = ("aggregated_mm", "average_mm", "trust_at_0", "trust_at_80")
    return dict(zip(names, torch.stack(rows).mean(0).tolist()))
