"""Training of the semi-supervised system: hybrid batches, both optimisers, stages A and B (METHODS 2.3)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from facecore import losses
from facecore.data import LabelledBatch, LabelledRenders, PhotoBatch, PhotoFolder, sample_generator
from facecore.evaluation.held_out import Baseline, evaluate_held_out
from facecore.morphable import MorphableModel
from facecore.nn import PointMaps
from facecore.systems.assets import FaceAssets
from facecore.systems.semi_supervised import SemiSupervised
from facecore.systems.semi_supervised_config import SemiSupervisedConfig
from facecore.systems.semi_supervised_losses import (
    IdentityLoss,
    Terms,
    Truth,
    albedo_term,
    labelled_terms,
    landmark_term,
    picture_terms,
    surface_point_term,
    weighted_total,
)
from facecore.systems.semi_supervised_warmup import CodeEmbedding, decoder_terms, encoder_terms, solve_code_heads
from facecore.training.checkpoint import Checkpoint, load_optimizer_tensors, optimizer_tensors
from facecore.training.config import config_hash, to_plain
from facecore.training.device import choose_device
from facecore.training.loop import check_finite
from facecore.training.resume import check_same_run

NAME = "semi-supervised"
STAGES = ("decoder", "encoder", "warmup", "hybrid")  # in this order, each StageConfig.<stage>_iterations long
RAMP = 50  # iterations over which the learning rate of the first two stages rises: Adam's moments are few then
FINAL_RATE = 0.01  # of the learning rate, where the cosine schedule ends
HELD_OUT_SEED = 1_000_003  # added to the run's seed: identities that training never draws


class SemiSupervisedTrainer:
    """Implements training.loop.Trainer. All randomness is keyed by (seed, iteration), so that resuming is exact."""

    def __init__(self, config: SemiSupervisedConfig, morphable: MorphableModel, photos: PhotoFolder | None) -> None:
        self.config, self.photos = config, photos
        self.device = choose_device(config.run.device)
        self.morphable = morphable.to(self.device)
        size, seed = config.model.image_size, config.run.seed
        torch.manual_seed(seed)
        assets = FaceAssets.from_morphable(morphable, config.model.factors)
        self.system = SemiSupervised(config.model, assets).to(self.device)
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
        self.renders = LabelledRenders(self.morphable, size, size, seed=seed)
        self.held_out = LabelledRenders(self.morphable, size, size, seed=seed + HELD_OUT_SEED)
        self.baseline = Baseline.of(self.morphable, self.renders)
        self.model_parameters = self.system.model_parameters()
        if self.identity_loss is not None:
            self.model_parameters += list(self.identity_loss.parameters())
        self.critic_parameters = list(self.system.discriminator.parameters())
        stages = config.stages
        self.optimizer = torch.optim.Adam(self.model_parameters, lr=stages.learning_rate, fused=True)
        self.critic_optimizer = torch.optim.RMSprop(self.critic_parameters, lr=stages.critic_learning_rate)
        self.embedding = CodeEmbedding(self.morphable, config.model.identity_size, config.model.expression_size, seed)
        self._critic_loss = torch.zeros((), device=self.device)  # of the last discriminator step, for the log
        self._stride = max(config.data.labelled_batch, stages.encoder_batch)  # sample numbers of an iteration
        self.total_iterations = sum(self._iterations(stage) for stage in STAGES)
        self._paper_iterations = self._iterations("warmup") + self._iterations("hybrid")

    def stage(self, iteration: int) -> str:
        """Which of STAGES an iteration belongs to."""
        for stage in STAGES:
            iteration -= self._iterations(stage)
            if iteration < 0:
                return stage
        raise ValueError(f"training ends after {self.total_iterations} iterations")

    def _first(self, stage: str) -> int:
        """The iteration with which a stage starts."""
        return sum(self._iterations(earlier) for earlier in STAGES[: STAGES.index(stage)])

    def _solve_code_heads(self) -> None:
        """Ends the encoder's stage, on renders that no iteration sees; the optimiser forgets the heads' moments."""
        count, size = self.config.stages.head_renders, self.config.stages.encoder_batch
        if not count:
            return
        first = self.total_iterations * self._stride
        starts = tqdm(range(0, count, size), desc="heads", leave=False)
        batches = (self.renders.batch(torch.arange(first + i, first + min(i + size, count))) for i in starts)
        self.system.eval()
        solve_code_heads(self.system, self.embedding, batches)
        for head in (self.system.identity_head, self.system.expression_head):
            for parameter in head.parameters():
                self.optimizer.state.pop(parameter, None)

    def _iterations(self, stage: str) -> int:
        return int(getattr(self.config.stages, f"{stage}_iterations"))

    def images_in(self, iteration: int) -> int:
        data = self.config.data
        photos = data.photo_batch if self.photos is not None else 0
        images = {"decoder": 0, "encoder": self.config.stages.encoder_batch, "warmup": data.labelled_batch}
        return images.get(self.stage(iteration), data.labelled_batch + photos)

    def step(self, iteration: int) -> dict[str, torch.Tensor]:
        """One model step and, in stage B, the discriminator's steps before it."""
        self.system.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(iteration)
        self.optimizer.zero_grad(set_to_none=True)
        makers = {
            "decoder": self._decoder_terms,
            "encoder": self._encoder_terms,
            "warmup": self._warmup_terms,
            "hybrid": self._hybrid_terms,
        }
        terms = makers[self.stage(iteration)](iteration)
        check_finite(terms, iteration)
        total = weighted_total(terms, self.config.weights)
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.model_parameters, self.config.stages.clip_norm)
        check_finite({"gradient norm": norm}, iteration)
        self.optimizer.step()
        if self.stage(iteration) == "encoder" and iteration + 1 == self._first("warmup"):
            self._solve_code_heads()
        reported = {name: value.detach() for name, value in terms.items()} | {"total": total.detach()}
        return reported | ({"critic": self._critic_loss} if "adversarial" in terms else {})

    def _decoder_terms(self, iteration: int) -> Terms:
        count, seed = self.config.data.labelled_batch, self.config.run.seed
        return decoder_terms(self.system, self.morphable, self.embedding, count, seed, iteration)

    def _encoder_terms(self, iteration: int) -> Terms:
        batch = self._labelled(iteration, self.config.stages.encoder_batch)
        codes, points = self.system.encode_with_points(batch.image)
        terms = encoder_terms(self.system, self.embedding, codes, batch)
        return terms | self._point_terms(points, batch)

    def _warmup_terms(self, iteration: int) -> Terms:
        """Stage A: the labelled half with L_shp, L_pair, L_lmk; nothing is rendered in the loss."""
        batch = self._labelled(iteration)
        codes, points = self.system.encode_with_points(batch.image)
        estimate = self.system.decode(codes)
        truth = Truth.of(batch, self.morphable, self.system)
        terms = labelled_terms(self.system, codes, estimate, batch, truth)
        terms["labelled_albedo"] = albedo_term(estimate, batch, self.morphable)
        terms["labelled_code"] = self.embedding.code_term(codes, batch)
        terms["landmark"] = landmark_term(self.system, estimate, batch, self.config.model.image_size)
        return terms | self._point_terms(points, batch)

    def _hybrid_terms(self, iteration: int) -> Terms:
        """Stage B: labelled renders and photographs through the encoder together, every term."""
        config, system = self.config, self.system
        batch, size = self._labelled(iteration), config.model.image_size
        photos = self._photos(iteration)
        n = len(batch.image)
        images, masks = batch.image, batch.mask
        if photos is not None:
            images, masks = torch.cat([images, photos.image]), torch.cat([masks, photos.mask])
        codes, points = system.encode_with_points(images)
        estimate = system.decode(codes)
        labelled = system.slice(estimate, slice(0, n))
        truth = Truth.of(batch, self.morphable, system)
        terms = labelled_terms(system, codes[:n], labelled, batch, truth)
        terms |= picture_terms(system, estimate, images, masks, config.weights)
        terms["labelled_albedo"] = albedo_term(labelled, batch, self.morphable)
        terms["labelled_code"] = self.embedding.code_term(codes[:n], batch)
        terms |= self._point_terms(points, batch, photos)
        landmark = landmark_term(system, labelled, batch, size) * n
        if photos is not None:
            unlabelled = system.slice(estimate, slice(n, None))
            landmark = landmark + landmark_term(system, unlabelled, photos, size) * len(photos.image)
            if self.identity_loss is not None:
                terms["recognition"] = self.identity_loss(codes.identity[n:], photos.identity, config.weights.center)
        terms["landmark"] = landmark / len(images)
        if config.weights.adversarial:
            fake = (estimate.vertices - system.template) / system.shape_scale
            self._critic_steps(fake.detach(), iteration)
            system.discriminator.requires_grad_(False)
            terms["adversarial"] = losses.wgan_div_generator_loss(system.discriminator(fake))
            system.discriminator.requires_grad_(True)
        return terms

    def _point_terms(self, points: PointMaps | None, batch: LabelledBatch, photos: PhotoBatch | None = None) -> Terms:
        """The term of the surface points, if the encoder has them: the renders' first, then the photographs'."""
        if points is None:
            return {}
        if photos is None:
            return {"surface_points": surface_point_term(self.system, points, batch, self.morphable)}
        n, m = len(batch.image), len(photos.image)
        term = surface_point_term(self.system, points.select(slice(0, n)), batch, self.morphable)
        photo_term = surface_point_term(self.system, points.select(slice(n, None)), photos, self.morphable)
        return {"surface_points": (term * n + photo_term * m) / (n + m)}

    def _critic_steps(self, fake: torch.Tensor, iteration: int) -> None:
        """RMSprop steps of the discriminator on shapes of the model's prior against decoded ones (WGAN-div)."""
        for index in range(self.config.stages.critic_steps):
            generator = sample_generator(self.config.run.seed, "critic", iteration, index)
            sample = self.morphable.sample(len(fake), generator)
            real = self.morphable.shape(sample.identity.to(self.device), sample.expression.to(self.device))
            real = (real - self.system.template) / self.system.shape_scale
            self.critic_optimizer.zero_grad(set_to_none=True)
            loss = losses.wgan_div_critic_loss(self.system.discriminator, real, fake, generator)
            check_finite({"critic": loss}, iteration)
            loss.backward()
            self.critic_optimizer.step()
            self._critic_loss = loss.detach()

    def _labelled(self, iteration: int, count: int | None = None) -> LabelledBatch:
        """Renders that no other iteration sees: each iteration owns a stretch of the sample numbers."""
        first = iteration * self._stride
        count = self.config.data.labelled_batch if count is None else count
        return self.renders.batch(torch.arange(first, first + count))

    def _photos(self, iteration: int) -> PhotoBatch | None:
        if self.photos is None:
            return None
        data = self.config.data
        index = self.photos.sample(
            sample_generator(self.config.run.seed, "photos", iteration), data.photo_batch, data.photos_per_identity
        )
        return self.photos.batch(index, iteration).to(self.device)

    def _learning_rate(self, iteration: int) -> float:
        """The stages before the paper's have cosines of their own: each is to be finished when the next starts."""
        stages = self.config.stages
        for stage, rate in (("decoder", stages.decoder_learning_rate), ("encoder", stages.encoder_learning_rate)):
            count = self._iterations(stage)
            if iteration < count:
                return rate * min(1.0, (iteration + 1) / RAMP) * _cosine(iteration / count)
            iteration -= count
        falling = stages.schedule == "cosine"
        return stages.learning_rate * (_cosine(iteration / self._paper_iterations) if falling else 1.0)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        self.system.eval()
        return evaluate_held_out(
            self.system.reconstruct, self.morphable, self.held_out, self.baseline, self.config.run.validation_size
        )

    @torch.no_grad()
    def picture_grid(self) -> torch.Tensor:
        """Rows of input, overlay, albedo and shading: four held-out renders, then four photographs."""
        self.system.eval()
        images = self.held_out.batch(torch.arange(4)).image
        if self.photos is not None:
            index = torch.arange(min(4, len(self.photos)))
            images = torch.cat([images, self.photos.batch(index, None).image.to(self.device)])
        rendering = self.system.render(self.system(images), images)
        assert rendering.shading is not None  # SH light
        rows = (images, rendering.image, rendering.albedo, rendering.shading)
        return torch.cat([torch.cat(list(row.clamp(0, 1)), dim=2) for row in rows], dim=1).cpu()

    def checkpoint(self, iteration: int, *, resumable: bool) -> Checkpoint:
        assets, plain_assets = self.system.assets.to_tensors()
        tensors = {"model": self.system.state_dict(), "assets": assets}
        if self.identity_loss is not None:
            tensors["identity_loss"] = self.identity_loss.state_dict()
        if resumable:
            tensors["optimizer"] = optimizer_tensors(self.optimizer)
            tensors["critic_optimizer"] = optimizer_tensors(self.critic_optimizer)
        return Checkpoint(tensors, self._plain(plain_assets) | {"iteration": iteration})

    def _plain(self, assets: dict[str, Any]) -> dict[str, Any]:
        """What tells this run from others, beside its iteration."""
        return {
            "system": NAME,
            "config": to_plain(self.config),
            "config_hash": self.system.config_hash,
            "encoder_precision": str(self.system.encoder_precision).removeprefix("torch."),
            "photos": None if self.photos is None else self.photos.digest,
            "assets": assets,
        }

    def restore(self, checkpoint: Checkpoint) -> int:
        """Raises ValueError when the checkpoint is of another run: one that would not go on to the same weights."""
        check_same_run(checkpoint.plain, self._plain(self.system.assets.to_tensors()[1]))
        if "optimizer" not in checkpoint.tensors:
            raise ValueError("this checkpoint holds no optimiser state; resume from last.safetensors")
        self.system.load_state_dict(checkpoint.tensors["model"])
        if self.identity_loss is not None:
            self.identity_loss.load_state_dict(checkpoint.tensors["identity_loss"])
        load_optimizer_tensors(self.optimizer, checkpoint.tensors["optimizer"])
        load_optimizer_tensors(self.critic_optimizer, checkpoint.tensors.get("critic_optimizer", {}))
        return int(checkpoint.plain["iteration"])


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


def _cosine(progress: float) -> float:
    """From 1 to FINAL_RATE as progress goes from 0 to 1."""
    return FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * progress))
