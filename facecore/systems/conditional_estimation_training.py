"""Training of system 3 on clips, with landmarks alone as labels (METHODS 5)."""

from __future__ import annotations

import torch
from torch import nn

from facecore.data import LabelledBatch, PhotoBatch, PhotoSource
from facecore.morphable import MorphableModel
from facecore.systems.conditional_estimation import CanonicalReader, ConditionalEstimation
from facecore.systems.conditional_estimation_config import ConditionalEstimationConfig
from facecore.systems.conditional_estimation_losses import (
    ConditionalObjective,
    Exchange,
    draw_partners,
    full_exchange,
    stochastic_exchange,
)
from facecore.systems.face_trainer import FaceTrainer
from facecore.systems.morphable_assets import assets_of
from facecore.systems.reader_points import ReaderHeads
from facecore.systems.solved_heads import solve_on_renders
from facecore.training import distributed
from facecore.training.adam import Adam
from facecore.training.config import config_hash
from facecore.training.rates import risen_cosine

NAME = "conditional-estimation"


class ConditionalEstimationTrainer(FaceTrainer):
    """Implements training.loop.Trainer; see FaceTrainer."""

    name = NAME

    def __init__(
        self, config: ConditionalEstimationConfig, morphable: MorphableModel, photos: PhotoSource | None
    ) -> None:
        super().__init__(config, morphable, photos)
        stages = config.stages
        if self.photos is None and stages.iterations:
            raise ValueError("there are no clips: give data.photos, or world.persons to render some")
        system = ConditionalEstimation(config.model, self.morphable.to("cpu")).to(self.device)
        self.model = self.system = distributed.synchronised(system, self.device)
        self.system.config_hash = config_hash(config)
        self.objective = ConditionalObjective(config.weights, self.system)
        groups = self._groups()
        self.parameters = [parameter for group in groups for parameter in group]
        self.optimizer = Adam([{"params": group} for group in groups])
        self._averaged = distributed.averaged(self.objective)
        self._share = distributed.own_share()
        check_shares(config, self._share.count)
        self.total_iterations = stages.warmup_iterations + stages.iterations
        self._stream = self.stream_of_photographs(config.data.photos_per_identity) if stages.iterations else None
        self.begin()
        if stages.warmup_iterations and isinstance(self.system.shape_network, CanonicalReader):
            # what an earlier warm-up solved was for its inputs; it is solved again, and not trained until then
            nn.init.zeros_(self.system.shape_network.correction.weight)

    def _groups(self) -> list[list[nn.Parameter]]:
        """What the warm-up does not teach; what it does; of that the last layer of a point-reader."""
        system, head = self.system, []
        if isinstance(system.shape_network, CanonicalReader):
            head = list(system.shape_network.head.parameters())
        heads = {id(parameter) for parameter in head}
        taught = [*system.viewpoint_network.parameters(), *system.shape_network.parameters()]
        known = {id(parameter) for parameter in taught}
        rest = [p for p in system.parameters() if id(p) not in known]
        return [rest, [p for p in taught if id(p) not in heads], head]

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
        stages, early = self.config.stages, self.warming_up(iteration)
        taught = 1.0 if early else stages.taught_rate
        head = taught if early else taught * stages.head_rate
        for group, factor in zip(self.optimizer.param_groups, (1.0, taught, head)):
            group["lr"] = self.learning_rate(iteration) * factor
        self.optimizer.zero_grad(set_to_none=True)
        terms = self._averaged(*self.batch(iteration))
        terms["total"].backward()
        result = distributed.mean_losses([{name: value.detach() for name, value in terms.items()}])
        self.descend(self.parameters, result, iteration)
        if iteration + 1 == stages.warmup_iterations:
            self._solve_head()
        return result

    def _solve_head(self) -> None:
        """Ends the warm-up of a point-reader, on renders that no iteration sees."""
        system, network, objective = self.system, self.system.shape_network, self.objective
        if not isinstance(network, CanonicalReader):
            return

        def prepare(images: torch.Tensor) -> torch.Tensor:
            return system.shape_input(images, system.estimate_viewpoint(images))

        size, stages = self.config.data.labelled_batch, self.config.stages
        first = stages.warmup_iterations * size
        numbers = range(first, first + stages.head_renders)
        system.eval()
        distributed.take_first_buffers(system)
        heads, metric = ReaderHeads(network, prepare, aligned=False), objective.metric
        solve_on_renders(heads, objective.truth, metric.shape_error, self.renders, numbers, size, self.optimizer)

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
            f"data.photo_batch must be a multiple of {unit}, frames of a clip times processes, so that no clip is "
            f"torn, got {data.photo_batch}"
        )
