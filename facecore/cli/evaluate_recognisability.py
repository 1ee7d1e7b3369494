"""`facecore evaluate recognisability`: are reconstructions recognised as the persons of their photographs?"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tqdm import tqdm

from facecore.cli.errors import UsageError
from facecore.cli.evaluate_output import Output
from facecore.cli.finders import load_judge
from facecore.cli.parsing import check_exists

if TYPE_CHECKING:
    from facecore.data import PhotoFolder
    from facecore.systems import UnsupervisedRegression

Folder = tyro.conf.Positional[pathlib.Path]


@dataclasses.dataclass(frozen=True)
class RecognisabilityOfFaces(Output):
    """Similarity of photographs and renders of their faces under one light, to a recognition network that had no part
    in the training; how often the nearest photograph, or one of the nearest five, shows the right person; and how far
    the similarities lie from those of photographs of one person, and of two (earth mover's distance).

    Example: facecore evaluate recognisability photos/ --checkpoint runs/regression/model.safetensors --network
    runs/evaluator/manifest.json
    """

    photos: Annotated[Folder, tyro.conf.arg(metavar="PHOTOS")]
    """Folder of photographs with landmarks; sub-folders are persons."""
    checkpoint: pathlib.Path
    """model.safetensors of 'facecore train --system unsupervised-regression'."""
    network: pathlib.Path
    """Manifest of the recognition network that judges; the one of the training is refused."""
    landmarks: pathlib.Path | None = None
    """Landmarks of the photographs; by default found beside each picture."""
    identities: str | None = None
    """CSV `image,identity`, or `none`: the sub-folders are not persons."""
    count: int | None = None
    """Photographs, the first so many; default: all."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU where facecore can use one, else the CPU."""

    def run(self) -> int:
        self.check_output()
        paths = {"PHOTOS": self.photos, "checkpoint": self.checkpoint, "network": self.network}
        check_exists(**paths, landmarks=self.landmarks)
        if self.count is not None and self.count < 2:
            raise UsageError(f"--count must be at least 2 photographs, got {self.count}")
        from facecore.data.studio_views import StudioViews
        from facecore.evaluation.published import RECOGNISABILITY
        from facecore.evaluation.recognisability import measure_recognisability
        from facecore.evaluation.results import Evaluation

        system, trained_with = self.load_system()
        size, device = system.config.image_size, system.morphable.device
        evaluator = load_judge("--network", self.network, {str(self.checkpoint): trained_with}).to(device)
        photos = self.open_photos(size)
        count = len(photos) if self.count is None else min(self.count, len(photos))
        views = StudioViews(system.morphable, size, size)
        with tqdm(total=count, desc="recognisability", unit="photograph", leave=False, disable=None) as bar:
            found = measure_recognisability(
                system.reconstruct, trained_with, evaluator, photos, views, count, progress=bar.update
            )
        numbers = {name: None if math.isnan(value) else value for name, value in found.summary().items()}
        rows: list[dict[str, Any]] = [
            {"photograph": str(photos.path(i).relative_to(self.photos)), "similarity": float(found.similarity[i])}
            for i in range(count)
        ]
        skipped = [(str(path), reason) for path, reason in photos.report.skipped]
        evaluation = Evaluation(
            protocol="recognisability",
            settings=dataclasses.asdict(self)
            | {
                "device": str(device),
                "config_hash": system.config_hash,
                "trained_with": list(trained_with),
                "judged_by": evaluator.identity,
                "judge_trained_on": evaluator.trained_on,
            },
            summary=[{"photographs": count} | numbers],
            rows=rows,
            total=len(photos) + len(skipped),
            skipped=skipped,
            published=RECOGNISABILITY,
            notes=self.notes(evaluator.caution, system.caution),
        )
        return self.finish(evaluation)

    def load_system(self) -> tuple[UnsupervisedRegression, tuple[str, ...]]:
        """With the recognition networks of its training. Raises UsageError for a checkpoint of another system."""
        from facecore.systems import UnsupervisedRegression
        from facecore.systems.loading import load_trained
        from facecore.training.device import choose_device

        try:
            device = choose_device(self.device)
        except ValueError as error:
            raise UsageError(f"--device: {error}") from error
        trained = load_trained(self.checkpoint, device)
        system = trained.system
        if not isinstance(system, UnsupervisedRegression):
            raise UsageError(
                f"--checkpoint {self.checkpoint}: recognisability is measured on faces of a morphable model in the "
                "checkpoint; give one of unsupervised-regression"
            )
        return system, trained.recognitions

    def open_photos(self, size: int) -> PhotoFolder:
        from facecore.data import PhotoFolder

        return PhotoFolder(self.photos, height=size, width=size, landmarks=self.landmarks, identities=self.identities)

    def notes(self, of_judge: str, of_system: str) -> list[str]:
        notes = ["The photograph that a face was made from is among those in which the nearest ones are looked for."]
        notes += [f"The judge: {of_judge}."] if of_judge else []
        return notes + ([f"The system: {of_system}."] if of_system else [])
