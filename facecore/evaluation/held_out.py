"""Errors on held-out renders with known parameters, each beside the error of the mean face."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from facecore.data import LabelledBatch, LabelledRenders, ShapeBatch
from facecore.evaluation.alignment import vertex_error
from facecore.morphable import MorphableModel
from facecore.ops import interpolate, rasterize, sh_shading, vertex_normals
from facecore.render import WeakPerspectiveCamera

if TYPE_CHECKING:
    from facecore.systems.reconstruction import Reconstruction

BATCH = 20


@dataclasses.dataclass(frozen=True)
class Baseline:
    """What one would say without looking: the model's mean face (DESIGN section 9), mean albedo and mean light."""

    shape: torch.Tensor  # [V, 3] mm, mean over the prior
    neutral: torch.Tensor  # [V, 3] mm, the same with expression removed
    albedo: torch.Tensor  # [V, 3]
    sh_coefficients: torch.Tensor  # [9, 3], mean over renders that are not held out

    @classmethod
    def of(cls, model: MorphableModel, renders: LabelledRenders, count: int = 500) -> Baseline:
        light = renders.lights(torch.arange(count)).mean(0)
        return cls(model.mean_shape(), model.mean_neutral(), model.albedo(model.prior.albedo_mean[None])[0], light)


def evaluate_held_out(
    reconstruct: Callable[..., Reconstruction],
    model: MorphableModel,
    renders: LabelledRenders,
    baseline: Baseline,
    count: int,
    *,
    aligned: bool = False,
) -> dict[str, float]:
    """Means of `held_out_errors` over the first `count` renders, and `*_gain_percent`: how much lower the error is than
    that of the baseline, `*_mean_face`. Raises ValueError for a count below 1."""
    return summarise_held_out(held_out_errors(reconstruct, model, renders, baseline, count, aligned=aligned))


def held_out_errors(
    reconstruct: Callable[..., Reconstruction],
    model: MorphableModel,
    renders: LabelledRenders,
    baseline: Baseline,
    count: int,
    *,
    aligned: bool = False,
    progress: Callable[[int], object] | None = None,
) -> dict[str, torch.Tensor]:
    """Errors of the first `count` renders, float32 [count] by name, on the CPU.

    shape_mm, neutral_mm: per-vertex error after similarity alignment. albedo: mean absolute difference over vertices.
    shading: mean absolute difference over the visible face, true normals, predicted light. landmark_percent: mean
    68-point distance / box size (root of width * height of the true points) * 100. `*_mean_face` are the same of the
    baseline. reconstruct, aligned: see reconstruct_renders. progress: called with the number of renders after each
    batch. Raises ValueError for a count below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1 held-out render, got {count}")
    rows: dict[str, list[torch.Tensor]] = {}
    for start in range(0, count, BATCH):
        batch = renders.batch(torch.arange(start, min(start + BATCH, count)))
        face = reconstruct_renders(reconstruct, batch, aligned=aligned)
        for name, value in held_out_errors_of(face, model, batch, baseline).items():
            rows.setdefault(name, []).append(value.float().cpu())
        if progress is not None:
            progress(len(batch.image))
    return {name: torch.cat(values) for name, values in rows.items()}


def reconstruct_renders(
    reconstruct: Callable[..., Reconstruction], batch: ShapeBatch, *, aligned: bool
) -> Reconstruction:
    """The faces of a batch. reconstruct: of pictures [N, 3, H, W]; where `aligned`, as a system's attribute says, also
    of their landmarks [N, 68, 2]: renders come with them as photographs come with given ones."""
    return reconstruct(batch.image, batch.landmarks) if aligned else reconstruct(batch.image)


def summarise_held_out(errors: dict[str, torch.Tensor]) -> dict[str, float]:
    """Means of `held_out_errors`, and the gains over the mean face in percent of its error."""
    result = {name: float(values.mean()) for name, values in errors.items()}
    for name in ("shape_mm", "neutral_mm", "albedo", "shading"):
        result[f"{name.removesuffix('_mm')}_gain_percent"] = 100 * (1 - result[name] / result[f"{name}_mean_face"])
    return result


def held_out_errors_of(
    result: Reconstruction, model: MorphableModel, batch: LabelledBatch, baseline: Baseline
) -> dict[str, torch.Tensor]:
    """`held_out_errors` of one batch, [B] by name. The reconstruction's cameras are of pictures of the batch's size."""
    n = len(batch.identity)
    truth = model.shape(batch.identity, batch.expression)
    neutral = model.shape(batch.identity, torch.zeros_like(batch.expression))
    albedo = model.albedo(batch.albedo)
    normals = visible_normals(truth, model, batch)
    shading = sh_shading(normals, batch.sh_coefficients)
    covered = (normals.square().sum(-1) > 0).float() * batch.mask
    predicted = result.camera.project(result.vertices[:, result.landmarks68])
    extent = batch.landmarks.amax(1) - batch.landmarks.amin(1)
    errors = {
        "shape_mm": vertex_error(result.vertices, truth),
        "shape_mm_mean_face": vertex_error(baseline.shape.expand_as(truth), truth),
        "neutral_mm": vertex_error(result.neutral_vertices, neutral),
        "neutral_mm_mean_face": vertex_error(baseline.neutral.expand_as(truth), neutral),
        "landmark_percent": 100 * (predicted - batch.landmarks).norm(dim=-1).mean(1) / extent.prod(1).sqrt(),
    }
    for name, guess in (("albedo", result.albedo), ("albedo_mean_face", baseline.albedo.expand_as(albedo))):
        errors[name] = (guess - albedo).abs().mean((1, 2))
    lights = (("shading", result.sh_coefficients), ("shading_mean_face", baseline.sh_coefficients.expand(n, -1, -1)))
    for name, light in lights:
        difference = (sh_shading(normals, light) - shading).abs().mean(-1)
        errors[name] = (difference * covered).sum((1, 2)) / covered.sum((1, 2)).clamp_min(1)
    return errors


def visible_normals(vertices: torch.Tensor, model: MorphableModel, batch: LabelledBatch) -> torch.Tensor:
    """Unit normals in camera axes at each pixel of the true face, [N, H, W, 3]; 0 where uncovered.

    vertices: true shapes [N, V, 3] of the batch. `sh_shading` of them is the shading in a light, true or predicted.
    """
    height, width = batch.image.shape[-2:]
    camera = WeakPerspectiveCamera.from_pose(batch.pose, height, width)
    fragments = rasterize(camera.to_clip(vertices), model.triangles, height, width)
    normals = camera.rotate(vertex_normals(vertices, model.triangles))
    pixels = interpolate(normals, model.triangles, fragments.triangle_id, fragments.barycentric)
    return torch.nn.functional.normalize(pixels, dim=-1)
