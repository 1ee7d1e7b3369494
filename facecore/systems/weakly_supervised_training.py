"""Training of system 2: labelled renders, then photographs alone, then sets of one person's (METHODS 4)."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from facecore import losses
from facecore.data import LabelledBatch, PersonRenders, PhotoBatch, PhotoSource, sample_generator
from facecore.data.pose_sets import PoseSets
from facecore.morphable import MorphableModel
from facecore.nn import aggregate
from facecore.perception import IdentityNetwork
from facecore.perception.manifest import RENDERS
from facecore.render import WeakPerspectiveCamera
from facecore.systems import seeds
from facecore.systems.coefficient_metric import CoefficientMetric
from facecore.systems.face_trainer import FaceTrainer
from facecore.systems.morphable_assets import assets_of
from facecore.systems.shared_terms import PointShapes, Terms, surface_point_term, weighted_total
from facecore.systems.solved_heads import solve_on_renders
from facecore.systems.weakly_supervised import WeakCodes, WeakEstimate, WeaklySupervised
from facecore.systems.weakly_supervised_config import WeaklySupervisedConfig, WeakWeights
from facecore.systems.weakly_supervised_losses import (
    code_error,
    coefficient_term,
    labelled_terms,
    light_color_term,
    picture_terms,
    whitened,
)
from facecore.training import distributed
from facecore.training.adam import Adam
from facecore.training.checkpoint import Checkpoint
from facecore.training.config import config_hash
from facecore.training.rates import risen_cosine

NAME = "weakly-supervised"
STAGES = ("encoder", "weak", "confidence")  # WeakStageConfig.<stage>_iterations each
SKIN = "skin"  # the region of the morphable model whose albedo is to be even
BATCH = 20  # pictures whose yaw is looked at together
SET_YAW = 80.0  # degrees: sets of labelled renders turn farther than R-Net's, so that some are to be trusted less


class WeakObjective(nn.Module):
    """What each stage minimises, of batches that the trainer draws."""

    def __init__(
        self, config: WeaklySupervisedConfig, system: WeaklySupervised, recogniser: IdentityNetwork | None
    ) -> None:
        super().__init__()
        self.config, self.system = config, system
        self._recogniser = [recogniser]  # in a list: its weights are not this module's
        self.metric = CoefficientMetric(system.morphable)
        self._point_shapes: PointShapes | None = None  # made when needed: a checkpoint may bring its own points

    def forward(self, stage: str, batch: Any) -> tuple[torch.Tensor, Terms]:
        """The weighted sum, and the terms by name, without gradient. batch: LabelledBatch in the stage `encoder`,
        PhotoBatch in the stage `weak`, either in the stage `confidence`: sets of data.photos-per-identity, one
        after the other."""
        weights = self.config.weights
        if stage == "confidence":
            weights = dataclasses.replace(weights, perception=weights.confidence_perception)
        makers = {"encoder": self._encoder, "weak": self._weak, "confidence": self._confidence}
        terms = makers[stage](batch, weights)
        total = weighted_total(terms, weights)
        return total, {name: value.detach() for name, value in terms.items()} | {"total": total.detach()}

    def _encoder(self, batch: Any, weights: WeakWeights) -> Terms:
        encoding = self.system.encode(batch.image)
        terms = labelled_terms(self.system, self.metric, encoding.codes, batch)
        if encoding.points is not None:
            if self._point_shapes is None:
                self._point_shapes = PointShapes(self.system.morphable, self.system.point_vertices)
            size = self.config.model.image_size
            camera = WeakPerspectiveCamera.from_pose(batch.pose, size, size)  # that of the renders
            target = camera.ndc(self._point_shapes(batch.identity, batch.expression))
            terms["surface_points"] = surface_point_term(encoding.points, target, None, size)
        return terms

    def _weak(self, batch: Any, weights: WeakWeights) -> Terms:
        encoding = self.system.encode(batch.image)
        terms = self.code_terms(encoding.codes, batch, weights)
        if encoding.points is not None:
            size = self.config.model.image_size
            nothing = encoding.points.positions[:0]
            terms["surface_points"] = surface_point_term(encoding.points, nothing, batch, size)
        return terms

    def code_terms(self, codes: WeakCodes, batch: PhotoBatch, weights: WeakWeights) -> Terms:
        """What the stage `weak` says of codes of photographs."""
        terms, estimate = self._picture_terms(codes, batch, weights)
        if weights.flattening:
            terms["flattening"] = losses.flattening_loss(estimate.albedo, self.system.morphable.region(SKIN))
        if self.config.model.light == "rgb":
            terms["light_color"] = light_color_term(codes)
        return terms

    def _confidence(self, batch: Any, weights: WeakWeights) -> Terms:
        """Each photograph of a set with the set's identity, or that identity against its label; R-Net is frozen."""
        system = self.system
        with torch.no_grad():
            encoding = system.encode(batch.image)
        confidence = system.confidence(encoding.maps)
        size = self.config.data.photos_per_identity
        codes = encoding.codes
        sets = aggregate(codes.identity.unflatten(0, (-1, size)), confidence.unflatten(0, (-1, size)))
        if isinstance(batch, LabelledBatch):
            difference = sets - system.morphable.prior.whiten("identity", batch.identity[::size])
            whole = nn.functional.pad(difference, (0, system.expression_size))
            return {"labelled_code": self.metric.shape_error(whole).mean()}
        codes.identity = sets.repeat_interleave(size, 0)
        return self._picture_terms(codes, batch, weights)[0]

    def _picture_terms(self, codes: WeakCodes, batch: PhotoBatch, weights: WeakWeights) -> tuple[Terms, WeakEstimate]:
        estimate = self.system.decode(codes)
        rendering = self.system.render(estimate)
        recogniser = self._recogniser[0] if weights.perception else None
        terms = picture_terms(self.system, estimate, rendering, batch, weights, recogniser)
        return terms | {"coefficient": coefficient_term(codes)}, estimate


class WeaklySupervisedTrainer(FaceTrainer):
    """Implements training.loop.Trainer; see FaceTrainer."""

    name = NAME

    def __init__(
        self,
        config: WeaklySupervisedConfig,
        morphable: MorphableModel,
        photos: PhotoSource | None,
        recogniser: IdentityNetwork | None = None,
    ) -> None:
        super().__init__(config, morphable, photos)
        if recogniser is None and config.perceives:
            raise ValueError("L_per needs a recognition network: give one, or both perception weights 0")
        stages = config.stages
        self._refuse_what_fails_later()
        self.recogniser = None if recogniser is None else recogniser.to(self.device)
        system = WeaklySupervised(config.model, self.morphable, confidence=stages.confidence_iterations > 0)
        self.model = self.system = system.to(self.device)
        self.system.encoder = distributed.synchronised(self.system.encoder, self.device)
        self.system.config_hash = config_hash(config)
        self.system.perception_trained_on = "" if recogniser is None else recogniser.trained_on
        self.objective = WeakObjective(config, self.system, self.recogniser)
        heads = {id(parameter) for head in self.system.code_heads() for parameter in head.parameters()}
        rest = [p for p in self.system.regression_parameters() if p.requires_grad]
        groups = [[p for p in rest if (id(p) in heads) == own] for own in (False, True)]
        if self.system.confidence_net is not None:
            groups.append(list(self.system.confidence_net.parameters()))
        self.optimizer = Adam([{"params": group} for group in groups])
        self.parameters = [parameter for group in groups for parameter in group]
        self._averaged = distributed.averaged(self.objective)
        self._share = distributed.own_share()
        self._counts = [getattr(stages, f"{stage}_iterations") for stage in STAGES]
        self.total_iterations = sum(self._counts)
        self._sets: PoseSets | None = None
        self._stream = self.stream_of_photographs(1)
        self.begin()

    def _refuse_what_fails_later(self) -> None:
        """Before a long training: persons of too few photographs, a model without the region of L_tex."""
        stages, photos = self.config.stages, self.photos
        if photos is None and stages.weak_iterations + stages.photo_set_iterations:
            raise ValueError("R-Net and C-Net learn from photographs: give some, or rendered persons (world.persons)")
        if photos is not None and stages.photo_set_iterations:
            PoseSets(photos.identity, torch.zeros(len(photos.identity)), self.config.data.photos_per_identity)
        if stages.weak_iterations and self.config.weights.flattening and SKIN not in self.morphable.regions:
            raise ValueError(f"{self.morphable.name} has no region '{SKIN}' for L_tex; set weights.flattening to 0")

    def stage(self, iteration: int) -> tuple[str, int, int]:
        """Which of STAGES an iteration belongs to, which of its iterations it is, and how many it has."""
        done = iteration
        for stage, count in zip(STAGES, self._counts):
            if done < count:
                return stage, done, count
            done -= count
        raise ValueError(f"training ends after {self.total_iterations} iterations")

    def learning_rate(self, iteration: int) -> float:
        stages = self.config.stages
        stage, done, count = self.stage(iteration)
        if stage == "encoder":
            return float(stages.encoder_learning_rate * risen_cosine(done, count))
        if stage == "confidence":
            return float(stages.confidence_learning_rate)
        return float(stages.learning_rate * (risen_cosine(done, count) if stages.schedule == "cosine" else 1.0))

    def images_in(self, iteration: int) -> int:
        data = self.config.data
        return int(data.labelled_batch if self.stage(iteration)[0] == "encoder" else data.photo_batch)

    def step(self, iteration: int) -> dict[str, torch.Tensor]:
        stage, done, count = self.stage(iteration)
        self.system.train()
        if stage == "confidence":  # R-Net is frozen, its statistics too
            self.system.eval()
        elif stage == "weak" and self.config.stages.hold_statistics:
            self.system.encoder.eval()
        rate = self.learning_rate(iteration)
        head_rate = self.config.stages.head_rate if stage == "weak" else 1.0
        for group, factor in zip(self.optimizer.param_groups, (1.0, head_rate, 1.0)):
            group["lr"] = rate * factor
        self.optimizer.zero_grad(set_to_none=True)
        total, terms = self._averaged(stage, self.batch(iteration))
        total.backward()
        result = distributed.mean_losses([terms])
        self.descend(self.parameters, result, iteration)
        if stage == "encoder" and done + 1 == count:
            self._solve_heads()
        return result

    def batch(self, iteration: int) -> Any:
        """This process's share of an iteration's pictures, on the device."""
        data, (stage, _, _) = self.config.data, self.stage(iteration)
        if stage == "encoder":
            index = iteration * data.labelled_batch + torch.arange(data.labelled_batch)
            return self.renders.batch(index[self._share.rows(data.labelled_batch)])
        if stage == "confidence" and self.config.stages.confidence_pictures == "renders":
            return self._labelled_sets(iteration)
        assert self.photos is not None and self._stream is not None
        if stage == "weak":
            return self._stream.at(iteration).to(self.device)
        generator = sample_generator(self.config.run.seed, "sets", iteration)
        sets = self.sets().sample(generator, data.photo_batch // data.photos_per_identity)
        own = sets[self._share.rows(len(sets))].flatten()
        return self.photos.batch(own, iteration).to(self.device)

    @functools.cached_property
    def set_renders(self) -> PersonRenders:
        """Of which sets are that C-Net may learn from."""
        size, seed = self.config.model.image_size, self.config.run.seed + seeds.LABELLED_SETS
        pictures = self.config.data.photos_per_identity
        return PersonRenders(self.morphable, size, size, seed, pictures=pictures, yaw=SET_YAW)

    def _labelled_sets(self, iteration: int) -> LabelledBatch:
        """Each of a person whom no other shows."""
        pictures = self.set_renders.pictures
        count = self.config.data.photo_batch // pictures
        person = (iteration * count + torch.arange(count))[self._share.rows(count)]
        return self.set_renders.batch((person[:, None] * pictures + torch.arange(pictures)).flatten())

    def sets(self) -> PoseSets:
        """Sets of one person's photographs, spread over the yaws that the frozen R-Net sees in them."""
        if self._sets is None:
            assert self.photos is not None
            known = (self.photos.identity >= 0).nonzero()[:, 0]
            yaw = torch.zeros(len(self.photos.identity))
            self.system.eval()
            distributed.take_first_buffers(self.system.encoder)
            parts = tqdm(known.split(BATCH), desc="yaws", leave=False, disable=not distributed.is_first())
            with torch.no_grad():
                for index in parts:
                    images = self.photos.batch(index, None).image.to(self.device)
                    yaw[index] = self.system.encode(images).codes.pose[:, 1].cpu()
            yaw = distributed.gathered(yaw.to(self.device))[0].cpu()  # rounding of one process for all
            self._sets = PoseSets(self.photos.identity, yaw, self.config.data.photos_per_identity)
        return self._sets

    def _solve_heads(self) -> None:
        """Ends the stage `encoder`, on renders that no iteration sees."""
        system, metric, size = self.system, self.objective.metric, self.config.data.labelled_batch
        first = self.total_iterations * size
        solve_on_renders(
            system,
            lambda batch: whitened(system, batch),
            lambda error: code_error(system, metric, error),
            self.renders,
            range(first, first + self.config.stages.head_renders),
            size,
            self.optimizer,
        )

    def sources(self) -> dict[str, Any]:
        return super().sources() | {"recognition": None if self.recogniser is None else self.recogniser.identity}

    def assets(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        tensors, plain = assets_of(self.morphable)
        return tensors, plain | {"perception_trained_on": self.system.perception_trained_on}

    def start_from(self, checkpoint: Checkpoint) -> list[str]:
        left = super().start_from(checkpoint)
        self._take_over_caution(checkpoint)
        return left

    def restore(self, checkpoint: Checkpoint) -> int:
        iteration = super().restore(checkpoint)
        self._take_over_caution(checkpoint)
        return iteration

    def _take_over_caution(self, checkpoint: Checkpoint) -> None:
        """A network that has seen renders alone stays in the weights whatever perceives after it."""
        if checkpoint.plain.get("assets", {}).get("perception_trained_on") == RENDERS:
            self.system.perception_trained_on = RENDERS
