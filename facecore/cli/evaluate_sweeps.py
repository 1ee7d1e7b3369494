"""Protocols of `facecore evaluate` that show a trained system the same faces many times: by pose, by expression."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from facecore.cli.errors import UsageError
from facecore.cli.evaluate_systems import Loaded, SystemOptions, drop_unseen


@dataclasses.dataclass(frozen=True)
class PoseSweep(SystemOptions):
    """Error by pose: every true face is drawn at every yaw and pitch and reconstructed from each picture alone. With
    --write, the pictures and true meshes for another method instead.

    Example: facecore evaluate pose-sweep --checkpoint runs/small/model.safetensors --count 20
             facecore evaluate pose-sweep --checkpoint C --yaws -80 -40 0 40 80 --pitches -15 20 25
             facecore evaluate pose-sweep --checkpoint C --write sweep/, then your method, then
             facecore evaluate rmse RESULTS sweep/truth --pairs sweep/pairs.csv
    """

    count: int = 20
    """Faces."""
    yaws: tuple[float, ...] = tuple(float(yaw) for yaw in range(-90, 91, 10))
    """Degrees; the default is that of Liu et al. 2018."""
    pitches: tuple[float, ...] = (0.0,)
    """Degrees."""
    crop_mm: float = 95.0
    """Of the RMSE: radius around the true nose tip."""
    write: pathlib.Path | None = None
    """Write pictures/NAME.png and .pts, truth/FACE.npz, pairs.csv and yaws.csv into this new folder, and evaluate
    nothing."""

    def run(self) -> int:
        self.check()
        for name, bad in (("count", self.count < 1), ("crop-mm", not self.crop_mm > 0)):
            if bad:
                raise UsageError(f"--{name} must be positive, got {getattr(self, name.replace('-', '_'))}")
        for name, angles in (("yaws", self.yaws), ("pitches", self.pitches)):
            if not angles or not all(-180 <= angle <= 180 for angle in angles):
                raise UsageError(f"--{name} must be degrees from -180 to 180, at least one, got {angles}")
        from facecore.data.sweep import SweepRenders

        loaded = self.load()
        size = loaded.system.config.image_size
        renders = SweepRenders(loaded.morphable, size, size, loaded.seed, yaws=self.yaws, pitches=self.pitches)
        total = self.count * len(renders.poses)
        with tqdm(total=total, desc="pose sweep", unit="picture", leave=False, disable=None) as bar:
            if self.write is not None:
                return self.write_pictures(renders, self.write, bar.update)
            return self.evaluate(loaded, renders, bar.update)

    def evaluate(self, loaded: Loaded, renders: Any, progress: Callable[[int], object]) -> int:
        from facecore.evaluation.pose_sweep import sweep_errors, table_of_poses, table_of_yaws
        from facecore.evaluation.published import POSE_SWEEP
        from facecore.evaluation.results import Evaluation

        errors = sweep_errors(
            loaded.system.reconstruct,
            renders,
            self.count,
            aligned=loaded.system.aligned,
            crop_mm=self.crop_mm,
            progress=progress,
        )
        drop_unseen(loaded, errors)
        yaws = table_of_yaws(errors, renders.poses)
        evaluation = Evaluation(
            protocol="pose-sweep",
            settings=dataclasses.asdict(self) | loaded.settings(),
            summary=yaws,
            rows=table_of_poses(errors, renders.poses),
            total=self.count * len(renders.poses),
            published=POSE_SWEEP,
            curves={
                "RMSE, mm": [(row["|yaw|"], row["rmse_mm"]) for row in yaws],
                "identity shape, mm": [(row["|yaw|"], row["neutral_mm"]) for row in yaws],
            },
            axes=("|yaw| in degrees", "error in mm"),
            notes=[
                "RMSE: similarity by 68 landmarks, truth cropped around the nose tip; the shapes' other errors: mean "
                "vertex distance after similarity alignment over all vertices. Growth: of the RMSE from the smallest "
                "|yaw|."
            ],
        )
        return self.finish(evaluation)

    def write_pictures(self, renders: Any, folder: pathlib.Path, progress: Callable[[int], object]) -> int:
        from facecore.evaluation.sweep_files import write_sweep

        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"--write {folder} is not empty; choose a new folder")
        count = write_sweep(renders, self.count, folder, progress)
        print(f"{count} pictures: {folder / 'pictures'}")
        return 0


@dataclasses.dataclass(frozen=True)
class Expressions(SystemOptions):
    """Error by expression: every true face without expression and with six, from the front (Liu et al. 2018): of the
    full shape, and of the identity shape, which should not depend on it.

    Example: facecore evaluate expressions --checkpoint runs/joint/model.safetensors --count 50
    """

    count: int = 50
    """Faces."""

    def run(self) -> int:
        self.check()
        if self.count < 1:
            raise UsageError(f"--count must be at least 1 face, got {self.count}")
        from facecore.data.sweep import ExpressionRenders
        from facecore.evaluation.pose_sweep import sweep_errors, table_of_expressions
        from facecore.evaluation.results import Evaluation
        from facecore.morphable.named_expressions import EXPRESSIONS

        loaded = self.load()
        size = loaded.system.config.image_size
        renders = ExpressionRenders(loaded.morphable, size, size, loaded.seed)
        total = self.count * renders.variants
        with tqdm(total=total, desc="expressions", unit="picture", leave=False, disable=None) as bar:
            errors = sweep_errors(
                loaded.system.reconstruct,
                renders,
                self.count,
                aligned=loaded.system.aligned,
                progress=bar.update,
            )
        drop_unseen(loaded, errors)
        rows = [
            {"face": face, "expression": name, **{measure: float(v[face, i]) for measure, v in errors.items()}}
            for face in range(self.count)
            for i, name in enumerate(EXPRESSIONS)
        ]
        evaluation = Evaluation(
            protocol="expressions",
            settings=dataclasses.asdict(self) | loaded.settings(),
            summary=table_of_expressions(errors, list(EXPRESSIONS)),
            rows=rows,
            total=total,
            notes=[
                "RMSE: similarity by 68 landmarks, truth cropped around the nose tip, of the full shape; shape and "
                "identity shape: mean vertex distance after similarity alignment over all vertices. Growth: of the "
                "identity shape's error from the face without expression."
            ],
        )
        return self.finish(evaluation)
