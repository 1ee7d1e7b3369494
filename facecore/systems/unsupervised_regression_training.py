"""Training of system 4: synthetic faces, then photographs beside them (METHODS 6)."""

from __future__ import annotations

from typing import Any

import torch

from facecore.data import PhotoSource
from facecore.data.studio_views import StudioViews
from facecore.evaluation.claims_regression import codes_in_views, output_moments, output_variation, parameter_errors
from facecore.evaluation.held_out import BATCH, evaluate_held_out
from facecore.morphable import MorphableModel
from facecore.nn.recognition import RecognitionFeatures
from facecore.perception import load_identity_network
from facecore.systems import seeds
from facecore.systems.face_trainer import FaceTrainer
from facecore.systems.morphable_assets import assets_of
from facecore.systems.unsupervised_regression import RegressionCodes, UnsupervisedRegression
from facecore.systems.unsupervised_regression_config import RegressionConfig
from facecore.systems.unsupervised_regression_faces import SyntheticFaces
from facecore.systems.unsupervised_regression_losses import RegressionObjective
from facecore.training import distributed
from facecore.training.adam import Adam
from facecore.training.checkpoint import Checkpoint
from facecore.training.config import config_hash
from facecore.training.pictures import rows_of_pictures
from facecore.training.rates import risen_cosine

NAME = "unsupervised-regression"
PICTURED = 6  # of the grid
SEEN_FACES, SEEN_VIEWS = 10, 4  # of which the variation by pose and light is measured


class UnsupervisedRegressionTrainer(FaceTrainer):
    """Implements training.loop.Trainer; see FaceTrainer."""

    name = NAME

    def __init__(self, config: RegressionConfig, morphable: MorphableModel, photos: PhotoSource | None) -> None:
        super().__init__(config, morphable, photos)
        size, seed, stages = config.model.image_size, config.run.seed, config.stages
        if self.photos is None and stages.mixed_iterations:
            raise ValueError(
                "stage 2 needs photographs: give --data.photos or --world.persons, or --stages.mixed-iterations 0"
            )
        self.model = self.system = _new_system(config, self.morphable).to(self.device)
        self.system.config_hash = config_hash(config)
        faces = StudioViews(self.morphable, size, size, seed + seeds.REGRESSION_FACES)
        self.views = StudioViews(self.morphable, size, size, seed + seeds.REGRESSION_VIEWS)
        self.unseen = StudioViews(self.morphable, size, size, seed + seeds.HELD_OUT)
        self.synthetic = SyntheticFaces(self.system, faces, config.data.labelled_batch, stages.pool)
        self.objective = RegressionObjective(config, self.system, self.views)
        self.parameters = list(self.system.decoder.parameters())
        matrices = [p for p in self.parameters if p.ndim == 2]
        biases = [p for p in self.parameters if p.ndim != 2]
        self.optimizer = Adam([{"params": matrices, "weight_decay": stages.weight_decay}, {"params": biases}])
        self._averaged = distributed.averaged(self.objective)
        self._share = distributed.own_share()
        self.total_iterations = stages.synthetic_iterations + stages.mixed_iterations
        self._stream = self.stream_of_photographs(config.data.photos_per_identity) if stages.mixed_iterations else None
        self.begin()

    def mixed(self, iteration: int) -> bool:
        """Whether an iteration belongs to stage 2."""
        return bool(iteration >= self.config.stages.synthetic_iterations)

    def learning_rate(self, iteration: int) -> float:
        """Each stage has a rate and a course of its own."""
        stages = self.config.stages
        rate, done, count = stages.learning_rate, iteration, stages.synthetic_iterations
        if self.mixed(iteration):
            rate, done, count = stages.mixed_learning_rate, iteration - count, stages.mixed_iterations
        return float(rate * (risen_cosine(done, count) if stages.schedule == "cosine" else 1.0))

    def images_in(self, iteration: int) -> int:
        data = self.config.data
        return int(data.labelled_batch + (data.photo_batch if self.mixed(iteration) else 0))

    def step(self, iteration: int) -> dict[str, torch.Tensor]:
        self.objective.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(iteration)
        self.optimizer.zero_grad(set_to_none=True)
        photographs = self.photographs(iteration) if self.mixed(iteration) else ()
        terms = self._averaged(*self.synthetic.at(iteration), *photographs)
        terms["total"].backward()
        result = distributed.mean_losses([{name: value.detach() for name, value in terms.items()}])
        self.descend(self.parameters, result, iteration)
        return result

    @torch.no_grad()
    def photographs(self, iteration: int) -> tuple[RecognitionFeatures, torch.Tensor]:
        """Features of this process's share of the photographs, and their numbers in the training, int64 [B]."""
        assert self._stream is not None
        batch = self._stream.at(iteration).to(self.device)
        features = self.system.features(batch.image, batch.aligning_points(self.system.usual_points))
        count = self.config.data.photo_batch
        rows = self._share.rows(count)
        return features, torch.arange(iteration * count, (iteration + 1) * count)[rows]

    def validate(self) -> dict[str, float]:
        """`measures` on the held-out renders of the settings."""
        self._watch.check()
        return self.measures(self.config.run.validation_size)

    @torch.no_grad()
    def measures(self, count: int, faces: int = SEEN_FACES) -> dict[str, float]:
        """Errors on held-out renders, whose landmarks count as given; errors and moments of the coefficients, and how
        much of their variance is by pose and light, of so many faces."""
        self.system.eval()
        reconstruct = self.system.reconstruct
        errors = evaluate_held_out(reconstruct, self.world, self.held_out, self.baseline, count, aligned=True)
        codes, truth = self.held_out_codes(count)
        seen = codes_in_views(
            lambda images, points: torch.cat(self.system.encode(images, points), 1), self.unseen, faces, SEEN_VIEWS
        )
        of_views = seen.split([part.shape[1] for part in codes], 2)
        for name, own, true, views in zip(("shape", "texture"), codes, truth, of_views):
            measures = parameter_errors(own, true) | output_moments(own)
            measures["view_share"] = output_variation(views)["share"]
            errors |= {f"{name}_{key}": value for key, value in measures.items()}
        return errors

    @torch.no_grad()
    def held_out_codes(self, count: int) -> tuple[RegressionCodes, RegressionCodes]:
        """Codes of the first held-out renders, estimated and true (of faces beyond the model: in its own modes)."""
        model, parts = self.morphable, []
        for index in torch.arange(count).split(BATCH):
            batch = self.held_out.batch(index)
            own = self.system.encode(batch.image, batch.landmarks)
            identity = model.prior.whiten("identity", batch.identity[:, : model.num_identity])
            parts.append((*own, identity, model.prior.whiten("albedo", batch.albedo)))
        shape, texture, true_shape, true_texture = (torch.cat(part) for part in zip(*parts))
        return RegressionCodes(shape, texture), RegressionCodes(true_shape, true_texture)

    @torch.no_grad()
    def picture_grid(self) -> torch.Tensor:
        """Held-out renders, and below each its face in the fixed view."""
        batch = self.held_out.batch(torch.arange(PICTURED))
        face = self.system.reconstruct(batch.image, batch.landmarks)
        drawn = self.views.render(face.vertices, face.albedo, self.views.ahead(PICTURED)).image
        return rows_of_pictures((batch.image, drawn))

    def sources(self) -> dict[str, Any]:
        return super().sources() | {"recognition": self.system.recognition.identity}

    def assets(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        tensors, plain = assets_of(self.morphable)
        return tensors, plain | {"recognition": self.system.recognition.facts()}

    def start_from(self, checkpoint: Checkpoint) -> list[str]:
        """Raises ValueError for another recognition network, too: its weights are in the checkpoint."""
        if checkpoint.plain.get("system") == self.name:
            if checkpoint.plain.get("recognition") != self.system.recognition.identity:
                raise ValueError("start_from was trained with another recognition network; give the same one")
        return super().start_from(checkpoint)


def _new_system(config: RegressionConfig, morphable: MorphableModel) -> UnsupervisedRegression:
    if config.model.recognition is None:
        raise ValueError("model.recognition must name the manifest of a recognition network: its features are decoded")
    recognition = load_identity_network(config.model.recognition)
    recognition.facts()  # refuses now what the checkpoint could not hold
    return UnsupervisedRegression(config.model, morphable.to("cpu"), recognition)
