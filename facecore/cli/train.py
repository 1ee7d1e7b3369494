"""`facecore train`: trains a system from a preset, a YAML file and the command line, in rising order of precedence."""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import TYPE_CHECKING

import tyro

from facecore.cli.errors import UsageError
from facecore.systems.semi_supervised_config import PRESETS, SemiSupervisedConfig
from facecore.training.config import config_hash, overlay, read_yaml, write_yaml

if TYPE_CHECKING:
    from facecore.data import PhotoFolder
    from facecore.morphable import MorphableModel

DESCRIPTION = f"""Trains a system. Settings come from --preset ({", ".join(PRESETS)}), over it a YAML file (--config), \
over both the options below.

Example: facecore train --preset small --model.morphable ict_facekit.npz --data.photos photos/ --run.out runs/small

Writes to --run.out: config.yaml (the resolved settings, which --config takes), last.safetensors (resumable with \
--run.resume), model.safetensors, metrics.jsonl, TensorBoard events."""


def main(argv: list[str]) -> int:
    return run(parse(argv))


def parse(argv: list[str]) -> SemiSupervisedConfig:
    """Preset, then YAML, then command line. Raises UsageError or exits with 2."""
    first = argparse.ArgumentParser(add_help=False, prog="facecore train")
    first.add_argument("--system", default="semi-supervised", choices=["semi-supervised"])
    first.add_argument("--preset", default="quick", choices=sorted(PRESETS))
    first.add_argument("--config", type=pathlib.Path)
    known, rest = first.parse_known_args(argv)
    config = PRESETS[known.preset]
    if known.config is not None:
        try:
            config = overlay(config, read_yaml(known.config))
        except ValueError as error:
            raise UsageError(str(error)) from error
    return tyro.cli(SemiSupervisedConfig, default=config, args=rest, prog="facecore train", description=DESCRIPTION)


def run(config: SemiSupervisedConfig) -> int:
    check(config)
    from facecore.systems.semi_supervised_training import SemiSupervisedTrainer
    from facecore.training.loop import LAST, train

    out = config.run.out
    if config.run.resume and not (out / LAST).is_file():
        raise UsageError(f"--run.resume: there is no checkpoint {out / LAST}")
    if not config.run.resume and out.exists() and any(out.iterdir()):
        raise UsageError(f"--run.out {out} is not empty; choose another folder, or add --run.resume")
    morphable = load_morphable(config)
    photos = load_photos(config)
    trainer = SemiSupervisedTrainer(config, morphable, photos)
    out.mkdir(parents=True, exist_ok=True)
    write_yaml(out / "config.yaml", config)
    facts = {"config_hash": config_hash(config), "seed": config.run.seed, "morphable": morphable.name}
    print(
        f"configuration {facts['config_hash']}, seed {config.run.seed}, {morphable.name} "
        f"({morphable.num_vertices} vertices), {len(photos) if photos else 0} photographs, {trainer.device}"
    )
    validation = train(trainer, config.run, facts)
    for name, value in validation.items():
        print(f"{name:>28} {value:9.4f}")
    print(f"{out / 'model.safetensors'}")
    return 0


def check(config: SemiSupervisedConfig) -> None:
    """Refuses settings that cannot work, before anything is loaded or written."""
    if config.data.labelled_batch < 2 or config.data.labelled_batch % 2:
        raise UsageError(f"--data.labelled-batch must be even and at least 2, got {config.data.labelled_batch}")
    if len(config.model.shape_channels) != len(config.model.factors) + 1:
        raise UsageError(
            "--model.shape-channels must have one width more than --model.factors has factors, got "
            f"{len(config.model.shape_channels)} and {len(config.model.factors)}"
        )
    for name in ("photos", "landmarks", "identities", "masks"):
        value = getattr(config.data, name)
        if value not in (None, "none") and not pathlib.Path(value).exists():
            raise UsageError(f"--data.{name} {value}: no such file or folder")


def load_morphable(config: SemiSupervisedConfig) -> MorphableModel:
    from facecore.morphable import load

    name = config.model.morphable
    if name == "procedural":
        return load(name, num_vertices=config.model.num_vertices)
    if not pathlib.Path(name).exists():
        raise UsageError(
            f"--model.morphable {name}: no such file or folder; give 'procedural', a facecore npz or an "
            "ICT-FaceKit npz or folder"
        )
    return load(name, region=config.model.region, refine=config.model.refine)


def load_photos(config: SemiSupervisedConfig) -> PhotoFolder | None:
    """The unlabelled half, or None when it is switched off or not given."""
    from facecore.data import PhotoFolder

    data = config.data
    if data.photos is None or not data.unlabelled:
        return None
    photos = PhotoFolder(
        data.photos,
        landmarks=data.landmarks,
        identities=data.identities,
        masks=data.masks,
        height=config.model.image_size,
        width=config.model.image_size,
        seed=config.run.seed,
        assume_cropped=data.assume_cropped,
    )
    print(photos.report, file=sys.stderr)
    return photos
