"""What the semi-supervised system minimises in each stage of its training (METHODS 2.2, 2.3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from facecore.data import (
    LabelledBatch,
    LabelledPhotos,
    LabelledRenders,
    PhotoBatch,
    PhotoSource,
    PhotoStream,
    PictureSource,
    ShapeBatch,
    sample_generator,
)
from facecore.data.batches import Batch
from facecore.morphable import MorphableModel
from facecore.nn import PointMaps
from facecore.systems.semi_supervised import SemiSupervised
from facecore.systems.semi_supervised_adversaries import Fakes
from facecore.systems.semi_supervised_codes import Estimate
from facecore.systems.semi_supervised_config import SemiSupervisedConfig
from facecore.systems.semi_supervised_losses import (
    IdentityLoss,
    Truth,
    albedo_term,
    labelled_terms,
    landmark_term,
    picture_terms,
    smoothness_term,
)
from facecore.systems.semi_supervised_warmup import CodeEmbedding, decoder_terms, encoder_terms
from facecore.systems.shared_terms import PointShapes, Terms, surface_point_term, weighted_total
from facecore.systems.streams import open_stream
from facecore.training.distributed import WHOLE, Share

Score = Callable[[torch.Tensor], torch.Tensor]


class Objective(nn.Module):
    """What each stage minimises; batches are keyed by the iteration, so that resuming is exact.

    A module, so that torch's DistributedDataParallel can wrap it: its parameters are the system's and the classifier's.
    A share is a part of the iteration's batch; all shares have equally many samples, so that the mean of their losses
    is the loss of the whole. stream: this process's share of the photographs, None = there are none; labelled: that of
    the labelled half, None = it is rendered. score_shapes, score_pictures: what the discriminators make of fakes
    (L_adv, L_patch).
    """

    def __init__(
        self,
        config: SemiSupervisedConfig,
        system: SemiSupervised,
        morphable: MorphableModel,
        renders: LabelledRenders,
        stream: PhotoStream[PhotoBatch] | None,
        labelled: PhotoStream[ShapeBatch] | None,
        identity_loss: IdentityLoss | None,
        score_shapes: Score,
        score_pictures: Score | None,
    ) -> None:
        super().__init__()
        self.config, self.system, self.morphable = config, system, morphable
        self.renders, self.stream, self.labelled = renders, stream, labelled
        self.identity_loss = identity_loss
        self._score_shapes, self._score_pictures = score_shapes, score_pictures
        model, seed = config.model, config.run.seed
        self.embedding = CodeEmbedding(morphable, model.identity_size, model.expression_size, seed)
        self.stride = max(config.data.labelled_batch, config.stages.encoder_batch)  # sample numbers of an iteration
        self._point_shapes: PointShapes | None = None  # made when needed: a checkpoint may bring its own points
        self.fakes: list[Fakes] = []  # of the forward passes since `forget`, as are the persons
        self.persons: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, stage: str, iteration: int, share: Share) -> tuple[torch.Tensor, Terms]:
        """The weighted sum for one share of the batch, and the terms by name, without gradient."""
        terms = self.terms(stage, iteration, share)
        total = weighted_total(terms, self.config.weights)
        return total, {name: value.detach() for name, value in terms.items()} | {"total": total.detach()}

    def forget(self) -> None:
        """Before the first forward pass of an iteration."""
        self.fakes, self.persons = [], []

    def terms(self, stage: str, iteration: int, share: Share = WHOLE) -> Terms:
        """The losses of one share of an iteration's batch, with gradient."""
        makers = {
            "decoder": self._decoder,
            "encoder": self._encoder,
            "warmup": self._warmup,
            "hybrid": self._hybrid,
            "texture": self._texture,
        }
        return makers[stage](iteration, share)

    def _decoder(self, iteration: int, share: Share) -> Terms:
        generator = sample_generator(self.config.run.seed, "decoder", iteration)
        count = self.config.data.labelled_batch
        return decoder_terms(self.system, self.morphable, self.embedding, count, generator, share)

    def _encoder(self, iteration: int, share: Share) -> Terms:
        batch = self._rendered(iteration, share, self.config.stages.encoder_batch)
        encoding = self.system.encode(batch.image)
        terms = encoder_terms(self.system, self.embedding, encoding.codes, batch)
        return terms | self._point_terms(encoding.points, batch)

    def _warmup(self, iteration: int, share: Share) -> Terms:
        """Stage A: the labelled half with L_shp, L_pair, L_lmk; nothing is rendered in the loss."""
        batch = self._labelled(iteration, share)
        encoding = self.system.encode(batch.image)
        estimate = self.system.decode(encoding)
        terms = self._labelled_terms(estimate, batch)
        landmarks = estimate.landmarks_ndc(self.system.landmarks68)
        terms["landmark"] = landmark_term(landmarks, batch, self.config.model.image_size)
        return terms | self._point_terms(encoding.points, batch)

    def _hybrid(self, iteration: int, share: Share) -> Terms:
        """Stage B: labelled renders and photographs through the encoder together, every term."""
        weights, system = self.config.weights, self.system
        batch, photos = self._labelled(iteration, share), self._photos(iteration, share)
        images, masks = _together(batch, photos)
        known = self._known_share(iteration, share)
        encoding = system.encode(images)
        estimate = system.decode(encoding)
        rendering = system.render(estimate)
        terms = self._labelled_terms(estimate, batch)
        terms |= picture_terms(system, estimate, rendering, images, masks, weights)
        terms["smoothness"] = smoothness_term(system, estimate, weights)
        terms |= self._point_terms(encoding.points, batch, photos)
        terms |= self._photo_terms(estimate, batch, photos, known)
        if weights.adversarial:
            terms["adversarial"] = self._score_shapes(estimate.displacement)
            self._keep(estimate.displacement, None, share, photos)
        return terms

    def _texture(self, iteration: int, share: Share) -> Terms:
        """Stage C: pictures through the texture decoder; with a trained trunk, what holds the codes in place, too."""
        weights, system = self.config.weights, self.system
        batch, photos = self._labelled(iteration, share), self._photos(iteration, share)
        images, masks = _together(batch, photos)
        known = self._known_share(iteration, share)
        estimate = system.decode(system.encode(images))
        rendering = system.render(estimate)
        terms = picture_terms(system, estimate, rendering, images, masks, weights)
        if self.config.stages.texture_trunk == "trained":
            terms |= self._labelled_terms(estimate, batch) | self._photo_terms(estimate, batch, photos, known)
        elif isinstance(batch, LabelledBatch):
            terms["labelled_albedo"] = albedo_term(estimate.albedo[: len(batch)], batch, self.morphable)
        if weights.patch:
            assert self._score_pictures is not None
            region = (rendering.alpha * masks)[:, None]
            fake = rendering.image * region
            terms["patch"] = self._score_pictures(fake)
            self._keep(fake, images * region, share, photos)
        return terms

    def _labelled_terms(self, estimate: Estimate, batch: ShapeBatch) -> Terms:
        """Of the estimate's first faces, which are the batch's."""
        n, codes = len(batch), estimate.codes[: len(batch)]
        truth = Truth.of(batch, self.morphable, self.system)
        terms = labelled_terms(self.system, codes, estimate.displacement[:n], batch, truth)
        if isinstance(batch, LabelledBatch):
            terms["labelled_albedo"] = albedo_term(estimate.albedo[:n], batch, self.morphable)
        terms["labelled_code"] = self.embedding.code_term(codes, batch)
        return terms

    def _keep(self, made: torch.Tensor, real: torch.Tensor | None, share: Share, photos: PhotoBatch | None) -> None:
        """Remembers fakes for the discriminators; in a whole batch all renders stand before all photographs."""
        labelled, unlabelled = self.config.data.labelled_batch, 0 if photos is None else self.config.data.photo_batch
        places = torch.arange(labelled + unlabelled)
        places = torch.cat([places[share.rows(labelled)], places[labelled:][share.rows(unlabelled)]])
        real = None if real is None else real.detach()
        self.fakes.append(Fakes(made.detach(), real, places, labelled + unlabelled))

    def _photo_terms(self, estimate: Estimate, batch: ShapeBatch, photos: PhotoBatch | None, known: float) -> Terms:
        """L_lmk over both halves; L_recog of the photographs where persons are known (known: see _known_share)."""
        size, n = self.config.model.image_size, len(batch)
        landmarks = estimate.landmarks_ndc(self.system.landmarks68)
        if photos is None:
            return {"landmark": landmark_term(landmarks, batch, size)}
        labelled, unlabelled = landmarks.split((n, len(photos)))
        landmark = landmark_term(labelled, batch, size) * n + landmark_term(unlabelled, photos, size) * len(photos)
        terms = {"landmark": landmark / (n + len(photos))}
        if self.identity_loss is not None:
            codes, persons = estimate.codes.identity[n:], photos.identity
            terms["recognition"] = known * self.identity_loss(codes, persons, self.config.weights.center)
            self.persons.append((codes.detach(), persons))
        return terms

    def _point_terms(self, points: PointMaps | None, batch: ShapeBatch, photos: PhotoBatch | None = None) -> Terms:
        """The term of the surface points, if the encoder has them: the renders' first, then the photographs'."""
        if points is None:
            return {}
        if self._point_shapes is None:
            self._point_shapes = PointShapes(self.morphable, self.system.point_vertices)
        target = self.system.camera(batch.pose).ndc(self._point_shapes(batch.identity, batch.expression))
        return {"surface_points": surface_point_term(points, target, photos, self.config.model.image_size)}

    def _labelled(self, iteration: int, share: Share) -> ShapeBatch:
        """The labelled half of stages A to C: photographs if there are any, else renders."""
        count = self.config.data.labelled_batch
        if self.labelled is None:
            return self._rendered(iteration, share, count)
        return self.labelled.part(iteration, share.rows(count), self.system.template.device)

    def _rendered(self, iteration: int, share: Share, count: int) -> LabelledBatch:
        """Renders that no other iteration sees: each iteration owns a stretch of the sample numbers."""
        return self.renders.batch(iteration * self.stride + torch.arange(count)[share.rows(count)])

    def _photos(self, iteration: int, share: Share = WHOLE) -> PhotoBatch | None:
        if self.stream is None:
            return None
        return self.stream.part(iteration, share.rows(self.stream.batches.count), self.system.template.device)

    def _known_share(self, iteration: int, share: Share) -> float:
        """How often known persons occur in a share, over how often in the whole batch.

        L_recog is a mean over known persons, of which shares have different numbers: times this, the mean of the
        shares' losses is the loss of the whole.
        """
        if self.stream is None:
            return 1.0
        batches = self.stream.batches
        known = (batches.photos.identity[batches.index(iteration)] >= 0).double()
        return float(known[share.rows(len(known))].mean() / known.mean()) if bool(known.any()) else 1.0


def photo_stream(
    photos: PhotoSource | None, config: SemiSupervisedConfig, device: torch.device, iterations: int
) -> PhotoStream[PhotoBatch] | None:
    """This process's share of the photographs; None without photographs."""
    data = config.data
    if photos is None:
        return None
    return _stream(photos, config, (data.photo_batch, data.photos_per_identity), "photos", device, iterations)


def labelled_stream(
    photos: LabelledPhotos | None, config: SemiSupervisedConfig, device: torch.device, iterations: int
) -> PhotoStream[ShapeBatch] | None:
    """This process's share of the labelled half, in random pairs of different originals; None where it is rendered."""
    if photos is None:
        return None
    return _stream(photos, config, (config.data.labelled_batch, 1), "labelled", device, iterations)


def _stream(
    source: PictureSource[Batch],
    config: SemiSupervisedConfig,
    sizes: tuple[int, int],
    purpose: str,
    device: torch.device,
    iterations: int,
) -> PhotoStream[Batch]:
    workers = config.data.workers
    return open_stream(source, config.run.seed, sizes, purpose, workers=workers, device=device, iterations=iterations)


def _together(batch: ShapeBatch, photos: PhotoBatch | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures and masks of the labelled half, then of the photographs."""
    if photos is None:
        return batch.image, batch.mask
    return torch.cat([batch.image, photos.image]), torch.cat([batch.mask, photos.mask])
