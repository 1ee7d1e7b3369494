"""`facecore train --system joint-recognition`: Liu et al. 2018 (METHODS 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from facecore.cli.errors import UsageError
from facecore.cli.train_data import check_modes, load_morphable, load_photos
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
from facecore.systems.joint_recognition_config import PRESETS, JointRecognitionConfig

if TYPE_CHECKING:
    from facecore.systems.joint_recognition_training import JointRecognitionTrainer

NAME = "joint-recognition"
DESCRIPTION = f"""Trains joint reconstruction and recognition (Liu et al. 2018) on renders of a morphable model, and \
on photographs of known persons (--data.photos), whose labels are fitted to their landmarks. Settings come from \
--preset ({", ".join(PRESETS)}), over it a YAML file (--config), over both the options below.

Example: facecore train --system joint-recognition --preset small --model.morphable ict_facekit.npz --run.out runs/joint

Writes to --run.out what 'facecore train' writes."""

LEAST = {
    "stages.encoder_iterations": 0,
    "stages.joint_iterations": 0,
    "stages.final_iterations": 0,
    "weights.reconstruction": 0,
    "weights.final_reconstruction": 0,
    "weights.recognition": 0,
    "data.labelled_batch": 2,
    "data.photo_batch": 0,
    "data.photos_per_identity": 1,
    "world.persons": 2,
    "world.pictures": 1,
    "world.labelled_modes": 0,
    "world.bumps": 0,
    "run.log_every": 1,
    "run.validate_every": 1,
    "run.validation_size": 1,
    "run.checkpoint_every": 1,
}
POSITIVE = ("model.width", "stages.encoder_learning_rate", "stages.learning_rate", "stages.clip_norm")
SMALLEST_CROP = 56  # pixels, half of what the network sees


def main(argv: list[str]) -> int:
    config: JointRecognitionConfig = resolve(
        argv,
        JointRecognitionConfig,
        PRESETS,
        prog=f"facecore train --system {NAME}",
        description=DESCRIPTION,
        systems=(NAME,),
    )
    check(config)
    return together(config, lambda: run_together(config))


def check(config: JointRecognitionConfig) -> None:
    """Refuses settings that cannot work, before anything is loaded or written."""
    check_numbers(config, LEAST | {"model.image_size": SMALLEST_CROP}, POSITIVE)
    stages = config.stages
    if stages.encoder_iterations + stages.joint_iterations + stages.final_iterations < 1:
        raise UsageError("--stages: iterations must not all be 0")
    if config.data.labelled is not None or config.data.assume_cropped:
        raise UsageError("--data.labelled and --data.assume-cropped: labels are fitted to landmarks; leave both out")
    check_bumps(config.world)
    check_photographs(config)


def run_together(config: JointRecognitionConfig) -> int:
    """The training in this process, one of several under torchrun."""
    from facecore.data import Augmentation
    from facecore.systems.joint_recognition_training import JointRecognitionTrainer
    from facecore.training import distributed

    check_folder(config.run)
    check_batches(config, distributed.world_size())
    morphable = load_morphable(config)
    check_modes(config.world, morphable)
    # a mirrored face has other coefficients than those that were fitted
    photos = load_photos(config, augmentation=Augmentation(mirror=0.0))
    trainer = JointRecognitionTrainer(config, morphable, photos)
    facts = facts_of(config, morphable)
    train_and_report(trainer, config, facts, lambda: _introduce(config, trainer, facts))
    return 0


def _introduce(config: JointRecognitionConfig, trainer: JointRecognitionTrainer, facts: dict[str, Any]) -> None:
    """Says what is about to be trained, and on what."""
    weights = sum(parameter.numel() for parameter in trainer.system.parameters())
    labels = trainer.labels
    fitted = f"{int(labels.known.sum())} photographs with fitted labels" if labels else "no photographs"
    print(
        f"configuration {facts['config_hash']}, seed {config.run.seed}: {weights:,} weights, {config.world.persons} "
        f"rendered persons of {facts['morphable']}, {fitted}, {trainer.device}"
    )
