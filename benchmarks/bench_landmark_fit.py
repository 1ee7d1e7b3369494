"""`fit_landmarks`: one person's identity, expressions and poses from the landmarks of 1 and 10 photographs.

`ict`: the model of FACECORE_TEST_DATA, 100 identity modes and 53 expressions, else the built-in one; `wide`: 199 and 29
random modes, the sizes of METHODS 3. Points are exact to 1 % of their box. No suite: nothing else does the same; that
the fit explains the points is checked before it is timed.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any

import pytest
import torch
from harness import peak_mebibytes, timing

from facecore.morphable import MorphableModel, Prior, load
from facecore.render import WeakPerspectiveCamera
from facecore.systems.landmark_fit import SIGMA, fit_landmarks

ROUNDS = 20
POSE = torch.tensor([0.35, 0.8, 0.17, 0.1, 0.1, 0.1])  # half ranges: radians, log scale, NDC
NUM_IDENTITY, NUM_EXPRESSION, MODE_MM = 199, 29, 0.5  # MODE_MM: what a coefficient of 1 moves a coordinate by


@pytest.fixture(scope="module", params=["ict", "wide"])
def model(request: pytest.FixtureRequest) -> tuple[str, MorphableModel]:
    ict = pathlib.Path(os.environ.get("FACECORE_TEST_DATA", "")) / "ict_facekit.npz"
    if request.param == "ict":
        return "ict", load(ict) if ict.is_file() else load("procedural")
    return "wide", widened(load("procedural", num_vertices=2500))


def widened(model: MorphableModel) -> MorphableModel:
    """The model with random modes instead of its own."""
    generator = torch.Generator().manual_seed(0)
    counts = {"identity": NUM_IDENTITY, "expression": NUM_EXPRESSION}
    changes: dict[str, Any] = {}
    for part, count in counts.items():
        changes[f"{part}_basis"] = MODE_MM * torch.randn(count, model.num_vertices, 3, generator=generator)
        changes[f"{part}_std"] = torch.ones(count)
        changes[f"{part}_names"] = ()
    prior = Prior.normal(NUM_IDENTITY, NUM_EXPRESSION, model.num_albedo)
    return dataclasses.replace(model, **changes, prior=prior)


@pytest.mark.benchmark(group="landmark_fit")
@pytest.mark.parametrize("photographs", [1, 10])
def bench_person(
    benchmark: Any, record_row: Any, device: torch.device, model: tuple[str, MorphableModel], photographs: int
) -> None:
    if device.type != "cpu":
        pytest.skip("landmarks are fitted on the CPU")
    name, morphable = model
    points = landmarks(morphable, photographs)

    def run() -> None:
        fit_landmarks(morphable, points)

    assert float(fit_landmarks(morphable, points).residual.max()) < 2 * SIGMA
    peak = peak_mebibytes(run, device)
    benchmark.pedantic(run, rounds=ROUNDS)
    sizes = {"photographs": photographs, "identity": morphable.num_identity, "expression": morphable.num_expression}
    row = {"op": "landmark_fit", "provider": "facecore", "mode": "one person", "case": f"{name}_{photographs}"}
    record_row(row | {"device": device.type, "sizes": sizes, "peak_mib": peak} | timing(benchmark))


def landmarks(model: MorphableModel, count: int) -> torch.Tensor:
    """Of one random person in `count` photographs, [count, 68, 2] NDC."""
    generator = torch.Generator().manual_seed(0)
    faces = model.sample(count, generator)
    points = model.shape(faces.identity[:1].expand(count, -1), faces.expression)[:, model.landmarks68]
    pose = POSE * (2 * torch.rand(count, 6, generator=generator) - 1)
    ndc = WeakPerspectiveCamera.from_pose(pose, 200, 200).ndc(points)
    size = (ndc.amax(1) - ndc.amin(1)).mean(1)
    return ndc + SIGMA * size[:, None, None] * torch.randn(ndc.shape, generator=generator)
