"""The pictures, landmarks and true meshes of a pose sweep as files, for methods other than facecore's systems."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Callable

import numpy as np
import torch

from facecore.data.images import write_png
from facecore.data.sweep import SweepRenders
from facecore.files import write_atomically

BATCH = 20


def write_sweep(
    renders: SweepRenders, count: int, folder: pathlib.Path, progress: Callable[[int], object] | None = None
) -> int:
    """Writes `count` faces at every pose; returns the number of pictures.

    pictures/face003_yaw+40_pitch-15.png with its 68 projected landmarks (.pts, 1-based as iBUG's); truth/face003.npz
    (vertices, neutral_vertices, triangles, landmarks_3d, mm); pairs.csv, whose groups are |yaw|, for the mesh protocols
    with --pairs (predictions have the pictures' names); yaws.csv for the landmark protocol with --yaws. progress:
    called with the number of pictures after each batch.
    """
    pictures, truth = folder / "pictures", folder / "truth"
    for part in (pictures, truth):
        part.mkdir(parents=True, exist_ok=True)
    model, poses = renders.model, renders.poses
    lines, yaws = ["prediction,truth,subject,group"], ["image,yaw"]
    total = count * len(poses)
    for start in range(0, total, BATCH):
        batch = renders.batch(torch.arange(start, min(start + BATCH, total)))
        shapes = model.shape(batch.identity, batch.expression).cpu()
        neutral = model.shape(batch.identity).cpu()
        for row, number in enumerate(range(start, start + len(shapes))):
            face, (yaw, pitch) = f"face{number // len(poses):03d}", poses[number % len(poses)]
            name = f"{face}_yaw{yaw:+g}_pitch{pitch:+g}"
            write_png(pictures / f"{name}.png", batch.image[row].cpu())
            points = "\n".join(f"{u + 0.5:.4f} {v + 0.5:.4f}" for u, v in batch.landmarks[row].tolist())
            content = f"version: 1\nn_points: 68\n{{\n{points}\n}}\n"
            write_atomically(pictures / f"{name}.pts", content.encode())
            lines.append(f"{name},{face},{face},|yaw| {abs(yaw):g}")
            yaws.append(f"{name}.png,{yaw:g}")
            if number % len(poses) == 0:
                _write_truth(truth / f"{face}.npz", shapes[row], neutral[row], renders)
        if progress is not None:
            progress(len(shapes))
    for name, table in (("pairs.csv", lines), ("yaws.csv", yaws)):
        write_atomically(folder / name, ("\n".join(table) + "\n").encode())
    return total


def _write_truth(path: pathlib.Path, vertices: torch.Tensor, neutral: torch.Tensor, renders: SweepRenders) -> None:
    model, buffer = renders.model, io.BytesIO()
    np.savez_compressed(
        buffer,
        vertices=vertices.numpy(),
        neutral_vertices=neutral.numpy(),
        triangles=model.triangles.cpu().numpy(),
        landmarks_3d=vertices[model.landmarks68.cpu()].numpy(),
    )
    write_atomically(path, buffer.getvalue())
