"""Training of a recognition network on renders of a morphable model and photographs of known persons (METHODS 7)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from facecore.data import PhotoBatch, PhotoSource, PhotoStream, RenderedPhotos
from facecore.evaluation.verification import verify_persons
from facecore.losses import identification_loss
from facecore.morphable import MorphableModel
from facecore.nn import EmbeddingNetwork
from facecore.perception import align_faces, alignment
from facecore.perception.networks import build_architecture
from facecore.systems import seeds
from facecore.systems.coefficient_metric import CoefficientMetric
from facecore.systems.recognition_config import RecognitionConfig
from facecore.systems.streams import open_stream
from facecore.systems.world import faces_of_world
from facecore.training import distributed
from facecore.training.adam import Adam
from facecore.training.rates import risen_cosine
from facecore.training.trainer import State, SystemTrainer

NAME = "recognition"
YAW = 60.0  # degrees to either side, of the renders (METHODS 7)
HELD_OUT_PICTURES = 4  # of each held-out person
PLACED_BY = 4  # pictures of each person, where the margin starts
BATCH = 25  # pictures embedded at once for validation


class RecognitionObjective(nn.Module):
    """Aligned faces and who they show to the loss: softmax over cosines with an additive margin; and before it, faces
    and their coefficients."""

    def __init__(
        self, network: EmbeddingNetwork, model: MorphableModel, num_persons: int, margin: float, scale: float
    ) -> None:
        super().__init__()
        self.network, self.margin, self.scale = network, margin, scale
        self.metric = CoefficientMetric(model)
        self.num_expression, self._num_albedo = model.num_expression, model.num_albedo
        self.coefficients = nn.Linear(network.head.out_features, model.num_identity + model.num_albedo)
        self.persons = nn.Linear(network.head.out_features, num_persons, bias=False)
        nn.init.normal_(self.persons.weight)

    def forward(
        self, faces: torch.Tensor, person: torch.Tensor, coefficients: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, and the share of known faces that are nearest to their own person.

        coefficients: whitened identity and albedo, [N, Ki + Ka]: the loss is the error of what an affine map of the
        embedding makes of them, over its variance, and nobody is told apart.
        """
        embed = self.network(faces).embed
        if coefficients is not None:
            difference = self.coefficients(embed) - coefficients
            identity, albedo = difference.split([difference.shape[1] - self._num_albedo, self._num_albedo], 1)
            shape = functional.pad(identity, (0, self.num_expression))
            loss = (self.metric.shape_error(shape) + self.metric.albedo_error(albedo)).mean()
            return loss, loss.new_zeros(())
        embed = functional.normalize(embed, dim=1)
        cosines = embed @ functional.normalize(self.persons.weight, dim=1).T
        right = (cosines.detach().argmax(1) == person).sum() / (person >= 0).sum().clamp_min(1)
        return identification_loss(cosines, person, margin=self.margin, scale=self.scale), right


class RecognitionTrainer(SystemTrainer):
    """Implements training.loop.Trainer; see SystemTrainer."""

    name = NAME

    def __init__(self, config: RecognitionConfig, morphable: MorphableModel, photos: PhotoSource | None) -> None:
        super().__init__(config)
        self.photos = photos
        _, world = faces_of_world(morphable, config.world)
        self.morphable = world.to(self.device)
        size, seed, counts = config.model.image_size, config.run.seed, config.world

        def rendered(seed: int, persons: int, pictures: int) -> RenderedPhotos:
            return RenderedPhotos(self.morphable, size, size, seed, persons=persons, pictures=pictures, yaw=YAW)

        self.renders = rendered(seed + seeds.RECOGNITION_PERSONS, counts.persons, counts.pictures)
        self.held_out = rendered(seed + seeds.RECOGNITION_HELD_OUT, config.run.validation_size, HELD_OUT_PICTURES)
        torch.manual_seed(seed)
        options = {"width": config.model.width} if config.model.architecture == "sphereface" else {}
        network = build_architecture(config.model.architecture, **options)
        assert isinstance(network, EmbeddingNetwork)
        self.model = self.network = distributed.synchronised(network, self.device)
        num_persons = counts.persons + (0 if photos is None else photos.num_identities)
        self.objective = RecognitionObjective(
            self.network, self.morphable, num_persons, config.stages.margin, config.stages.scale
        )
        self.objective.to(self.device)
        self.parameters = list(self.objective.parameters())
        self.optimizer = Adam(self.parameters)
        self._averaged = distributed.averaged(self.objective)
        self._first = config.stages.coefficient_iterations
        self.total_iterations = self._first + config.stages.iterations
        self._streams = list(self._open_streams())
        self.begin()

    @property
    def sees_photographs(self) -> bool:
        return len(self._streams) > 1

    def _open_streams(self) -> Iterator[PhotoStream[PhotoBatch]]:
        data, share = self.config.data, distributed.own_share()
        for source, count, purpose in (
            (self.renders, data.labelled_batch, "rendered persons"),
            (self.photos, data.photo_batch, "photos"),
        ):
            if source is not None and count:
                share.rows(count)  # raises where the processes cannot share the batch
                sizes, device = (count, data.photos_per_identity), self.device
                yield open_stream(
                    source,
                    self.config.run.seed,
                    sizes,
                    purpose,
                    workers=data.workers,
                    device=device,
                    iterations=self.total_iterations,
                )

    def images_in(self, iteration: int) -> int:
        streams = self._streams[:1] if iteration < self._first else self._streams
        return sum(stream.batches.count for stream in streams)

    def step(self, iteration: int) -> dict[str, torch.Tensor]:
        if iteration == self._first and self._first:
            self._place_persons()
        self.objective.train()
        early = iteration < self._first
        done, count = (iteration, self._first) if early else (iteration - self._first, self.config.stages.iterations)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.stages.learning_rate * risen_cosine(done, count)
        self.optimizer.zero_grad(set_to_none=True)
        faces, person = self._faces(iteration, self._streams[:1] if early else self._streams)
        share = distributed.share_of((person >= 0).sum(), self.device)
        coefficients = self._coefficients(person) if early else None
        loss, right = (share * value for value in self._averaged(faces, person, coefficients))
        loss.backward()
        terms = distributed.mean_losses([{"total": loss.detach(), "right": right}])
        self.descend(self.parameters, terms, iteration)
        return terms

    def _faces(
        self, iteration: int, streams: list[PhotoStream[PhotoBatch]] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Aligned faces of this process's share, and their persons: the photographs' come after the rendered ones.

        streams: the first ones alone, in the order of _streams; default: all.
        """
        faces, persons, first = [], [], 0
        for stream in self._streams if streams is None else streams:
            batch = stream.at(iteration).to(self.device)
            faces.append(self.aligned(batch))
            persons.append(torch.where(batch.identity >= 0, batch.identity + first, -1))
            first += stream.batches.photos.num_identities
        return torch.cat(faces), torch.cat(persons)

    def _coefficients(self, person: torch.Tensor) -> torch.Tensor:
        """Whitened identity and albedo coefficients of rendered persons, [N, Ki + Ka]."""
        prior, pictures = self.morphable.prior, self.renders.renders.pictures
        truth = self.renders.renders.coefficients(person.cpu() * pictures)
        return torch.cat([prior.whiten("identity", truth.identity), prior.whiten("albedo", truth.albedo)], 1)

    @torch.no_grad()
    def _place_persons(self) -> None:
        """Each person starts where the embeddings of some of the person's pictures are: the margin then sharpens what
        the coefficients taught, instead of drawing it to random places."""
        self.objective.eval()
        distributed.take_first_buffers(self.network)
        weight, first = self.objective.persons.weight, 0
        for stream in self._streams:
            source = stream.batches.photos
            for person in range(source.num_identities):
                index = (source.identity == person).nonzero()[:PLACED_BY, 0]
                embed = self.network(self.aligned(source.batch(index, None).to(self.device))).embed
                weight[first + person] = functional.normalize(embed, dim=1).mean(0)
            first += source.num_identities
        weight.copy_(distributed.gathered(weight)[0])  # rounding of one process for all

    def aligned(self, batch: PhotoBatch) -> torch.Tensor:
        """Faces as the network takes them."""
        height, width = self.network.input_size
        return align_faces(batch.image, alignment(batch.aligning_points()), height, width)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Verification of held-out rendered persons, in percent (METHODS 8.1): accuracy, equal_error, auc, tar_*."""
        self._watch.check()
        return verify_persons(self.embed_held_out(), HELD_OUT_PICTURES)

    @torch.no_grad()
    def embed_held_out(self) -> np.ndarray:
        """Embeddings [N, d] of the held-out pictures, HELD_OUT_PICTURES of a person in a row."""
        self.objective.eval()
        parts = []
        for index in torch.arange(len(self.held_out)).split(BATCH):
            parts.append(self.network(self.aligned(self.held_out.batch(index))).embed.cpu())
        return torch.cat(parts).numpy()

    @torch.no_grad()
    def picture_grid(self) -> torch.Tensor:
        """Rows of held-out persons, a picture in each column, as the network sees them."""
        faces = self.aligned(self.held_out.batch(torch.arange(min(4 * HELD_OUT_PICTURES, len(self.held_out)))))
        rows = [torch.cat(list(row), dim=2) for row in faces.clamp(0, 1).split(HELD_OUT_PICTURES)]
        return torch.cat(rows, dim=1).cpu()

    def resumable(self) -> dict[str, State]:
        return {"persons": self.objective.persons, "coefficients": self.objective.coefficients}
