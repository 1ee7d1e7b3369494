"""`facecore train recognition`: a network that tells persons apart, with a manifest for losses and evaluation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from facecore.cli.errors import UsageError
from facecore.cli.parsing import check_exists, check_folders
from facecore.cli.train_data import load_morphable, load_photos
from facecore.cli.training import check_folder, facts_of, resolve, together, train_and_report
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
    for name, least in LEAST.items():
        value = _setting(config, name)
        if not value >= least:
            raise UsageError(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
    for name in POSITIVE:
        value = _setting(config, name)
        if not 0 < value < math.inf:
            raise UsageError(f"--{name.replace('_', '-')} must be positive and finite, got {value}")
    if not 0 <= config.stages.margin < 2:
        raise UsageError(f"--stages.margin must lie in [0, 2), got {config.stages.margin}")
    data = config.data
    if data.labelled is not None or data.assume_cropped:
        raise UsageError(
            "--data.labelled and --data.assume-cropped: faces are aligned by their landmarks; leave both out"
        )
    if data.workers is not None and data.workers < 0:
        raise UsageError(f"--data.workers must be at least 0, got {data.workers}")
    if config.run.start_from is not None and not config.run.start_from.is_file():
        raise UsageError(f"--run.start-from {config.run.start_from}: no such file")
    identities = None if data.identities == "none" else data.identities
    check_exists(**{"data.landmarks": data.landmarks, "data.identities": identities})
    check_folders(**{"data.photos": data.photos, "data.masks": data.masks})


def _setting(config: RecognitionConfig, name: str) -> Any:
    section, setting = name.split(".")
    return getattr(getattr(config, section), setting)


def run_together(config: RecognitionConfig) -> int:
    """The training in this process, one of several under torchrun."""
    from facecore.systems.recognition_export import export_network
    from facecore.systems.recognition_training import RecognitionTrainer
    from facecore.training import distributed

    check_folder(config.run)
    for name in ("labelled_batch", "photo_batch"):
        if getattr(config.data, name) % distributed.world_size():
            raise UsageError(
                f"--data.{name.replace('_', '-')} must be a multiple of the {distributed.world_size()} processes"
            )
    morphable = load_morphable(config)
    trainer = RecognitionTrainer(config, morphable, load_photos(config))
    facts = facts_of(config, morphable)
    validation = train_and_report(trainer, config, facts, lambda: _introduce(config, trainer, facts))
    if distributed.is_first():
        print(export_network(trainer, config.run.out))
        if validation["auc"] < GOOD_AUC:
            print(
                f"the area under the ROC curve of held-out persons is {validation['auc']:.1f} %, below "
                f"{GOOD_AUC:.0f} %: losses and evaluations with this network say little; train longer"
            )
    return 0


def _introduce(config: RecognitionConfig, trainer: RecognitionTrainer, facts: dict[str, Any]) -> None:
    """Says what is about to be trained, and on what."""
    weights = sum(parameter.numel() for parameter in trainer.network.parameters())
    photos = trainer.photos
    known = f"{photos.num_identities} persons on {len(photos)} photographs" if photos else "no photographs"
    print(
        f"configuration {facts['config_hash']}, seed {config.run.seed}: {config.model.architecture} of {weights:,} "
        f"weights, {config.world.persons} rendered persons of {facts['morphable']}, {known}, {trainer.device}"
    )
    if config.run.start_from is not None and not config.run.resume:
        left = trainer.not_taken_over
        print(f"weights from {config.run.start_from}: {f'all but {len(left)}' if left else 'all'}")
