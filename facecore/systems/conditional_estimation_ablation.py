"""The claims of the conditional estimation paper as trainings that differ in one thing (METHODS 8.3: 12 to 14)."""

from __future__ import annotations

from typing import Any

import torch

from facecore.data import LabelledBatch
from facecore.evaluation import claims, claims_conditional
from facecore.evaluation.held_out import evaluate_held_out, visible_normals
from facecore.ops import sh_shading, uv_sample
from facecore.systems.conditional_estimation_config import ConditionalEstimationConfig
from facecore.systems.conditional_estimation_training import NAME, ConditionalEstimationTrainer
from facecore.training.ablation import Ablation, Comparison, Measures
from facecore.training.config import merged

BATCH = 20
NUM_RENDERS = 200  # held-out faces, in renders of one picture each

BASE = "all"
WARMUP = {"stages": {"iterations": 0}}
BRANCH = {"stages": {"warmup_iterations": 0}}
AGAIN = ("uncoupled", "warmed up again")  # the warm-up before the clips
VARIANTS: dict[str, dict[str, Any]] = {
    BASE: {},
    "uncoupled": {"model": {"coupled": False}},
    "warmed up again": {},
    "consistency": {"weights": {"constraint": "consistency"}},
    "symmetry": {"weights": {"constraint": "symmetry"}},
    "none": {"weights": {"constraint": "none"}},
    "all exchanges": {"weights": {"exchange": "all"}},
}

COMPARISONS = (
    Comparison("12", "estimates that are coupled draw the picture better", "photometric", BASE, "uncoupled"),
    Comparison("12", "and find a better reflectance", "albedo_error", BASE, "uncoupled"),
    Comparison("12", "so they do after as many labelled steps", "photometric", "warmed up again", "uncoupled"),
    Comparison("12", "and find a better reflectance then", "albedo_error", "warmed up again", "uncoupled"),
    Comparison("13", "without a constraint the reflectance copies the picture", "copying", BASE, "none"),
    Comparison("13", "and the light loses its direction", "lost_direction", BASE, "none"),
    Comparison("13", "both constraints are better than none", "albedo_error", BASE, "none"),
    Comparison("13", "than consistency alone", "albedo_error", BASE, "consistency"),
    Comparison("13", "and than symmetry alone", "albedo_error", BASE, "symmetry"),
    Comparison("14", "one exchange a frame draws less than all of them", "renders", BASE, "all exchanges"),
    Comparison("14", "and is no worse", "photometric", BASE, "all exchanges", no_worse=True),
)


def ablation(config: ConditionalEstimationConfig) -> Ablation:
    """The trainings of METHODS 5, from a warm-up that all share: they differ in what they learn on clips.

    The shape network of the uncoupled variant sees pictures that are not cropped to the canonical view: it repeats the
    warm-up with its own inputs, and so sees the labels of the others twice; one coupled variant repeats it, too.
    Reflectance and light networks begin with random weights in all.
    """
    again = {"warmup_iterations": config.stages.warmup_iterations}
    variants = {
        name: merged(BRANCH, {"stages": again} if name in AGAIN else {}, changes) for name, changes in VARIANTS.items()
    }
    return Ablation(NAME, WARMUP, variants, COMPARISONS)


@torch.no_grad()
def measure(trainer: ConditionalEstimationTrainer, count: int = NUM_RENDERS) -> Measures:
    """Every measure of the comparisons, means over held-out renders; lower is better in each.

    photometric: each face drawn in its own reflectance, in the mask, of 255; what it leaves uncovered is black.
    albedo_error: of the reflectance at the vertices, up to one scale. copying: correlation of A and T over the visible
    texels. lost_direction: how much of the true light's energy share of bands 1 and 2 the light lacks. shading_error:
    `claims.shading_error_up_to_scale`. renders: pictures that a training step draws for each frame, counted at the
    first one. The others:
    evaluate_held_out.
    """
    trainer.system.eval()
    held_out = evaluate_held_out(trainer.system.reconstruct, trainer.world, trainer.held_out, trainer.baseline, count)
    rows: dict[str, list[torch.Tensor]] = {}
    for start in range(0, count, BATCH):
        batch = trainer.held_out.batch(torch.arange(start, min(start + BATCH, count)))
        for name, value in _of_pictures(trainer, batch).items():
            rows.setdefault(name, []).append(value.float())
    measures = {name: float(torch.cat(parts).mean()) for name, parts in rows.items()}
    return measures | {"renders": renders_per_frame(trainer)} | held_out


def _of_pictures(trainer: ConditionalEstimationTrainer, batch: LabelledBatch) -> dict[str, torch.Tensor]:
    """One number for each picture."""
    system, world = trainer.system, trainer.world
    estimate = system(batch.image)
    unwrapped, visible = system.unwrap(batch.image, estimate.vertices, estimate.camera)
    rendering = system.render(estimate)
    truth = world.shape(batch.identity, batch.expression)
    normals = visible_normals(truth, world, batch)
    covered = (normals.square().sum(-1) > 0) & (batch.mask > 0)
    light, true_light = estimate.sh_coefficients, batch.sh_coefficients
    return {
        "photometric": claims.photometric_error(rendering.image, batch.image, batch.mask),
        "albedo_error": claims_conditional.albedo_error_up_to_scale(
            uv_sample(estimate.reflectance, system.uv), world.albedo(batch.albedo, clamp=True)
        ),
        "copying": claims_conditional.texture_correlation(estimate.reflectance, unwrapped, visible),
        "lost_direction": (1 - claims.directional_share_ratio(light, true_light)).clamp_min(0),
        "shading_error": claims.shading_error_up_to_scale(
            sh_shading(normals, light), sh_shading(normals, true_light), covered
        ),
    }


@torch.no_grad()
def renders_per_frame(trainer: ConditionalEstimationTrainer) -> float:
    """Claim 14: pictures that a training step draws for each frame, counted; weights stay as they are."""
    trainer.system.eval()
    batch, exchange = trainer.batch(trainer.total_iterations - 1)
    with claims_conditional.counted_renders(trainer.system.renderer) as drawn:
        trainer.objective(batch, exchange)
    return drawn.pictures / len(batch)
