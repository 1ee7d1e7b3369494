"""Which stage an iteration of the semi-supervised training belongs to, and its learning rate (METHODS 2.3)."""

from __future__ import annotations

from facecore.systems.semi_supervised_config import SemiSupervisedConfig
from facecore.training.rates import cosine, risen_cosine

STAGES = ("decoder", "encoder", "warmup", "hybrid", "texture")  # in this order; StageConfig.<stage>_iterations each


class Schedule:
    """The stages one after the other, and the model's learning rate over them."""

    def __init__(self, config: SemiSupervisedConfig) -> None:
        self._stages = config.stages
        self._counts = {stage: int(getattr(config.stages, f"{stage}_iterations")) for stage in STAGES}
        if config.model.albedo_decoder == "graph":
            self._counts["texture"] = 0
        self.total = sum(self._counts.values())

    def count(self, stage: str) -> int:
        """Iterations of a stage."""
        return self._counts[stage]

    def first(self, stage: str) -> int:
        """The iteration with which a stage starts."""
        return sum(self._counts[earlier] for earlier in STAGES[: STAGES.index(stage)])

    def stage(self, iteration: int) -> str:
        """Which of STAGES an iteration belongs to. Raises ValueError past the end."""
        for stage in STAGES:
            iteration -= self._counts[stage]
            if iteration < 0:
                return stage
        raise ValueError(f"training ends after {self.total} iterations")

    def learning_rate(self, iteration: int) -> float:
        """The stages before the paper's have cosines of their own: each is to be finished when the next starts.

        So has stage C, whose decoder is new; A and B share one. Each rises at its start.
        """
        stages, stage = self._stages, self.stage(iteration)
        if stage in ("decoder", "encoder"):
            rate = stages.decoder_learning_rate if stage == "decoder" else stages.encoder_learning_rate
            return rate * risen_cosine(iteration - self.first(stage), self._counts[stage])
        if stage == "texture":
            done, count = iteration - self.first("texture"), self._counts["texture"]
        else:
            done, count = iteration - self.first("warmup"), self._counts["warmup"] + self._counts["hybrid"]
        rise = min(1.0, (done + 1) / max(stages.rise_steps, 1))
        return stages.learning_rate * rise * (1.0 if stages.schedule == "constant" else cosine(done / count))

    def head_learning_rate(self, iteration: int) -> float:
        """Of the heads of c_id and c_exp: lower from stage A on."""
        early = self.stage(iteration) in ("decoder", "encoder")
        return self.learning_rate(iteration) * (1.0 if early else self._stages.head_rate)
