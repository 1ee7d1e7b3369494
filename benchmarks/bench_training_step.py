"""Training steps on the procedural model: images per second.

The semi-supervised system, preset `small`: a step makes its labelled renders, encodes, decodes, renders, takes every
loss of its stage, and updates the weights. Conditional estimation beside the weakly supervised system, networks as wide
as the papers' and pictures of one size: clips against photographs, the latter with L_per by a SphereFace-20; both are
rendered within the step. No suite: there is nothing else that does the same. Losses and gradients are checked to be
finite in every step.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
from floor import synchronised_clock
from harness import peak_mebibytes, spread, timing

from facecore.morphable import load
from facecore.perception import IdentityNetwork
from facecore.systems import conditional_estimation_config, weakly_supervised_config
from facecore.systems.conditional_estimation_training import ConditionalEstimationTrainer
from facecore.systems.semi_supervised_config import PRESETS, SemiSupervisedConfig
from facecore.systems.semi_supervised_training import STAGES, SemiSupervisedTrainer
from facecore.systems.weakly_supervised_training import WeaklySupervisedTrainer
from facecore.training.trainer import SystemTrainer

ROUNDS, PAIRS = 5, 7
SIDE, FRAMES, CLIP = 224, 8, 4  # pixels, pictures of a step, frames of a clip
SPHEREFACE_SIZE = [112, 96]


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
    images = config.data.labelled_batch if stage == "decoder" else trainer.images_in(0)
    sizes = {"images": images, "vertices": model.num_vertices, "side": config.model.image_size}
    record_row(timed(benchmark, trainer, device, images) | {"case": f"small_{stage}", "sizes": sizes})


@pytest.mark.benchmark(group="picture_step", disable_gc=True, timer=synchronised_clock)
@pytest.mark.full
def bench_picture_step(benchmark: Any, record_row: Callable[[dict[str, Any]], None], device: torch.device) -> None:
    """Steps of both systems in turn, since a machine's speed changes within minutes; `ratio`: the median over these
    pairs of the time of conditional estimation over the other's."""
    trainers = {
        "weakly-supervised": weakly_supervised(device),
        "conditional-estimation": conditional_estimation(device),
    }
    first, second = (stepping(trainer) for trainer in trainers.values())
    for step in (first, second):
        step()
    peaks = [peak_mebibytes(step, device) for step in (first, second)]
    of_first: list[float] = []

    def run_first() -> None:
        start = synchronised_clock()
        first()
        of_first.append(synchronised_clock() - start)

    benchmark.pedantic(second, setup=run_first, rounds=PAIRS)
    if benchmark.stats is None:
        return
    of_second = benchmark.stats.stats.data
    ratio = statistics.median(b / a for a, b in zip(of_first, of_second))
    for system, seconds, peak, factor in zip(trainers, (of_first, of_second), peaks, (1.0, ratio)):
        sizes = {"images": FRAMES, "vertices": trainers[system].morphable.num_vertices, "side": SIDE}
        row = {"op": "picture_step", "case": system, "provider": "facecore", "mode": "step", "device": device.type}
        row |= {"sizes": sizes, "peak_mib": peak, "ratio": factor} | spread(seconds)
        record_row(row | {"images_per_second": 1e3 * FRAMES / row["median_ms"]})


def weakly_supervised(device: torch.device) -> WeaklySupervisedTrainer:
    """R-Net's stage at the paper's size."""
    plain = weakly_supervised_config.PRESETS["paper"]
    config = dataclasses.replace(
        plain,
        model=dataclasses.replace(plain.model, morphable="procedural", image_size=SIDE),
        stages=dataclasses.replace(plain.stages, confidence_iterations=0),
        data=dataclasses.replace(plain.data, photo_batch=FRAMES, photos_per_identity=CLIP),
        world=dataclasses.replace(plain.world, persons=10, pictures=CLIP),
        run=dataclasses.replace(plain.run, device=device.type),
    )
    return WeaklySupervisedTrainer(config, load("procedural"), None, sphereface())


def conditional_estimation(device: torch.device) -> ConditionalEstimationTrainer:
    """Networks as wide as the paper's."""
    plain = conditional_estimation_config.PRESETS["paper"]
    config = dataclasses.replace(
        plain,
        model=dataclasses.replace(plain.model, morphable="procedural", image_size=SIDE, texture_size=SIDE),
        data=dataclasses.replace(plain.data, photo_batch=FRAMES, photos_per_identity=CLIP),
        world=dataclasses.replace(plain.world, persons=10, pictures=CLIP),
        run=dataclasses.replace(plain.run, device=device.type),
    )
    return ConditionalEstimationTrainer(config, load("procedural"), None)


def sphereface() -> IdentityNetwork:
    """For L_per; its weights are random, which changes nothing of its time."""
    facts = {"role": "recognition", "format": "state-dict", "file": "none", "sha256": "0" * 64}
    facts |= {"input_size": SPHEREFACE_SIZE, "outputs": {"embed": "embed"}, "architecture": "sphereface"}
    return IdentityNetwork.from_facts(facts)


def stepping(trainer: SystemTrainer) -> Callable[[], float]:
    """Does the next step of a training with each call; the number that it returns waits for the GPU."""
    numbers = itertools.count()
    return lambda: float(trainer.step(next(numbers))["total"])


def timed(benchmark: Any, trainer: SystemTrainer, device: torch.device, images: int) -> dict[str, Any]:
    """A row of steps, without case and sizes."""
    step = stepping(trainer)
    step()
    peak = peak_mebibytes(step, device)
    benchmark.pedantic(step, rounds=ROUNDS)
    row = {"op": "training_step", "provider": "facecore", "mode": "step"}
    row |= {"device": device.type, "peak_mib": peak} | timing(benchmark)
    if row["median_ms"] is not None:
        row["images_per_second"] = 1e3 * images / row["median_ms"]
    return row
