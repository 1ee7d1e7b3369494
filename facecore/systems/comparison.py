"""Trained systems on the same renders: what `facecore compare` measures of each (METHODS 8.1)."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import torch
from torch.nn import functional

from facecore.data import LabelledBatch, LabelledRenders, PersonRenders, five_points
from facecore.data.renders import framed_pose
from facecore.evaluation.claims import photometric_error
from facecore.evaluation.held_out import Baseline, held_out_errors_of
from facecore.evaluation.verification import verify_persons
from facecore.perception import IdentityNetwork, alignment
from facecore.render import Renderer, WeakPerspectiveCamera
from facecore.systems.inference import estimate
from facecore.systems.loading import System
from facecore.systems.reconstruction import Reconstruction
from facecore.systems.refinement import Observation, typical_light

BATCH = 10
VERIFIED_PICTURES = 4  # of each held-out person
TIMED, UNTIMED = 11, 2  # pictures reconstructed one by one; the first ones do not count
TONES = ("dark", "medium", "light")


def observation_of(batch: LabelledBatch) -> Observation:
    """Renders as photographs with landmarks and masks."""
    points = batch.landmarks
    nothing = points.new_zeros(len(points), 5, 2)
    return Observation(
        batch.image, batch.mask, points, torch.ones_like(points[..., 0]), nothing, torch.zeros_like(nothing[..., 0])
    )


def fit_to_input(system: System, images: torch.Tensor) -> torch.Tensor:
    """Pictures [N, 3, H, W] at the size that a system takes."""
    size = system.config.image_size
    if images.shape[-1] == size:
        return images
    return functional.interpolate(images, (size, size), mode="bilinear", antialias=images.shape[-1] > size)


def faces_of(system: System, batch: LabelledBatch) -> Reconstruction:
    """What a system makes of renders, its cameras on them. One that estimates no pose or light gets them as photographs
    would: from the landmarks and the pixels."""
    height, width = batch.image.shape[-2:]
    return estimate(system, fit_to_input(system, batch.image), observation_of(batch)).reconstruction(height, width)


@torch.no_grad()
def errors_of(
    system: System,
    renders: LabelledRenders,
    baseline: Baseline,
    count: int,
    progress: Callable[[int], object] | None = None,
) -> dict[str, torch.Tensor]:
    """`held_out_errors` of the first renders, and `photometric`: mean absolute colour difference in the mask,
    0 to 255; `mean_albedo`: of the true one, over vertices and colours. Float32 [count] each, on the CPU.

    Raises ValueError for a count below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1 render, got {count}")
    rows: dict[str, list[torch.Tensor]] = {}
    for index in torch.arange(count).split(BATCH):
        batch = renders.batch(index)
        face = faces_of(system, batch)
        errors = held_out_errors_of(face, renders.model, batch, baseline)
        renderer = Renderer(face.triangles, *batch.image.shape[-2:], cull_backfaces=True).to(batch.image.device)
        drawn = renderer(face.vertices, face.surface, face.camera, face.sh_coefficients)
        errors["photometric"] = photometric_error(drawn.image.clamp(0, 1), batch.image, batch.mask)
        errors["mean_albedo"] = renders.model.albedo(batch.albedo).mean((1, 2))
        for name, value in errors.items():
            rows.setdefault(name, []).append(value.float().cpu())
        if progress is not None:
            progress(len(index))
    return {name: torch.cat(values) for name, values in rows.items()}


def tone_groups(mean_albedo: torch.Tensor) -> dict[str, torch.Tensor]:
    """Thirds of the renders by the mean of the true albedo, indices int64 by name."""
    order = mean_albedo.argsort(stable=True)
    return dict(zip(TONES, order.tensor_split(len(TONES))))


@torch.no_grad()
def identity_auc(system: System, renders: PersonRenders, persons: int, network: IdentityNetwork) -> float:
    """How well an evaluation network tells persons apart by their reconstructions alone: area under the ROC curve in
    percent, of pairs of pictures. Every face is drawn from the front, without expression, in the same light.

    Raises ValueError for fewer than four persons.
    """
    embeddings = []
    for index in torch.arange(persons * renders.pictures).split(BATCH):
        embeddings.append(network_view(faces_of(system, renders.batch(index)), network).cpu())
    return verify_persons(torch.cat(embeddings).numpy(), renders.pictures)["auc"]


def network_view(face: Reconstruction, network: IdentityNetwork) -> torch.Tensor:
    """Embeddings of faces drawn from the front, without expression, in typical light, [N, d]."""
    n, size = len(face), 2 * max(network.input_size)
    nothing = face.vertices.new_zeros(n, 3)
    points = face.neutral_vertices[:, face.landmarks68]
    pose = framed_pose(nothing, points, nothing[:, 0] + 1, nothing[:, :2])
    camera = WeakPerspectiveCamera.from_pose(pose, size, size)
    renderer = Renderer(face.triangles, size, size, cull_backfaces=True).to(face.vertices.device)
    drawn = renderer(face.neutral_vertices, face.surface, camera, typical_light(face.sh_coefficients))
    return network.embed(drawn.image.clamp(0, 1), alignment(five_points(camera.project(points))))


@torch.no_grad()
def milliseconds(system: System, batch: LabelledBatch) -> float:
    """Median time of `reconstruct` for one picture at a time, wall clock, with its landmarks where the system is
    `aligned`. batch: TIMED renders."""
    reconstruct: Callable[..., Reconstruction] = system.reconstruct
    times = []
    images = fit_to_input(system, batch.image)
    points = batch.landmarks * (images.shape[-1] / batch.image.shape[-1])
    for k in range(len(images)):
        given = (images[k : k + 1], points[k : k + 1])
        if images.is_cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        face = reconstruct(*given) if system.aligned else reconstruct(given[0])
        if face.vertices.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1000 * float(torch.tensor(times[UNTIMED:]).median())


@dataclasses.dataclass(frozen=True)
class Compared:
    """One system's results; identity_auc: None without an evaluation network."""

    name: str
    errors: dict[str, torch.Tensor]
    identity_auc: float | None
    milliseconds: float
    parameters: int
