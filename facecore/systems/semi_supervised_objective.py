"""What the semi-supervised system minimises in each stage of its training (METHODS 2.2, 2.3)."""

from __future__ import annotations

import torch

from facecore.data import LabelledBatch, LabelledRenders, PhotoBatch, PhotoSource, sample_generator
from facecore.morphable import MorphableModel
from facecore.nn import PointMaps
from facecore.systems.semi_supervised import SemiSupervised
from facecore.systems.semi_supervised_adversaries import PatchAdversary, ShapeAdversary
from facecore.systems.semi_supervised_codes import Estimate
from facecore.systems.semi_supervised_config import SemiSupervisedConfig
from facecore.systems.semi_supervised_losses import (
    IdentityLoss,
    Terms,
    Truth,
    albedo_term,
    labelled_terms,
    landmark_term,
    picture_terms,
    smoothness_term,
    surface_point_term,
)
from facecore.systems.semi_supervised_warmup import CodeEmbedding, decoder_terms, encoder_terms


class Objective:
    """The terms of each stage, by name; batches are keyed by the iteration, so that resuming is exact."""

    def __init__(
        self,
        config: SemiSupervisedConfig,
        system: SemiSupervised,
        morphable: MorphableModel,
        renders: LabelledRenders,
        photos: PhotoSource | None,
        identity_loss: IdentityLoss | None,
        shapes: ShapeAdversary,
        patches: PatchAdversary | None,
    ) -> None:
        self.config, self.system, self.morphable = config, system, morphable
        self.renders, self.photos, self.identity_loss = renders, photos, identity_loss
        self.shapes, self.patches = shapes, patches
        model, seed = config.model, config.run.seed
        self.embedding = CodeEmbedding(morphable, model.identity_size, model.expression_size, seed)
        self.stride = max(config.data.labelled_batch, config.stages.encoder_batch)  # sample numbers of an iteration

    def terms(self, stage: str, iteration: int) -> Terms:
        """The losses of one iteration; in the stages with a discriminator, that one's step comes before."""
        makers = {
            "decoder": self._decoder,
            "encoder": self._encoder,
            "warmup": self._warmup,
            "hybrid": self._hybrid,
            "texture": self._texture,
        }
        return makers[stage](iteration)

    def _decoder(self, iteration: int) -> Terms:
        count, seed = self.config.data.labelled_batch, self.config.run.seed
        return decoder_terms(self.system, self.morphable, self.embedding, count, seed, iteration)

    def _encoder(self, iteration: int) -> Terms:
        batch = self._labelled(iteration, self.config.stages.encoder_batch)
        encoding = self.system.encode(batch.image)
        terms = encoder_terms(self.system, self.embedding, encoding.codes, batch)
        return terms | self._point_terms(encoding.points, batch)

    def _warmup(self, iteration: int) -> Terms:
        """Stage A: the labelled half with L_shp, L_pair, L_lmk; nothing is rendered in the loss."""
        batch = self._labelled(iteration)
        encoding = self.system.encode(batch.image)
        estimate = self.system.decode(encoding)
        terms = self._labelled_terms(estimate, batch)
        terms["landmark"] = landmark_term(self.system, estimate, batch, self.config.model.image_size)
        return terms | self._point_terms(encoding.points, batch)

    def _hybrid(self, iteration: int) -> Terms:
        """Stage B: labelled renders and photographs through the encoder together, every term."""
        weights, system = self.config.weights, self.system
        batch, photos = self._labelled(iteration), self._photos(iteration)
        images, masks = _together(batch, photos)
        encoding = system.encode(images)
        estimate = system.decode(encoding)
        rendering = system.render(estimate)
        terms = self._labelled_terms(system.slice(estimate, slice(0, len(batch))), batch)
        terms |= picture_terms(system, estimate, rendering, images, masks, weights)
        terms["smoothness"] = smoothness_term(system, estimate, weights)
        terms |= self._point_terms(encoding.points, batch, photos) | self._photo_terms(estimate, batch, photos)
        if weights.adversarial:
            fake = (estimate.vertices - system.template) / system.shape_scale
            self.shapes.train(fake, iteration)
            terms["adversarial"] = self.shapes.term(fake)
        return terms

    def _texture(self, iteration: int) -> Terms:
        """Stage C: pictures through the texture decoder; with a trained trunk, what holds the codes in place, too."""
        weights, system = self.config.weights, self.system
        batch, photos = self._labelled(iteration), self._photos(iteration)
        images, masks = _together(batch, photos)
        estimate = system.decode(system.encode(images))
        rendering = system.render(estimate)
        labelled = system.slice(estimate, slice(0, len(batch)))
        terms = picture_terms(system, estimate, rendering, images, masks, weights)
        if self.config.stages.texture_trunk == "trained":
            terms |= self._labelled_terms(labelled, batch) | self._photo_terms(estimate, batch, photos)
        else:
            terms["labelled_albedo"] = albedo_term(labelled, batch, self.morphable)
        if weights.patch:
            assert self.patches is not None
            region = (rendering.alpha * masks)[:, None]
            fake = rendering.image * region
            self.patches.learn(images * region, fake, iteration)
            terms["patch"] = self.patches.term(fake)
        return terms

    def _labelled_terms(self, labelled: Estimate, batch: LabelledBatch) -> Terms:
        truth = Truth.of(batch, self.morphable, self.system)
        terms = labelled_terms(self.system, labelled.codes, labelled, batch, truth)
        terms["labelled_albedo"] = albedo_term(labelled, batch, self.morphable)
        terms["labelled_code"] = self.embedding.code_term(labelled.codes, batch)
        return terms

    def _photo_terms(self, estimate: Estimate, batch: LabelledBatch, photos: PhotoBatch | None) -> Terms:
        """L_lmk over the whole batch; L_recog of the photographs where persons are known."""
        system, size, n = self.system, self.config.model.image_size, len(batch)
        landmark = landmark_term(system, system.slice(estimate, slice(0, n)), batch, size) * n
        if photos is None:
            return {"landmark": landmark / n}
        unlabelled = system.slice(estimate, slice(n, None))
        landmark = landmark + landmark_term(system, unlabelled, photos, size) * len(photos)
        terms = {"landmark": landmark / (n + len(photos))}
        if self.identity_loss is not None:
            center = self.config.weights.center
            terms["recognition"] = self.identity_loss(unlabelled.codes.identity, photos.identity, center)
        return terms

    def _point_terms(self, points: PointMaps | None, batch: LabelledBatch, photos: PhotoBatch | None = None) -> Terms:
        """The term of the surface points, if the encoder has them: the renders' first, then the photographs'."""
        if points is None:
            return {}
        if photos is None:
            return {"surface_points": surface_point_term(self.system, points, batch, self.morphable)}
        n, m = len(batch), len(photos)
        term = surface_point_term(self.system, points.select(slice(0, n)), batch, self.morphable)
        photo_term = surface_point_term(self.system, points.select(slice(n, None)), photos, self.morphable)
        return {"surface_points": (term * n + photo_term * m) / (n + m)}

    def _labelled(self, iteration: int, count: int | None = None) -> LabelledBatch:
        """Renders that no other iteration sees: each iteration owns a stretch of the sample numbers."""
        first = iteration * self.stride
        count = self.config.data.labelled_batch if count is None else count
        return self.renders.batch(torch.arange(first, first + count))

    def _photos(self, iteration: int) -> PhotoBatch | None:
        if self.photos is None:
            return None
        data = self.config.data
        index = self.photos.sample(
            sample_generator(self.config.run.seed, "photos", iteration), data.photo_batch, data.photos_per_identity
        )
        return self.photos.batch(index, iteration).to(self.system.template.device)


def _together(batch: LabelledBatch, photos: PhotoBatch | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures and masks of the labelled half, then of the photographs."""
    if photos is None:
        return batch.image, batch.mask
    return torch.cat([batch.image, photos.image]), torch.cat([batch.mask, photos.mask])
