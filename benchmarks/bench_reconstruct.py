"""What a user of `facecore reconstruct` waits for: an estimate of one face, its refinement, and its files.

The systems are without training, which takes as long. `paper`: ResNet-50 on 224 pixels, 37,280 vertices; `small`, the
light preset: ResNet-18 on 96 pixels, 9,409 vertices; their parts and the whole (encoder, decoders, picture) are timed
with the model loaded. Vertices are those of the ICT face where FACECORE_TEST_DATA has it, else of the built-in model.

Refinement and files: `small` on 5,000 vertices. The picture is a render of 256 x 256 pixels with its
landmarks. No suite: there is nothing else that does the same; what each part gives is checked before it is timed.
"""

from __future__ import annotations

import dataclasses
import os
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
LATENCY_ROUNDS = 20
LATENCY = {"paper": (1, 37_280), "small": (0, 9_409)}  # steps of refinement of the ICT face, vertices
PARTS = ("encoder", "decoders", "render", "whole")
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


@pytest.fixture(scope="module", params=LATENCY)
def loaded(request: pytest.FixtureRequest) -> tuple[str, SemiSupervised]:
    """A preset's name and its system, ready for pictures."""
    preset = request.param
    refine, vertices = LATENCY[preset]
    ict = pathlib.Path(os.environ.get("FACECORE_TEST_DATA", "")) / "ict_facekit.npz"
    model = load(ict, region="face", refine=refine) if ict.is_file() else load("procedural", num_vertices=vertices)
    torch.manual_seed(0)
    config = PRESETS[preset].model
    return preset, SemiSupervised(config, FaceAssets.from_morphable(model, config.factors)).eval()


@pytest.mark.benchmark(group="reconstruct")
@pytest.mark.parametrize("part", PARTS)
def bench_latency(
    benchmark: Any, record_row: Any, device: torch.device, loaded: tuple[str, SemiSupervised], part: str
) -> None:
    """One cropped photograph, model loaded."""
    preset, system = loaded
    size = system.config.image_size
    image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        encoding = system.encode(image)
        estimate = system.decode(encoding)
        runs = {
            "encoder": lambda: system.encode(image),
            "decoders": lambda: system.decode(encoding),
            "render": lambda: system.render(estimate),
            "whole": lambda: system.render(system(image)),
        }
        assert float(runs["whole"]().alpha.mean()) > 0.1, "no face in the picture"
        sizes = {"pixels": size, "vertices": system.template.shape[0]}
        measure(benchmark, record_row, device, f"{preset}_{part}", runs[part], LATENCY_ROUNDS, sizes)


def measure(
    benchmark: Any,
    record_row: Callable[[dict[str, Any]], None],
    device: torch.device,
    case: str,
    run: Any,
    rounds: int = ROUNDS,
    sizes: dict[str, int] | None = None,
) -> None:
    """On the CPU, where the command runs."""
    if device.type != "cpu":
        pytest.skip("facecore reconstruct runs on the CPU")
    run()
    peak = peak_mebibytes(run, device)
    benchmark.pedantic(run, rounds=rounds)
    row = {"op": "reconstruct", "provider": "facecore", "mode": "one picture", "case": case, "device": device.type}
    record_row(row | {"sizes": sizes or {"pixels": CROP}, "peak_mib": peak} | timing(benchmark))


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
