"""Claims 15 and 16 of METHODS 8.3: what each loss of Genova et al. 2018 is for, and how steady the features are."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from facecore.evaluation.claims_regression import drift_by_blur, drift_by_occlusion, drift_by_yaw
from facecore.systems.unsupervised_regression_config import RegressionConfig, RegressionWeights
from facecore.systems.unsupervised_regression_training import NAME, UnsupervisedRegressionTrainer
from facecore.training.ablation import Ablation, Comparison, Measures
from facecore.training.config import merged

NUM_RENDERS = 200
SEEN_FACES, DRIFT_FACES = 40, 40  # of claim 15's last part and of claim 16
BLUR, COVERED, TURNED, FAR_TURNED = 2.0, 0.3, 45.0, 90.0  # pixels, share of the face from below, degrees
BASE, PAPERS = "all", "the paper's weights"
OTHER = "another_person"  # 1, the unit of claim 16
# Variants branch from the end of stage 1, which has none of the losses that are compared.
WARMUP: dict[str, Any] = {"stages": {"mixed_iterations": 0}}
BRANCH: dict[str, Any] = {"stages": {"synthetic_iterations": 0}}
# Claim 15 needs weights under which each loss counts, those of the preset; claim 16 is looked at under both.
VARIANTS: dict[str, dict[str, Any]] = {
    BASE: {},
    "no batch distribution": {"weights": {"batch": 0.0}},
    "no loopback": {"weights": {"loop": 0.0}},
    PAPERS: {"weights": dataclasses.asdict(RegressionWeights())},
    "one frontal view": {"stages": {"views": 1, "frontal": True}},  # figure 3 of the paper
}


def _steady(variant: str, where: str = "") -> tuple[Comparison, ...]:
    """Claim 16, of one variant alone."""
    return (
        Comparison("16", f"a blur moves a face less than another person{where}", "blurred", variant, variant, OTHER),
        Comparison("16", f"so does what covers the chin{where}", "covered", variant, variant, OTHER),
        Comparison("16", f"so does a turn of 45 degrees{where}", "turned", variant, variant, OTHER),
        Comparison("16", f"which moves it less than one of 90{where}", "turned", variant, variant, "far_turned"),
    )


COMPARISONS = (
    Comparison("15", "batch distribution keeps outputs in model space", "distribution", BASE, "no batch distribution"),
    Comparison("15", "loopback tames exaggeration", "shape_rms", BASE, "no loopback"),
    Comparison("15", "also in millimetres of the identity shape", "neutral_mm", BASE, "no loopback"),
    Comparison("15", "several views make it robust to pose and light", "shape_view_share", BASE, "one frontal view"),
    *_steady(PAPERS),
    *_steady(BASE, ", with the preset's weights"),
)


def ablation(config: RegressionConfig) -> Ablation:
    """The trainings over a configuration that has both stages and a recognition network."""
    variants = {name: merged(BRANCH, changes) for name, changes in VARIANTS.items()}
    return Ablation(NAME, WARMUP, variants, COMPARISONS)


@torch.no_grad()
def measure(trainer: UnsupervisedRegressionTrainer, count: int = NUM_RENDERS) -> Measures:
    """The trainer's validation on `count` held-out renders; lower is better in each that is compared.

    shape_rms: of whitened shape coefficients; neutral_mm: of the identity shape that they make. shape_view_share: how
    much of the variance of shape coefficients pose and light make. distribution: `batch_distribution_loss` of shape and
    albedo coefficients together, as whitened. blurred, covered, turned, far_turned: `steadiness`; another_person: 1,
    their unit.
    """
    result = trainer.measures(count, SEEN_FACES)
    result["distribution"] = result["shape_distribution"] + result["texture_distribution"]
    return result | steadiness(trainer) | {OTHER: 1.0}


def steadiness(trainer: UnsupervisedRegressionTrainer, faces: int = DRIFT_FACES) -> Measures:
    """Claim 16: how far the coefficients of random faces move, over how far they are from the next face's: under a
    blur, with the lower face covered, and turned to the side."""
    system, views = trainer.system, trainer.unseen

    def encode(images: torch.Tensor, landmarks: torch.Tensor) -> torch.Tensor:
        return torch.cat(system.encode(images, landmarks), 1)

    seen = views.faces(torch.arange(faces))
    (blurred,) = drift_by_blur(encode, seen.image, seen.landmarks, (BLUR,))
    (covered,) = drift_by_occlusion(encode, seen.image, seen.landmarks, (COVERED,))
    turned, far_turned = drift_by_yaw(encode, views, faces, (TURNED, FAR_TURNED))
    rows = {"blurred": blurred, "covered": covered, "turned": turned, "far_turned": far_turned}
    return {name: float(row["of_persons"]) for name, row in rows.items()}
