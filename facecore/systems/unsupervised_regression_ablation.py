"""Claim 15 of METHODS 8.3 as trainings that differ in one thing: what each loss of Genova et al. 2018 is for."""

from __future__ import annotations

from typing import Any

import torch

from facecore.systems.unsupervised_regression_config import RegressionConfig
from facecore.systems.unsupervised_regression_training import NAME, UnsupervisedRegressionTrainer
from facecore.training.ablation import Ablation, Comparison, Measures
from facecore.training.config import merged

NUM_RENDERS = 200
BASE = "all"
# Variants branch from the end of stage 1, which has none of the losses that are compared.
WARMUP: dict[str, Any] = {"stages": {"mixed_iterations": 0}}
BRANCH: dict[str, Any] = {"stages": {"synthetic_iterations": 0}}
VARIANTS: dict[str, dict[str, Any]] = {
    BASE: {},
    "no batch distribution": {"weights": {"batch": 0.0}},
    "no loopback": {"weights": {"loop": 0.0}},
    "one view": {"stages": {"views": 1}},
}
COMPARISONS = (
    Comparison("15", "batch distribution keeps outputs in model space", "distribution", BASE, "no batch distribution"),
    Comparison("15", "loopback tames exaggeration", "shape_rms", BASE, "no loopback"),
    Comparison("15", "several views make it robust to pose and light", "shape_view_share", BASE, "one view"),
)


def ablation(config: RegressionConfig) -> Ablation:
    """The trainings over a configuration that has both stages and a recognition network."""
    variants = {name: merged(BRANCH, changes) for name, changes in VARIANTS.items()}
    return Ablation(NAME, WARMUP, variants, COMPARISONS)


@torch.no_grad()
def measure(trainer: UnsupervisedRegressionTrainer, count: int = NUM_RENDERS) -> Measures:
    """The trainer's validation on `count` held-out renders; lower is better in each that is compared.

    distribution: `batch_distribution_loss` of their shape and albedo coefficients together, as whitened.
    """
    result = trainer.measures(count)
    result["distribution"] = result["shape_distribution"] + result["texture_distribution"]
    return result
