"""Training of system 3 on clips, with landmarks alone as labels (METHODS 5)."""

from __future__ import annotations

import torch

from facecore.data import LabelledBatch, LabelledRenders, PhotoBatch, PhotoSource, RenderedPhotos
from facecore.evaluation.held_out import Baseline, evaluate_held_out
from facecore.morphable import MorphableModel
from facecore.systems import seeds
from facecore.systems.conditional_estimation import ConditionalEstimation
from facecore.systems.conditional_estimation_config import ConditionalEstimationConfig
from facecore.systems.conditional_estimation_losses import (
    ConditionalObjective,
    Exchange,
    draw_partners,
    full_exchange,
    stochastic_exchange,
)
from facecore.systems.morphable_assets import assets_of
from facecore.systems.picture_rows import picture_rows, pictures_to_show
from facecore.systems.streams import open_stream
from facecore.systems.world import faces_of_world
from facecore.training import distributed
from facecore.training.adam import Adam
from facecore.training.config import config_hash
from facecore.training.rates import risen_cosine
from facecore.training.trainer import SystemTrainer

NAME = "conditional-estimation"


class ConditionalEstimationTrainer(SystemTrainer):
    """Implements training.loop.Trainer; see SystemTrainer."""

    name = NAME

    def __init__(
        self, config: ConditionalEstimationConfig, morphable: MorphableModel, photos: PhotoSource | None
    ) -> None:
        super().__init__(config)
        labelled, world = faces_of_world(morphable, config.world)
        self.morphable, self.world = labelled.to(self.device), world.to(self.device)
        size, seed, stages = config.model.image_size, config.run.seed, config.stages
        if photos is None and config.world.persons:
            counts = {"persons": config.world.persons, "pictures": config.world.pictures}
            photos = RenderedPhotos(self.world, size, size, seed + seeds.PERSONS, **counts)
        if photos is None and stages.iterations:
            raise ValueError("there are no clips: give data.photos, or world.persons to render some")
        self.photos = photos
        self.renders = LabelledRenders(self.morphable, size, size, seed=seed)
        self.held_out = LabelledRenders(self.world, size, size, seed=seed + seeds.HELD_OUT)
        self.baseline = Baseline.of(self.world, self.renders)
        torch.manual_seed(seed)
        system = ConditionalEstimation(config.model, labelled).to(self.device)
        self.model = self.system = distributed.synchronised(system, self.device)
        self.system.config_hash = config_hash(config)
        self.objective = ConditionalObjective(config.weights, self.system)
        self.parameters = list(self.system.parameters())
        self.optimizer = Adam(self.parameters)
        self._averaged = distributed.averaged(self.objective)
        self._share = distributed.own_share()
        check_shares(config, self._share.count)
        self.total_iterations = stages.warmup_iterations + stages.iterations
        self._stream = None
        if photos is not None and stages.iterations:
            self._stream = open_stream(
                photos,
                seed,
                (config.data.photo_batch, config.data.photos_per_identity),
                "photos",
                workers=config.data.workers,
                device=self.device,
                iterations=self.total_iterations,
            )
        self.begin()

    def warming_up(self, iteration: int) -> bool:
        """Whether an iteration is on labelled renders. Raises ValueError after the last one."""
        if not 0 <= iteration < self.total_iterations:
            raise ValueError(f"training has {self.total_iterations} iterations, got {iteration}")
        return iteration < int(self.config.stages.warmup_iterations)

    def learning_rate(self, iteration: int) -> float:
        stages, early = self.config.stages, self.warming_up(iteration)
        first = stages.warmup_iterations
        rate = stages.warmup_learning_rate if early else stages.learning_rate
        done, count = (iteration, first) if early else (iteration - first, stages.iterations)
        return float(rate * (risen_cosine(done, count) if stages.schedule == "cosine" else 1.0))

    def images_in(self, iteration: int) -> int:
        data = self.config.data
        return int(data.labelled_batch if self.warming_up(iteration) else data.photo_batch)

    def step(self, iteration: int) -> dict[str, torch.Tensor]:
        self.objective.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(iteration)
        self.optimizer.zero_grad(set_to_none=True)
        terms = self._averaged(*self.batch(iteration))
        terms["total"].backward()
        result = distributed.mean_losses([{name: value.detach() for name, value in terms.items()}])
        self.descend(self.parameters, result, iteration)
        return result

    def batch(self, iteration: int) -> tuple[LabelledBatch | PhotoBatch, Exchange | None]:
        """This process's share of an iteration's renders; or of its frames, with whose reflectance each is drawn."""
        data, weights = self.config.data, self.config.weights
        if self.warming_up(iteration):
            rows = self._share.rows(data.labelled_batch)
            return self.renders.batch(iteration * data.labelled_batch + torch.arange(data.labelled_batch)[rows]), None
        assert self._stream is not None
        frames = self._stream.at(iteration)
        clip, frames = frames.identity.cpu(), frames.to(self.device)  # asked for before it is on a GPU: nothing waits
        if weights.exchange == "all":
            return frames, full_exchange(clip)
        first = self._share.rows(data.photo_batch).start
        partner = draw_partners(clip, self.config.run.seed, iteration, first)
        return frames, stochastic_exchange(partner, weights.constraint, weights.flip_source)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Errors on held-out renders."""
        self._watch.check()
        self.system.eval()
        count = self.config.run.validation_size
        return evaluate_held_out(self.system.reconstruct, self.world, self.held_out, self.baseline, count)

    @torch.no_grad()
    def picture_grid(self) -> torch.Tensor:
        """Rows of input, overlay, reflectance and shading: held-out renders, then frames."""
        self.system.eval()
        images = pictures_to_show(self.held_out, self.photos)
        return picture_rows(images, self.system.render(self.system(images), images))

    def assets(self) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
        return assets_of(self.morphable)


def check_shares(config: ConditionalEstimationConfig, processes: int) -> None:
    """Refuses batches that processes cannot share, clips kept together. Raises ValueError that names the setting."""
    data = config.data
    if config.stages.warmup_iterations and data.labelled_batch % processes:
        raise ValueError(
            f"data.labelled_batch must be a multiple of the {processes} processes, got {data.labelled_batch}"
        )
    unit = data.photos_per_identity * processes
    if config.stages.iterations and data.photo_batch % unit:
        raise ValueError(
            f"data.photo_batch must be a multiple of {unit}, data.photos_per_identity for each of the "
            f"{processes} processes, so that no clip is torn, got {data.photo_batch}"
        )
