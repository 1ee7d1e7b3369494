"""Settings of a training as its command line gives them: read, overlaid, and refused where they cannot work."""

from __future__ import annotations

import argparse
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from facecore.cli.errors import UsageError
from facecore.cli.parsing import check_exists, check_folders, parse_options
from facecore.training.config import RunConfig, WorldConfig, overlay, read_yaml

DEFAULT_PRESET = "quick"
LARGEST_SEED = 2**62  # a 64-bit integer with room for what is added to it
# Smallest values that work, beside what the parts check themselves; of every system.
LEAST = {
    "data.labelled_batch": 1,
    "data.photo_batch": 0,
    "data.photos_per_identity": 1,
    "run.log_every": 1,
    "run.validate_every": 1,
    "run.validation_size": 1,
    "run.checkpoint_every": 1,
}
LEAST_WORLD = {"world.labelled_modes": 0, "world.bumps": 0, "world.persons": 0, "world.pictures": 1}


def named_system(argv: list[str], systems: Sequence[str]) -> str:
    """The system that --system names, by default the first. Raises UsageError for another."""
    first = _Parser(add_help=False, allow_abbrev=False, prog="facecore train")
    first.add_argument("--system", default=systems[0], choices=systems)
    return str(first.parse_known_args(argv)[0].system)


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
    first.add_argument("--preset", default=DEFAULT_PRESET, choices=sorted(presets))
    first.add_argument("--config", type=pathlib.Path)
    known, rest = first.parse_known_args(argv)
    config = presets[known.preset]
    before = "--system NAME, --preset NAME, --config FILE" if systems else "--preset NAME, --config FILE"
    description += (
        f"\n\nBefore the options below: {before}. The defaults shown are those of --preset {known.preset}"
        f"{', which is taken unless another is named' if known.preset == DEFAULT_PRESET else ''}; presets: "
        f"{', '.join(presets)}."
    )
    if known.config is not None:
        try:
            config = overlay(config, read_yaml(known.config))
        except ValueError as error:
            raise UsageError(str(error)) from error
    return parse_options(kind, rest, prog=prog, description=description, default=config)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def check_numbers(config: Any, least: Mapping[str, float], positive: Sequence[str]) -> None:
    """Refuses settings below the least that works, and those that are not positive and finite. Names: section.name."""
    for name, smallest in least.items():
        value = setting(config, name)
        if not value >= smallest:
            raise UsageError(f"--{name.replace('_', '-')} must be at least {smallest}, got {value}")
    for name in positive:
        value = setting(config, name)
        if not 0 < value < math.inf:
            raise UsageError(f"--{name.replace('_', '-')} must be positive and finite, got {value}")


def check_weights(config: Any) -> None:
    """Refuses loss weights that are negative or not finite."""
    for name, value in vars(config.weights).items():
        if isinstance(value, float) and not 0 <= value < math.inf:
            raise UsageError(f"--weights.{name.replace('_', '-')} must be at least 0 and finite, got {value}")


def setting(config: Any, name: str) -> Any:
    """The value of section.name."""
    section, own = name.split(".")
    return getattr(getattr(config, section), own)


def check_photographs(config: Any) -> None:
    """Refuses photographs' settings that name what is not there, and a start that is not."""
    data = config.data
    if data.workers is not None and data.workers < 0:
        raise UsageError(f"--data.workers must be at least 0, got {data.workers}")
    if data.max_skipped is not None and not 0 <= data.max_skipped <= 1:
        raise UsageError(f"--data.max-skipped must be a share from 0 to 1, got {data.max_skipped}")
    begins = config.run.start_from is not None and not config.run.resume  # a resumed run has begun
    if begins and not config.run.start_from.is_file():
        raise UsageError(f"--run.start-from {config.run.start_from}: no such file")
    if abs(config.run.seed) > LARGEST_SEED:
        raise UsageError(f"--run.seed must lie in [-2**62, 2**62], got {config.run.seed}")
    for name in ("landmarks", "identities", "masks"):
        if data.photos is None and getattr(data, name) is not None:
            raise UsageError(f"--data.{name} is of --data.photos: give that too, or leave it out")
    folders = ("labelled", "photos", "masks")
    check_folders(**{f"data.{name}": getattr(data, name) for name in folders})
    identities = None if data.identities == "none" else data.identities
    check_exists(**{"data.landmarks": data.landmarks, "data.identities": identities})


def refuse_unseen_photographs(config: Any) -> None:
    """Refuses a folder of photographs of which no batch holds one."""
    data = config.data
    if data.photos is not None and not (data.unlabelled and data.photo_batch):
        off = "--data.photo-batch is 0" if data.unlabelled else "--data.no-unlabelled leaves photographs out"
        raise UsageError(f"--data.photos has no effect here: {off}; leave one of them out")


def check_terms(config: Any, count: int, names: Sequence[str]) -> None:
    """Refuses a stage of `count` iterations whose losses, `weights` of these names, are all off."""
    if count and not any(getattr(config.weights, name) for name in names):
        raise UsageError(f"--weights: {', '.join(names)} must not all be 0")


def check_bumps(world: WorldConfig) -> None:
    """Refuses bumps without a height or a width."""
    for name in ("bump_mm", "bump_radius_mm"):
        value = getattr(world, name)
        if world.bumps and not 0 < value < math.inf:
            raise UsageError(f"--world.{name.replace('_', '-')} must be positive and finite, got {value}")


def check_persons(config: Any) -> None:
    """Refuses what rendered persons should be like where there are none, and turns that hide the face."""
    world, data = config.world, config.data
    if not 0 <= world.yaw <= 90:
        raise UsageError(f"--world.yaw must lie in [0, 90] degrees, got {world.yaw}")
    rendered = world.persons and data.unlabelled and data.photos is None
    if world.yaw != WorldConfig().yaw and not rendered:
        raise UsageError("--world.yaw is of rendered persons, of whom there are none: leave it out, or give 45")
    if world.steady_light and not world.persons:
        raise UsageError(
            "--world.steady-light is of rendered persons: give --world.persons, or --world.no-steady-light"
        )


def check_batches(config: Any, processes: int, pictured: bool | None = None) -> None:
    """Refuses batches of renders, and of photographs, that the processes cannot share equally.

    pictured: whether photographs, or renders that stand for them, are seen; None = where data.photos names some.
    """
    if pictured is None:
        pictured = config.data.photos is not None and config.data.unlabelled
    for name in ("data.labelled_batch", *(["data.photo_batch"] if pictured else [])):
        if setting(config, name) % processes:
            raise UsageError(
                f"--{name.replace('_', '-')} must be a multiple of the {processes} processes, "
                f"got {setting(config, name)}"
            )


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


def refuse_unused(config: Any, unused: Mapping[str, str]) -> None:
    """Refuses settings, by section.name, that would have no effect, unless they are as they are by default."""
    plain = type(config)()
    for name, reason in unused.items():
        if setting(config, name) != setting(plain, name):
            raise UsageError(f"--{name.replace('_', '-')} has no effect here: {reason}; leave it out")


def check_encoder(config: Any) -> None:
    """Refuses settings of an encoder with surface points (EncoderConfig) that do not go together."""
    model, stages = config.model, config.stages
    if model.point_features and not model.surface_points:
        raise UsageError(
            "--model.point-features are of surface points: with --model.surface-points 0 give 0 of them too"
        )
    begun = stages.encoder_iterations or config.run.start_from or model.encoder_weights
    if stages.hold_statistics and not begun:
        raise UsageError(
            "--stages.hold-statistics holds what an earlier training counted: give --stages.encoder-iterations, "
            "--run.start-from or --model.encoder-weights"
        )
    check_exists(**{"model.encoder_weights": model.encoder_weights})
