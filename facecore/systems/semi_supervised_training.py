"""Training of the semi-supervised system: stages, optimisers, checkpoints (METHODS 2.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from facecore.data import LabelledPhotos, ParameterPhotos, PhotoSource
from facecore.morphable import MorphableModel
from facecore.systems.assets import FaceAssets
from facecore.systems.face_trainer import FaceTrainer
from facecore.systems.semi_supervised import SemiSupervised
from facecore.systems.semi_supervised_adversaries import PatchAdversary, ShapeAdversary, accumulated, frozen
from facecore.systems.semi_supervised_config import SemiSupervisedConfig
from facecore.systems.semi_supervised_losses import IdentityLoss
from facecore.systems.semi_supervised_objective import Objective, labelled_stream, photo_stream
from facecore.systems.semi_supervised_schedule import STAGES as STAGES
from facecore.systems.semi_supervised_schedule import Schedule
from facecore.systems.shared_terms import Terms
from facecore.systems.solved_heads import solve_on_renders
from facecore.training import distributed
from facecore.training.adam import Adam
from facecore.training.config import config_hash
from facecore.training.trainer import State

NAME = "semi-supervised"


class SemiSupervisedTrainer(FaceTrainer):
    """Implements training.loop.Trainer; see FaceTrainer."""

    name = NAME

    def __init__(
        self,
        config: SemiSupervisedConfig,
        morphable: MorphableModel,
        photos: PhotoSource | None,
        labelled_photos: ParameterPhotos | None = None,
    ) -> None:
        super().__init__(config, morphable, photos)
        photos, labelled = self.photos, self.morphable.to("cpu")
        self.labelled = None if labelled_photos is None else LabelledPhotos(labelled_photos, labelled)
        assets = FaceAssets.from_morphable(labelled, config.model.factors)
        self.model = self.system = SemiSupervised(config.model, assets).to(self.device)
        self.system.encoder = distributed.synchronised(self.system.encoder, self.device)
        self.system.config_hash = config_hash(config)
        self.system.encoder_precision = _encoder_precision(config.stages.encoder_precision, self.device)
        if config.stages.decoder_iterations:  # code 0 is then the mean face: the encoder starts there
            for head in (self.system.identity_head, self.system.expression_head):
                nn.init.zeros_(head.weight)
                nn.init.zeros_(head.bias)
        num_identities = photos.num_identities if photos is not None else 0
        self.identity_loss = (
            IdentityLoss(config.model.identity_size, num_identities).to(self.device) if num_identities > 1 else None
        )
        self.model_parameters = self.system.model_parameters()
        if self.identity_loss is not None:
            self.model_parameters += list(self.identity_loss.parameters())
        heads = {id(parameter) for head in self.system.heads()[:2] for parameter in head.parameters()}  # of codes
        groups = [[p for p in self.model_parameters if (id(p) in heads) == own] for own in (False, True)]
        self.optimizer = Adam([{"params": group} for group in groups])
        expressions = None if self.labelled is None else self.labelled.expressions()
        self.shapes = ShapeAdversary(config, self.system, self.morphable, expressions)
        self.patches: PatchAdversary | None = None
        if config.model.albedo_decoder != "graph" and config.stages.texture_iterations and config.weights.patch:
            self.patches = PatchAdversary(config).to(self.device)
        scores = (self.shapes.term, None if self.patches is None else self.patches.term)
        self.schedule = Schedule(config)
        self.total_iterations = self.schedule.total
        self._share = distributed.own_share()
        check_shares(config, photos is not None, self._share.count)
        loading = (config, self.device, self.total_iterations)
        streams = (photo_stream(photos, *loading), labelled_stream(self.labelled, *loading))
        parts = (self.system, self.morphable, self.renders, *streams, self.identity_loss)
        self.objective = Objective(config, *parts, *scores)
        with frozen(self.system.discriminator):  # it has a backward pass of its own
            self._averaged = distributed.averaged(self.objective)
        self.begin()

    def _solve_code_heads(self) -> None:
        """Ends the encoder's stage, on renders that no iteration sees."""
        stages, embedding = self.config.stages, self.objective.embedding
        first = self.total_iterations * self.objective.stride
        solve_on_renders(
            self.system,
            embedding.codes_of,
            embedding.code_error,
            self.renders,
            range(first, first + stages.head_renders),
            stages.encoder_batch,
            self.optimizer,
        )

    def _prepare(self, stage: str) -> None:
        """What a stage trains, and in which mode: stage C leaves shape, heads and batch statistics as they are."""
        system = self.system.train()
        if self.config.stages.hold_statistics and stage in ("warmup", "hybrid"):
            system.encoder.eval()
        if self.config.model.albedo_decoder == "both":
            system.use_texture(stage == "texture")
        if stage != "texture":
            return
        system.encoder.eval()
        if self.patches is not None:
            self.patches.train()
        frozen = [system.shape_decoder, system.identity_head, system.expression_head, system.pose_head]
        points = (system.point_maps, system.point_features)
        frozen += [system.light_head, *(part for part in points if part is not None)]
        if self.config.stages.texture_trunk == "frozen":
            frozen.append(system.encoder)
        for module in frozen:
            module.requires_grad_(False)

    def images_in(self, iteration: int) -> int:
        data = self.config.data
        photos = data.photo_batch if self.photos is not None else 0
        images = {"decoder": 0, "encoder": self.config.stages.encoder_batch, "warmup": data.labelled_batch}
        return images.get(self.schedule.stage(iteration), data.labelled_batch + photos)

    def step(self, iteration: int) -> dict[str, torch.Tensor]:
        """One model step, then, in the stages that have one, a step of the discriminator on the same fakes."""
        stage = self.schedule.stage(iteration)
        self._prepare(stage)
        rates = (self.schedule.learning_rate(iteration), self.schedule.head_learning_rate(iteration))
        for group, rate in zip(self.optimizer.param_groups, rates):
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        terms = self._add_gradients(stage, iteration)
        self.descend(self.model_parameters, terms, iteration)
        critics = self._after_step(iteration)
        if critics:
            self._watch.see(critics, iteration)
        if stage == "encoder" and iteration + 1 == self.schedule.first("warmup"):
            self._solve_code_heads()
        return terms | critics

    def _add_gradients(self, stage: str, iteration: int) -> Terms:
        """Gradients of the whole batch, part by part; returns its losses, of all processes."""
        count = self.config.stages.accumulate
        self.objective.forget()
        parts: list[Terms] = []
        for part in range(count):
            with accumulated(self._averaged, part, count):
                total, terms = self._averaged(stage, iteration, self._share.part(part, count))
                (total / count).backward()
            parts.append(terms)
        return distributed.mean_losses(parts)

    def _after_step(self, iteration: int) -> Terms:
        """What follows the model: the persons' centres, and the discriminators; returns the losses of these."""
        if self.objective.persons and self.identity_loss is not None:
            codes, persons = (torch.cat(part) for part in zip(*self.objective.persons))
            self.identity_loss.center.update(codes, persons)
        fakes = self.objective.fakes
        if not fakes:
            return {}
        if fakes[0].real is None:
            return distributed.mean_losses([{"adversarial critic": self.shapes.learn(fakes, iteration)}])
        assert self.patches is not None
        return distributed.mean_losses([{"patch critic": self.patches.learn(fakes, iteration)}])

    def companions(self) -> dict[str, nn.Module]:
        return {} if self.identity_loss is None else {"identity_loss": self.identity_loss}

    def resumable(self) -> dict[str, State]:
        states: dict[str, State] = {"critic_optimizer": self.shapes.optimizer}
        if self.patches is not None:
            states |= {"patches": self.patches, "patch_optimizer": self.patches.optimizer}
        return states

    def sources(self) -> dict[str, Any]:
        return super().sources() | {
            "encoder_precision": str(self.system.encoder_precision).removeprefix("torch."),
            "labelled": None if self.labelled is None else self.labelled.digest,
        }

    def assets(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        return self.system.assets.to_tensors()


def _encoder_precision(name: str, device: torch.device) -> torch.dtype:
    """auto: bfloat16 where the hardware multiplies it: GPUs that torch says do, CPUs with AMX; float32 elsewhere."""
    if name == "auto":
        fast = (
            torch.cuda.is_bf16_supported(including_emulation=False)
            if device.type == "cuda"
            else torch.cpu._is_amx_tile_supported()
        )
        name = "bfloat16" if fast else "float32"
    return getattr(torch, name)


def check_shares(config: SemiSupervisedConfig, with_photos: bool, processes: int) -> None:
    """Refuses batches that cannot be split equally, pairs kept together. Raises ValueError that names the setting."""
    shares = processes * config.stages.accumulate
    batches = {
        "data.labelled_batch": (config.data.labelled_batch, 2 * shares),
        "stages.encoder_batch": (config.stages.encoder_batch, shares),
    }
    if with_photos:
        batches["data.photo_batch"] = (config.data.photo_batch, shares)
    for name, (size, unit) in batches.items():
        if shares > 1 and size % unit:
            kept = ", pairs kept together," if unit != shares else ""
            raise ValueError(
                f"{name} must be a multiple of {unit}, got {size}: it is split into equal parts{kept} "
                f"for {processes} processes x stages.accumulate {config.stages.accumulate}"
            )
