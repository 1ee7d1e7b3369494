"""One training step of the semi-supervised system, preset `small` on the procedural model: images per second.

A step makes its labelled renders, encodes, decodes, renders, takes every loss of its stage, and updates the weights.
No suite: there is nothing else that does the same. Losses and gradients are checked to be finite in every step.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from harness import peak_mebibytes, timing

from facecore.morphable import load
from facecore.systems.semi_supervised_config import PRESETS, SemiSupervisedConfig
from facecore.systems.semi_supervised_training import STAGES, SemiSupervisedTrainer

ROUNDS = 5


def configuration(stage: str, device: torch.device) -> SemiSupervisedConfig:
    """`small`, on the built-in model, with nothing but one stage."""
    small = PRESETS["small"]
    iterations = {f"{name}_iterations": 10**6 if name == stage else 0 for name in STAGES}
    return dataclasses.replace(
        small,
        model=dataclasses.replace(small.model, morphable="procedural"),
        stages=dataclasses.replace(small.stages, **iterations),
        run=dataclasses.replace(small.run, device=device.type),
    )


@pytest.mark.benchmark(group="training_step", disable_gc=True)
@pytest.mark.parametrize(
    "stage",
    [pytest.param("decoder", marks=pytest.mark.full), pytest.param("encoder", marks=pytest.mark.full), "hybrid"],
)
def bench_training_step(
    benchmark: Any, record_row: Callable[[dict[str, Any]], None], device: torch.device, stage: str
) -> None:
    config = configuration(stage, device)
    model = load("procedural", num_vertices=config.model.num_vertices)
    trainer = SemiSupervisedTrainer(config, model, None)
    numbers = itertools.count()

    def step() -> float:
        return float(trainer.step(next(numbers))["total"])  # the number waits for the GPU

    step()
    peak = peak_mebibytes(step, device)
    benchmark.pedantic(step, rounds=ROUNDS)
    images = config.data.labelled_batch if stage == "decoder" else trainer.images_in(0)
    sizes = {"images": images, "vertices": model.num_vertices, "side": config.model.image_size}
    row = {"op": "training_step", "provider": "facecore", "mode": "step", "case": f"small_{stage}"}
    row |= {"device": device.type, "sizes": sizes, "peak_mib": peak} | timing(benchmark)
    if row["median_ms"] is not None:
        row["images_per_second"] = 1e3 * images / row["median_ms"]
    record_row(row)
