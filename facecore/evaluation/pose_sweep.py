"""Error of a reconstruction against the pose it was seen from, and against the expression (METHODS 8.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from facecore.data.sweep import ExpressionRenders, SweepRenders
from facecore.evaluation.alignment import fit_similarity, vertex_error
from facecore.evaluation.held_out import reconstruct_renders
from facecore.evaluation.point_to_plane import NOSE_TIP

if TYPE_CHECKING:
    from facecore.systems.reconstruction import Reconstruction

S1_YAWS = tuple(range(-90, 91, 10))  # degrees; S1 has pitch 0 alone
S2_YAWS, S2_PITCHES = (-80, -40, 0, 40, 80), (-15, 20, 25)  # S2 and S3
MEASURES = ("rmse_mm", "shape_mm", "neutral_mm", "landmark_percent")
BATCH = 20


def sweep_errors(
    reconstruct: Callable[..., Reconstruction],
    renders: SweepRenders | ExpressionRenders,
    count: int,
    *,
    aligned: bool = False,
    crop_mm: float = 95.0,
    progress: Callable[[int], object] | None = None,
) -> dict[str, torch.Tensor]:
    """Errors of `count` faces at every pose, or with every expression, each picture reconstructed alone, float32
    [count, variants] by name.

    rmse_mm: S1's (`landmark_rmse`); shape_mm, neutral_mm: mean vertex distance after similarity alignment over all
    vertices, of the full and of the identity shape; landmark_percent: as `held_out_errors` has it, and reconstruct
    and aligned as there. progress: called with the number of pictures after each batch. Raises ValueError for a count
    below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1 face, got {count}")
    model, total = renders.model, count * renders.variants
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in MEASURES}
    for start in range(0, total, BATCH):
        batch = renders.batch(torch.arange(start, min(start + BATCH, total)))
        face = reconstruct_renders(reconstruct, batch, aligned=aligned)
        truth = model.shape(batch.identity, batch.expression)
        neutral = model.shape(batch.identity)
        extent = (batch.landmarks.amax(1) - batch.landmarks.amin(1)).prod(1).sqrt()
        errors = (
            landmark_rmse(face.vertices, truth, model.landmarks68, crop_mm),
            vertex_error(face.vertices, truth),
            vertex_error(face.neutral_vertices, neutral),
            100 * (face.landmarks_2d - batch.landmarks).norm(dim=-1).mean(1) / extent,
        )
        for name, values in zip(MEASURES, errors):
            rows[name].append(values.float().cpu())
        if progress is not None:
            progress(len(batch.image))
    return {name: torch.cat(values).view(count, renders.variants) for name, values in rows.items()}


def landmark_rmse(
    predicted: torch.Tensor, truth: torch.Tensor, landmarks68: torch.Tensor, crop_mm: float = 95.0
) -> torch.Tensor:
    """S1's RMSE in mm of corresponding vertices, [N]: similarity by 68 landmarks, truth cropped around its nose tip.

    predicted, truth: [N, V, 3]. The batched form of `point_to_plane.procrustes_rmse`.
    """
    moved = fit_similarity(predicted[:, landmarks68], truth[:, landmarks68]).apply(predicted)
    inside = (truth - truth[:, landmarks68[NOSE_TIP], None]).norm(dim=-1) <= crop_mm
    squared = (moved - truth).square().sum(-1)
    return ((squared * inside).sum(1) / inside.sum(1)).sqrt()


def table_of_poses(errors: dict[str, torch.Tensor], poses: Sequence[tuple[float, float]]) -> list[dict[str, Any]]:
    """One row per pose: yaw, pitch and the mean over faces of every measure."""
    means = {name: values.mean(0) for name, values in errors.items()}
    return [
        {"yaw": yaw, "pitch": pitch, **{name: float(values[number]) for name, values in means.items()}}
        for number, (yaw, pitch) in enumerate(poses)
    ]


def table_of_yaws(errors: dict[str, torch.Tensor], poses: Sequence[tuple[float, float]]) -> list[dict[str, Any]]:
    """One row per |yaw|, left and right and all pitches together: the mean and standard deviation over faces of the
    RMSE, the other measures' means, and how much the RMSE has grown from the smallest |yaw|, in mm and percent."""
    magnitudes = sorted({abs(yaw) for yaw, _ in poses})
    rows: list[dict[str, Any]] = []
    for magnitude in magnitudes:
        columns = [number for number, (yaw, _) in enumerate(poses) if abs(yaw) == magnitude]
        per_face = {name: values[:, columns].mean(1) for name, values in errors.items()}
        rmse = per_face["rmse_mm"]
        rows.append(
            {
                "|yaw|": magnitude,
                "pictures": rmse.numel() * len(columns),
                **{name: float(values.mean()) for name, values in per_face.items()},
                "rmse_std": float(rmse.std()) if len(rmse) > 1 else None,
            }
        )
    for row in rows:
        row["growth_mm"] = row["rmse_mm"] - rows[0]["rmse_mm"]
        row["growth_percent"] = 100 * row["growth_mm"] / max(rows[0]["rmse_mm"], 1e-9)
    return rows


def table_of_expressions(errors: dict[str, torch.Tensor], names: Sequence[str]) -> list[dict[str, Any]]:
    """One row per expression: means over faces of every measure, and how much the error of the identity shape has grown
    from the first, the face without expression."""
    rows: list[dict[str, Any]] = [
        {"expression": name, **{measure: float(values[:, number].mean()) for measure, values in errors.items()}}
        for number, name in enumerate(names)
    ]
    for row in rows:
        row["identity_growth_percent"] = 100 * (row["neutral_mm"] / max(rows[0]["neutral_mm"], 1e-9) - 1)
    return rows
