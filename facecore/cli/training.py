"""What every training command does: settings, processes, folder, training, and what it says of itself."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from facecore.cli.errors import UsageError
from facecore.cli.training_settings import (
    LEAST,
    LEAST_WORLD,
    check_batches,
    check_bumps,
    check_folder,
    check_numbers,
    check_persons,
    check_photographs,
    refuse_unused,
    resolve,
)
from facecore.training.config import config_hash, write_yaml

if TYPE_CHECKING:
    from facecore.morphable import MorphableModel
    from facecore.training.trainer import SystemTrainer


class TrainingCommand(abc.ABC):
    """`facecore train` of one system or network: train_NAME.py says what is its own and holds a COMMAND.

    prog, description: of --help. system: its name for --system, "" for a network that has a command of its own.
    kind: class of the settings, whose plain instance has the paper's; presets: of that class, by name.
    least, positive: settings, as section.name, with the least value that works, or that must be positive; beside those
    of all systems. unused: settings that have no effect, and why; they are refused.
    """

    prog: str
    description: str
    system: str = ""
    kind: type
    presets: Mapping[str, Any]
    least: ClassVar[Mapping[str, float]]
    positive: Sequence[str]
    unused: ClassVar[Mapping[str, str]] = {}

    def main(self, argv: list[str]) -> int:
        config = self.parse(argv)
        self.check(config)
        return together(config, lambda: self._train(config))

    def parse(self, argv: list[str]) -> Any:
        """Preset, then YAML, then command line. Raises UsageError; --help prints and exits."""
        systems = (self.system,) if self.system else ()
        return resolve(argv, self.kind, self.presets, prog=self.prog, description=self.description, systems=systems)

    def check(self, config: Any) -> None:
        """Refuses settings that cannot work, before anything is loaded or written."""
        has_world = hasattr(config, "world")
        check_numbers(config, {**LEAST, **(LEAST_WORLD if has_world else {}), **self.least}, self.positive)
        refuse_unused(config, self.unused)
        if has_world:
            check_bumps(config.world)
        check_photographs(config)
        self.check_own(config)
        if has_world:
            check_persons(config)

    @abc.abstractmethod
    def check_own(self, config: Any) -> None:
        """What else cannot work in this system."""

    def check_shares(self, config: Any, processes: int) -> None:
        """Refuses batches that so many processes cannot share."""
        check_batches(config, processes)

    @abc.abstractmethod
    def trainer(self, config: Any, morphable: MorphableModel) -> Any:
        """Loads what else the settings name, and makes the trainer. Raises UsageError where they do not go together."""

    def facts(self, config: Any, morphable: MorphableModel, trainer: Any) -> dict[str, Any]:
        """What every row of metrics says of its run."""
        import torch

        from facecore.training import distributed

        return {
            "config_hash": config_hash(config),
            "seed": config.run.seed,
            "morphable": morphable.name,
            "threads": torch.get_num_threads(),
            "processes": distributed.world_size(),
        }

    @abc.abstractmethod
    def learns_from(self, config: Any, trainer: Any, facts: dict[str, Any]) -> str:
        """The morphable model, photographs and renders of a training, in a few words."""

    def remarks(self, config: Any, trainer: Any) -> list[str]:
        """What else is to be known before it begins, a line each."""
        return []

    def introduce(self, config: Any, trainer: Any, facts: dict[str, Any]) -> None:
        """Says what is about to be trained, from what, and on what."""
        weights = sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)
        device = str(trainer.device) + (f" x {facts['processes']} processes" if facts["processes"] > 1 else "")
        print(
            f"configuration {facts['config_hash']}, seed {config.run.seed}: {weights:,} weights, "
            f"{self.learns_from(config, trainer, facts)}, {device}"
        )
        for remark in self.remarks(config, trainer):
            print(remark)

    def finish(self, config: Any, trainer: Any, validation: dict[str, float]) -> None:  # noqa: B027  # a system may have nothing to do
        """In the first process, when the training is done."""

    def _train(self, config: Any) -> int:
        """The training in this process, one of several under torchrun."""
        from facecore.cli.train_data import load_morphable
        from facecore.training import distributed

        check_folder(config.run)
        self.check_shares(config, distributed.world_size())
        morphable = load_morphable(config)
        trainer = self.trainer(config, morphable)
        facts = self.facts(config, morphable, trainer)
        validation = train_and_report(trainer, config, facts, lambda: self.introduce(config, trainer, facts))
        if distributed.is_first():
            self.finish(config, trainer, validation)
        return 0


def first_says(command: Callable[[], int]) -> int:
    """Of several processes that all refuse a command line, the first one says why."""
    try:
        return command()
    except UsageError:
        from facecore.training.distributed import is_first

        if is_first():
            raise
        return 2


def together(config: Any, training: Callable[[], int]) -> int:
    """Runs a training in this process, with the others if torchrun started it."""
    from facecore.training import distributed
    from facecore.training.device import choose_device

    try:
        device = choose_device(config.run.device)
    except ValueError as error:
        raise UsageError(f"--run.device: {error}") from error
    distributed.start(device)
    try:
        return training()
    finally:
        distributed.finish()


def train_and_report(trainer: SystemTrainer, config: Any, facts: dict[str, Any], introduce: Callable[[], None]) -> Any:
    """Trains from the start or from where it stopped, in a folder that is made, and prints the last validation.

    Returns the validation, empty in all processes but the first.
    """
    from facecore.training import distributed
    from facecore.training.device import unused_gpu
    from facecore.training.loop import train

    out = config.run.out
    if config.run.device == "auto" and unused_gpu():
        print(unused_gpu())
    distributed.any_process(False)  # all have looked at the folder before one writes into it
    if distributed.is_first():
        out.mkdir(parents=True, exist_ok=True)
        if not config.run.resume:  # a refused resumption must not overwrite the settings of the run
            write_yaml(out / "config.yaml", config)
        introduce()
        if distributed.normalises_apart(trainer.model):
            print("batch normalisation of each process is over its own pictures: torch synchronises it on GPUs alone")
        if config.run.start_from is not None and not config.run.resume:
            left = trainer.not_taken_over
            names = f"all but {len(left)}: {', '.join(left[:5])}{', ...' if len(left) > 5 else ''}" if left else "all"
            print(f"weights from {config.run.start_from}: {names}")
    try:
        validation = train(trainer, config.run, facts)
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, f"{error.strerror}; make room, then add --run.resume", str(out)) from error
    if distributed.is_first():
        for name, value in validation.items():
            print(f"{name:>28} {value:9.4f}")
        print(f"{out / 'model.safetensors'}")
    return validation
