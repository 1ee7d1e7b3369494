"""What the trainers of the systems share beyond training.trainer: faces, photographs, held-out renders, pictures."""

from __future__ import annotations

from typing import Any

import torch

from facecore.data import LabelledRenders, PhotoBatch, PhotoSource, PhotoStream, RenderedPhotos
from facecore.evaluation.held_out import Baseline, evaluate_held_out
from facecore.morphable import MorphableModel
from facecore.systems import seeds
from facecore.systems.picture_rows import picture_rows, pictures_to_show
from facecore.systems.streams import open_stream
from facecore.systems.world import faces_of_world
from facecore.training.config import DataConfig, WorldConfig
from facecore.training.trainer import SystemTrainer


class FaceTrainer(SystemTrainer):
    """A SystemTrainer of a system that reconstructs faces.

    morphable: of the labelled half; world: of photographs that are rendered and of held-out renders; photos: those
    given, or renders of world.persons, or None; renders: of the labelled half. Seeds torch: networks come next.
    A system sets `system`, the module with `reconstruct`.
    """

    system: Any

    def __init__(self, config: Any, morphable: MorphableModel, photos: PhotoSource | None) -> None:
        super().__init__(config)
        labelled, world = faces_of_world(morphable, config.world)
        self.morphable, self.world = labelled.to(self.device), world.to(self.device)
        size, seed = config.model.image_size, config.run.seed
        self.photos = self.rendered_photographs(config.data, config.world) if photos is None else photos
        self.renders = LabelledRenders(self.morphable, size, size, seed=seed)
        self.held_out = LabelledRenders(self.world, size, size, seed=seed + seeds.HELD_OUT)
        self.baseline = Baseline.of(self.world, self.renders)
        torch.manual_seed(seed)

    def rendered_photographs(self, data: DataConfig, world: WorldConfig) -> RenderedPhotos | None:
        """What stands for photographs where none are given; None = nothing does."""
        if not (world.persons and data.unlabelled):
            return None
        size, seed = self.config.model.image_size, self.config.run.seed + seeds.PERSONS
        counts = {"persons": world.persons, "pictures": world.pictures}
        turn, steady = world.yaw, world.steady_light
        return RenderedPhotos(self.world, size, size, seed, **counts, yaw=turn, steady_light=steady)

    def stream_of_photographs(self, per_identity: int) -> PhotoStream[PhotoBatch] | None:
        """This process's share of data.photo_batch in each iteration, `per_identity` of a person; None without any."""
        data = self.config.data
        if self.photos is None or not data.photo_batch:
            return None
        sizes, workers = (data.photo_batch, per_identity), data.workers
        options: dict[str, Any] = {"workers": workers, "device": self.device, "iterations": self.total_iterations}
        return open_stream(self.photos, self.config.run.seed, sizes, "photos", **options)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Errors on held-out renders, see evaluate_held_out."""
        self._watch.check()
        self.system.eval()
        parts = (self.system.reconstruct, self.world, self.held_out, self.baseline, self.config.run.validation_size)
        return evaluate_held_out(*parts, aligned=self.system.aligned)

    @torch.no_grad()
    def picture_grid(self) -> torch.Tensor:
        """Rows of input, overlay, albedo and shading: four held-out renders, then four photographs."""
        self.system.eval()
        images = pictures_to_show(self.held_out, self.photos)
        return picture_rows(images, self.system.render(self.system(images), images))
