"""What the trainers of all systems share: a step of their optimiser, checkpoints, resuming, fine-tuning."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from facecore.training.adam import Adam
from facecore.training.checkpoint import (
    Checkpoint,
    load_matching,
    load_optimizer_tensors,
    load_whole,
    optimizer_tensors,
)
from facecore.training.config import RunConfig, config_hash, to_plain
from facecore.training.device import choose_device
from facecore.training.resume import check_same_run
from facecore.training.watch import FiniteWatch

if TYPE_CHECKING:
    from facecore.data.batches import PictureSource
    from facecore.morphable import MorphableModel

State = nn.Module | torch.optim.Optimizer


class Settings(Protocol):
    """What the settings of every system have; `stages` has a clip_norm."""

    @property
    def run(self) -> RunConfig: ...


class SystemTrainer(abc.ABC):
    """A training.loop.Trainer with its checkpoints made. All randomness is keyed by (seed, iteration).

    A system sets `name`, and before anything here is called `model`, what is trained and saved, `optimizer`, the
    morphable model and the photographs.
    """

    name: str
    model: nn.Module
    optimizer: Adam
    morphable: MorphableModel
    photos: PictureSource[Any] | None
    total_iterations: int

    def __init__(self, config: Settings) -> None:
        self.config: Any = config
        self.device = choose_device(config.run.device)
        self.not_taken_over: list[str] = []  # names of weights that start_from did not have
        self._watch = FiniteWatch()
        self._start = ""  # what start_from took over
        self._earlier_recognisers: list[str] = []  # of the trainings that this one began from

    @abc.abstractmethod
    def images_in(self, iteration: int) -> int: ...

    @abc.abstractmethod
    def step(self, iteration: int) -> dict[str, torch.Tensor]: ...

    @abc.abstractmethod
    def validate(self) -> dict[str, float]: ...

    @abc.abstractmethod
    def picture_grid(self) -> torch.Tensor: ...

    def sources(self) -> dict[str, Any]:
        """What the settings' hash leaves out and what is learned depends on: see `check_same_run`."""
        photos = None if self.photos is None else self.photos.digest
        return {"encoder_precision": "float32", "photos": photos, "labelled": None}

    def assets(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """What a checkpoint carries beside weights: tensors and plain values, `morphable_hash` among these."""
        return {}, {"morphable_hash": self.morphable.content_hash()}

    def companions(self) -> dict[str, nn.Module]:
        """Modules beside the model that every checkpoint holds, by the names of their groups."""
        return {}

    def resumable(self) -> dict[str, State]:
        """What is needed to go on, and not to use the model; beside the optimiser."""
        return {}

    def descend(self, parameters: list[nn.Parameter], terms: dict[str, torch.Tensor], iteration: int) -> None:
        """A step along the gradients that were summed up, none longer than stages.clip_norm. Raises NotFinite."""
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        self._watch.see(terms | {"gradient norm": norm}, iteration)
        self.optimizer.clipped_step(norm, self.config.stages.clip_norm)

    def checkpoint(self, iteration: int, *, resumable: bool) -> Checkpoint:
        """Raises NotFinite rather than give weights that a NaN has reached."""
        self._watch.check()
        assets, _ = self.assets()
        tensors = {"model": self.model.state_dict()} | ({"assets": assets} if assets else {})
        states: dict[str, State] = dict(self.companions())
        if resumable:
            states |= {"optimizer": self.optimizer} | self.resumable()
        tensors |= {name: _tensors(state) for name, state in states.items()}
        plain = self._plain()
        # every recognition network whose loss or features are in the weights: none may judge them (METHODS 7)
        recognitions = sorted({*self._earlier_recognisers, *recognisers_of(plain)})
        return Checkpoint(tensors, plain | {"iteration": iteration, "recognitions": recognitions})

    def _plain(self) -> dict[str, Any]:
        """What tells this run from others, beside its iteration."""
        return {
            "system": self.name,
            "config": to_plain(self.config),
            "config_hash": config_hash(self.config),
            "start": self._start,
            "assets": self.assets()[1],
        } | self.sources()

    def restore(self, checkpoint: Checkpoint) -> int:
        """Raises ValueError when the checkpoint is of another run, which would not go on to the same weights, or of a
        network that has changed since."""
        self._start = str(checkpoint.plain.get("start", ""))  # a resumed run began where it began
        self._earlier_recognisers = recognisers_of(checkpoint.plain)
        check_same_run(checkpoint.plain, self._plain())
        if "optimizer" not in checkpoint.tensors:
            raise ValueError("this checkpoint holds no optimiser state; resume from last.safetensors")
        load_whole(self.model, checkpoint.tensors["model"])
        states = self.companions() | {"optimizer": self.optimizer} | self.resumable()
        for name, state in states.items():
            if isinstance(state, nn.Module):
                load_whole(state, checkpoint.tensors.get(name, {}))
            else:  # one that has not moved yet has no tensors
                load_optimizer_tensors(state, checkpoint.tensors.get(name, {}))
        return int(checkpoint.plain["iteration"])

    def start_from(self, checkpoint: Checkpoint) -> list[str]:
        """Takes over the model's weights whose names and shapes agree; returns the names of the others.

        Raises ValueError for a checkpoint of another system or morphable model, or when nothing agrees.
        """
        if checkpoint.plain.get("system") != self.name:
            raise ValueError(
                f"start_from must be a checkpoint of '{self.name}', got {checkpoint.plain.get('system')!r}"
            )
        if checkpoint.plain["assets"]["morphable_hash"] != self.assets()[1]["morphable_hash"]:
            raise ValueError("start_from was trained on another morphable model; give the same --model.morphable")
        left = load_matching(self.model, checkpoint.tensors["model"])
        plain = checkpoint.plain
        self._earlier_recognisers = recognisers_of(plain)
        self._start = f"{plain['config_hash']}, seed {plain['config']['run']['seed']}, {plain['iteration']} iterations"
        return left

    def begin(self) -> None:
        """At the end of a system's own set-up: the weights that the run is to start from, if it names any."""
        run = self.config.run
        if run.start_from is not None and not run.resume:
            self.not_taken_over = self.start_from(Checkpoint.load(run.start_from))


def recognisers_of(plain: dict[str, Any]) -> list[str]:
    """Identities of the recognition networks that took part in a checkpoint's training, or in one it began from."""
    own = plain.get("recognition")
    return list(plain.get("recognitions", [own] if own else []))


def _tensors(state: State) -> dict[str, torch.Tensor]:
    return state.state_dict() if isinstance(state, nn.Module) else optimizer_tensors(state)
