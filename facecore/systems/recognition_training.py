"""Training of a recognition network on renders of a morphable model and photographs of known persons (METHODS 7)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from facecore.data import LabelledBatch, PhotoBatch, PhotoSource, PhotoStream, RenderedPhotos, five_points
from facecore.evaluation.verification import verify_persons
from facecore.morphable import MorphableModel
from facecore.nn import EmbeddingNetwork
from facecore.perception import align_faces, alignment
from facecore.perception.networks import build_architecture
from facecore.perception.point_recognition import PointRecognition
from facecore.systems import seeds
from facecore.systems.reader_points import ReaderHeads
from facecore.systems.recognition_config import RecognitionConfig, options_of
from facecore.systems.recognition_objective import RecognitionObjective
from facecore.systems.solved_heads import solve_on_renders
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
        network = build_architecture(config.model.architecture, **options_of(config.model, self.morphable))
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
        return len(self._streams) > 1 and self.config.stages.iterations > 0

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
        seen, person = self._labelled(iteration) if early else self._faces(iteration)
        share = distributed.share_of((person >= 0).sum(), self.device)
        loss, right = (share * value for value in self._averaged(seen, person))
        loss.backward()
        terms = distributed.mean_losses([{"total": loss.detach(), "right": right}])
        self.descend(self.parameters, terms, iteration)
        if iteration + 1 == self._first:
            self._solve_head()
        return terms

    def _labelled(self, iteration: int) -> tuple[LabelledBatch, torch.Tensor]:
        """This process's share of renders with their coefficients, all of persons that no other iteration sees; and
        the numbers of these."""
        count, stages, renders = self.config.data.labelled_batch, self.config.stages, self.renders.renders
        first = self.config.world.persons + stages.head_renders + iteration * count
        index = torch.tensor(renders.one_of_each(first, count))[distributed.own_share().rows(count)]
        return renders.batch(index), (index // renders.pictures).to(self.device)

    @torch.no_grad()
    def _solve_head(self) -> None:
        """Ends the first stage of a PointRecognition: its embedding becomes the coefficients themselves, solved on
        persons that no iteration sees, a picture of each: they must not be learned by heart."""
        network, objective, size = self.network, self.objective, self.config.data.labelled_batch
        if not (self.config.stages.head_renders and isinstance(network, PointRecognition)):
            return
        renders = self.renders.renders
        numbers = renders.one_of_each(self.config.world.persons, self.config.stages.head_renders)

        def prepare(images: torch.Tensor, landmarks: torch.Tensor) -> torch.Tensor:
            return align_faces(images, alignment(five_points(landmarks)), *network.input_size)

        heads = ReaderHeads(network, prepare, aligned=True)
        solve_on_renders(heads, objective.truth, objective.code_error, renders, numbers, size, self.optimizer)
        nn.init.eye_(objective.coefficients.weight)
        nn.init.zeros_(objective.coefficients.bias)

    def _faces(self, iteration: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Aligned faces of this process's share, and their persons: the photographs' come after the rendered ones."""
        faces, persons, first = [], [], 0
        for stream in self._streams:
            batch = stream.at(iteration).to(self.device)
            faces.append(self.aligned(batch))
            persons.append(torch.where(batch.identity >= 0, batch.identity + first, -1))
            first += stream.batches.photos.num_identities
        return torch.cat(faces), torch.cat(persons)

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
        """`verify_persons` of held-out rendered persons, in percent (METHODS 8.1)."""
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
