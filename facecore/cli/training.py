"""What every training command does: settings, processes, folder, training, and what it says of itself."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from facecore.cli.errors import UsageError
from facecore.cli.parsing import parse_options
from facecore.training.config import RunConfig, config_hash, overlay, read_yaml, write_yaml

if TYPE_CHECKING:
    from facecore.morphable import MorphableModel
    from facecore.training.loop import Trainer


def first_says(command: Callable[[], int]) -> int:
    """Of several processes that all refuse a command line, the first one says why."""
    try:
        return command()
    except UsageError:
        from facecore.training.distributed import is_first

        if is_first():
            raise
        return 2


def resolve(
    argv: list[str],
    kind: type,
    presets: Mapping[str, Any],
    *,
    prog: str,
    description: str,
    systems: Sequence[str] = (),
) -> Any:
    """Settings of a class: --preset of its presets, over it --config, over both the other options."""
    first = _Parser(add_help=False, allow_abbrev=False, prog=prog)
    if systems:
        first.add_argument("--system", default=systems[0], choices=systems)
    first.add_argument("--preset", default="quick", choices=sorted(presets))
    first.add_argument("--config", type=pathlib.Path)
    known, rest = first.parse_known_args(argv)
    config = presets[known.preset]
    if known.config is not None:
        try:
            config = overlay(config, read_yaml(known.config))
        except ValueError as error:
            raise UsageError(str(error)) from error
    return parse_options(kind, rest, prog=prog, description=description, default=config)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


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


def check_folder(run: RunConfig) -> None:
    """Refuses a folder that a run cannot start in, or go on in."""
    from facecore.training.loop import LAST

    out, has_checkpoint = run.out, (run.out / LAST).is_file()
    if out.exists() and not out.is_dir():
        raise UsageError(f"--run.out {out} is a file; give a folder")
    if run.resume and not has_checkpoint:
        raise UsageError(f"--run.resume: there is no checkpoint in {out}; leave --run.resume out for a new folder")
    if not run.resume and out.exists() and any(out.iterdir()):
        if has_checkpoint:
            raise UsageError(f"--run.out {out} is not empty; choose another folder, or add --run.resume")
        raise UsageError(
            f"--run.out {out} is not empty and has no checkpoint to go on from; delete it or choose another folder"
        )


def facts_of(config: Any, morphable: MorphableModel) -> dict[str, Any]:
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


def train_and_report(trainer: Trainer, config: Any, facts: dict[str, Any], introduce: Callable[[], None]) -> Any:
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
