"""What a user of `facecore reconstruct` waits for: an estimate of one face, its refinement, and its files.

The system is `small` without training, which takes as long. The picture is a render of 256 x 256 pixels with its
landmarks. No suite: there is nothing else that does the same; what each part gives is checked before it is timed.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from harness import peak_mebibytes, timing

from facecore.data import FaceCrop, LabelledRenders, Landmarks
from facecore.morphable import MorphableModel, load
from facecore.systems.assets import FaceAssets
from facecore.systems.export import export_face
from facecore.systems.inference import FaceInput, reconstruct_faces
from facecore.systems.refinement import Refined
from facecore.systems.semi_supervised import SemiSupervised
from facecore.systems.semi_supervised_config import PRESETS

ROUNDS = 5
PICTURE, CROP, STEPS = 256, 160, 20  # pixels, pixels, refinement steps: a tenth of what makes a good overlay


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return load("procedural", num_vertices=5000)


@pytest.fixture(scope="module")
def face(model: MorphableModel) -> FaceInput:
    batch = LabelledRenders(model, PICTURE, PICTURE, seed=1, occluders=0.0).batch(torch.tensor([0]))
    landmarks = Landmarks(batch.landmarks[0].double())
    return FaceInput(
        pathlib.Path("face.png"), batch.image[0], FaceCrop.from_landmarks(landmarks, CROP, CROP), landmarks
    )


@pytest.fixture(scope="module")
def system(model: MorphableModel) -> SemiSupervised:
    torch.manual_seed(0)
    config = dataclasses.replace(PRESETS["small"].model, morphable="procedural")
    return SemiSupervised(config, FaceAssets.from_morphable(model, config.factors)).eval()


def measure(
    benchmark: Any, record_row: Callable[[dict[str, Any]], None], device: torch.device, case: str, run: Any
) -> None:
    """On the CPU, where the command runs."""
    if device.type != "cpu":
        pytest.skip("facecore reconstruct runs on the CPU")
    run()
    peak = peak_mebibytes(run, device)
    benchmark.pedantic(run, rounds=ROUNDS)
    row = {"op": "reconstruct", "provider": "facecore", "mode": "one picture", "case": case, "device": device.type}
    record_row(row | {"sizes": {"pixels": CROP}, "peak_mib": peak} | timing(benchmark))


@pytest.mark.benchmark(group="reconstruct")
def bench_estimate(
    benchmark: Any, record_row: Any, device: torch.device, face: FaceInput, system: SemiSupervised
) -> None:
    def run() -> None:
        assert bool(reconstruct_faces([face], system, size=CROP).reconstruction.vertices.isfinite().all())

    measure(benchmark, record_row, device, "estimate", run)


@pytest.mark.benchmark(group="reconstruct")
def bench_refine(benchmark: Any, record_row: Any, device: torch.device, face: FaceInput, model: MorphableModel) -> None:
    def run() -> None:
        refined = reconstruct_faces([face], model, size=CROP, iterations=STEPS)
        assert float(refined.error_after) < float(refined.error_before)

    measure(benchmark, record_row, device, f"refine_{STEPS}_steps", run)


@pytest.mark.benchmark(group="reconstruct")
def bench_export(
    benchmark: Any,
    record_row: Any,
    device: torch.device,
    face: FaceInput,
    model: MorphableModel,
    tmp_path: pathlib.Path,
) -> None:
    refined: Refined = reconstruct_faces([face], model, size=CROP)

    def run() -> None:
        export_face(tmp_path, "face", refined.reconstruction, face.image, face.crop)
        assert (tmp_path / "face.glb").stat().st_size > 10_000

    measure(benchmark, record_row, device, "export", run)
