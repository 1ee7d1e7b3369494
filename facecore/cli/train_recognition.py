"""`facecore train recognition`: a network that tells persons apart, with a manifest for losses and evaluation."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

from facecore.cli.errors import UsageError
from facecore.cli.train_data import load_morphable, load_photos
from facecore.cli.training import (
    check_batches,
    check_bumps,
    check_folder,
    check_numbers,
    check_photographs,
    facts_of,
    resolve,
    together,
    train_and_report,
)
from facecore.systems.recognition_config import PRESETS, RecognitionConfig

if TYPE_CHECKING:
    from facecore.systems.recognition_training import RecognitionTrainer

DESCRIPTION = f"""Trains a recognition network on renders of a morphable model, and on photographs of known persons \
(--data.photos). Settings come from --preset ({", ".join(PRESETS)}), over it a YAML file (--config), over both the \
options below.

Example: facecore train recognition --preset small --model.morphable ict_facekit.npz --run.out runs/recognition

Writes to --run.out what 'facecore train' writes, and network.safetensors with manifest.json, which losses and \
evaluations take. Use one network in losses and another, of another architecture and seed, in evaluation."""

LEAST = {
    "model.image_size": 32,
    "stages.iterations": 1,
    "data.labelled_batch": 2,
    "data.photo_batch": 0,
    "data.photos_per_identity": 1,
    "world.persons": 2,
    "world.pictures": 2,
    "world.bumps": 0,
    "run.log_every": 1,
    "run.validate_every": 1,
    "run.validation_size": 4,
    "run.checkpoint_every": 1,
}
POSITIVE = ("model.width", "stages.learning_rate", "stages.scale", "stages.clip_norm")
GOOD_AUC = 95.0  # percent of held-out rendered persons (METHODS 7)


def main(argv: list[str]) -> int:
    config: RecognitionConfig = resolve(
        argv, RecognitionConfig, PRESETS, prog="facecore train recognition", description=DESCRIPTION
    )
    check(config)
    return together(config, lambda: run_together(config))


def check(config: RecognitionConfig) -> None:
    """Refuses settings that cannot work, before anything is loaded or written."""
    check_numbers(config, LEAST, POSITIVE)
    if not 0 <= config.stages.margin < 2:
        raise UsageError(f"--stages.margin must lie in [0, 2), got {config.stages.margin}")
    if config.model.width != 1 and config.model.architecture != "sphereface":
        raise UsageError("--model.width scales sphereface alone; leave it out")
    if config.world.labelled_modes:
        raise UsageError("--world.labelled-modes: there is no labelled half here; leave it out")
    check_bumps(config.world)
    data = config.data
    if data.labelled is not None or data.assume_cropped:
        raise UsageError(
            "--data.labelled and --data.assume-cropped: faces are aligned by their landmarks; leave both out"
        )
    check_photographs(config)


def run_together(config: RecognitionConfig) -> int:
    """The training in this process, one of several under torchrun."""
    from facecore.systems.recognition_training import RecognitionTrainer
    from facecore.training import distributed

    check_folder(config.run)
    check_batches(config, distributed.world_size())
    morphable = load_morphable(config)
    photos = load_photos(config)
    if photos is not None and photos.num_identities == 0:
        raise UsageError(
            "--data.photos: nobody is known on them; put each person's into a folder, or give --data.identities"
        )
    trainer = RecognitionTrainer(config, morphable, photos)
    facts = facts_of(config, morphable)
    validation = train_and_report(trainer, config, facts, lambda: _introduce(config, trainer, facts))
    if distributed.is_first():
        print(export(trainer, config))
        if validation["auc"] < GOOD_AUC:
            print(
                f"the area under the ROC curve of held-out persons is {validation['auc']:.1f} %, below "
                f"{GOOD_AUC:.0f} %: losses and evaluations with this network say little; train longer"
            )
    return 0


def export(trainer: RecognitionTrainer, config: RecognitionConfig) -> pathlib.Path:
    """The network with its manifest, in the folder of the run; returns the manifest's path."""
    from facecore.systems.network_export import export_network

    return export_network(
        trainer.network,
        config.run.out,
        photographs=trainer.sees_photographs,
        role="recognition",
        architecture=config.model.architecture,
        options={"width": config.model.width} if config.model.architecture == "sphereface" else {},
        input_size=list(trainer.network.input_size),
        outputs={"embed": "embed", "pooled": "pooled"},
    )


def _introduce(config: RecognitionConfig, trainer: RecognitionTrainer, facts: dict[str, Any]) -> None:
    """Says what is about to be trained, and on what."""
    weights = sum(parameter.numel() for parameter in trainer.network.parameters())
    photos = trainer.photos
    known = f"{photos.num_identities} persons on {len(photos)} photographs" if photos else "no photographs"
    print(
        f"configuration {facts['config_hash']}, seed {config.run.seed}: {config.model.architecture} of {weights:,} "
        f"weights, {config.world.persons} rendered persons of {facts['morphable']}, {known}, {trainer.device}"
    )
