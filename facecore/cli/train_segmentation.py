"""`facecore train segmentation`: a network that tells visible face skin from the rest, with a manifest."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

from facecore.cli.errors import UsageError
from facecore.cli.train_data import load_morphable, load_photos
from facecore.cli.training import (
    check_batches,
    check_folder,
    check_numbers,
    check_photographs,
    facts_of,
    resolve,
    together,
    train_and_report,
)
from facecore.systems.segmentation_config import PRESETS, SegmentationConfig

if TYPE_CHECKING:
    from facecore.systems.segmentation_training import SegmentationTrainer

DESCRIPTION = f"""Trains a face segmentation network on renders of a morphable model with things in front of the face, \
and on photographs with masks (--data.photos, --data.masks). Settings come from --preset ({", ".join(PRESETS)}), over \
it a YAML file (--config), over both the options below.

Example: facecore train segmentation --preset small --model.morphable ict_facekit.npz --run.out runs/segmentation

Writes to --run.out what 'facecore train' writes, and network.safetensors with manifest.json, which 'facecore \
reconstruct --segmentation' and 'facecore data prepare' take."""

LEAST = {
    "model.width": 1,
    "model.image_size": 32,
    "stages.iterations": 1,
    "data.labelled_batch": 1,
    "data.photo_batch": 0,
    "run.log_every": 1,
    "run.validate_every": 1,
    "run.validation_size": 1,
    "run.checkpoint_every": 1,
}
POSITIVE = ("stages.learning_rate", "stages.clip_norm")


def main(argv: list[str]) -> int:
    config: SegmentationConfig = resolve(
        argv, SegmentationConfig, PRESETS, prog="facecore train segmentation", description=DESCRIPTION
    )
    check(config)
    return together(config, lambda: run_together(config))


def check(config: SegmentationConfig) -> None:
    """Refuses settings that cannot work, before anything is loaded or written."""
    check_numbers(config, LEAST, POSITIVE)
    if config.model.image_size % 16:
        raise UsageError(f"--model.image-size must be a multiple of 16, got {config.model.image_size}")
    if not 0 <= config.stages.occluders <= 1:
        raise UsageError(f"--stages.occluders must be a share from 0 to 1, got {config.stages.occluders}")
    data = config.data
    if data.labelled is not None:
        raise UsageError("--data.labelled is not used here; leave it out")
    if (data.photos is None) != (data.masks is None):
        raise UsageError("--data.photos and --data.masks: photographs teach by their masks; give both or neither")
    check_photographs(config)


def run_together(config: SegmentationConfig) -> int:
    """The training in this process, one of several under torchrun."""
    from facecore.systems.segmentation_training import SegmentationTrainer
    from facecore.training import distributed

    check_folder(config.run)
    check_batches(config, distributed.world_size())
    morphable = load_morphable(config)
    photos = load_photos(config)
    if photos is not None and photos.masked() < len(photos):
        raise UsageError(
            f"--data.masks has masks of {photos.masked()} of {len(photos)} photographs; what colour makes of the others"
            " would be learned as the truth: leave them out of --data.photos"
        )
    trainer = SegmentationTrainer(config, morphable, photos)
    facts = facts_of(config, morphable)
    train_and_report(trainer, config, facts, lambda: _introduce(config, trainer, facts))
    if distributed.is_first():
        print(export(trainer, config))
    return 0


def export(trainer: SegmentationTrainer, config: SegmentationConfig) -> pathlib.Path:
    """The network with its manifest, in the folder of the run; returns the manifest's path."""
    from facecore.data.crop import BOX_FACTOR
    from facecore.systems.network_export import export_network

    return export_network(
        trainer.network,
        config.run.out,
        photographs=trainer.stream is not None,
        role="segmentation",
        architecture="small-segmentation",
        options={"width": config.model.width},
        input_size=[config.model.image_size] * 2,
        crop_factor=BOX_FACTOR,  # renders are framed as photographs are cropped
        outputs={"mask": 0},
        activation="sigmoid",
    )


def _introduce(config: SegmentationConfig, trainer: SegmentationTrainer, facts: dict[str, Any]) -> None:
    """Says what is about to be trained, and on what."""
    weights = sum(parameter.numel() for parameter in trainer.network.parameters())
    photos = f"{len(trainer.photos)} photographs with masks" if trainer.photos else "no photographs"
    print(
        f"configuration {facts['config_hash']}, seed {config.run.seed}: {weights:,} weights, renders of "
        f"{facts['morphable']}, {photos}, {trainer.device}"
    )
