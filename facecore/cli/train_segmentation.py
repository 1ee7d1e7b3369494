"""`facecore train segmentation`: a network that tells visible face skin from the rest, with a manifest."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any, ClassVar

from facecore.cli.errors import UsageError
from facecore.cli.train_data import load_photos
from facecore.cli.training import TrainingCommand
from facecore.cli.training_settings import refuse_unseen_photographs
from facecore.systems.segmentation_config import PRESETS, SegmentationConfig

if TYPE_CHECKING:
    from facecore.morphable import MorphableModel
    from facecore.systems.segmentation_training import SegmentationTrainer

DESCRIPTION = f"""Trains a face segmentation network on renders of a morphable model with things in front of the face, \
and on photographs with masks (--data.photos, --data.masks). Settings come from --preset ({", ".join(PRESETS)}), over \
it a YAML file (--config), over both the options below.

Example: facecore train segmentation --preset small --model.morphable ICT-FaceKit --run.out runs/segmentation

Writes to --run.out what 'facecore train' writes, and network.safetensors with manifest.json, which 'facecore \
reconstruct --segmentation' and 'facecore data prepare' take."""


class SegmentationCommand(TrainingCommand):
    prog = "facecore train segmentation"
    description = DESCRIPTION
    kind, presets = SegmentationConfig, PRESETS
    least: ClassVar = {"model.width": 1, "model.image_size": 32, "stages.iterations": 1}
    positive = ("stages.learning_rate", "stages.clip_norm")
    unused: ClassVar = {
        "data.labelled": "renders and photographs with masks teach",
        "data.photos_per_identity": "who is on a photograph does not matter",
    }

    def check_own(self, config: SegmentationConfig) -> None:
        if config.model.image_size % 16:
            raise UsageError(f"--model.image-size must be a multiple of 16, got {config.model.image_size}")
        if not 0 <= config.stages.occluders <= 1:
            raise UsageError(f"--stages.occluders must be a share from 0 to 1, got {config.stages.occluders}")
        refuse_unseen_photographs(config)
        if (config.data.photos is None) != (config.data.masks is None):
            raise UsageError("--data.photos and --data.masks: photographs teach by their masks; give both or neither")

    def trainer(self, config: SegmentationConfig, morphable: MorphableModel) -> SegmentationTrainer:
        from facecore.systems.segmentation_training import SegmentationTrainer

        photos = load_photos(config)
        if photos is not None and photos.masked() < len(photos):
            raise UsageError(
                f"--data.masks has masks of {photos.masked()} of {len(photos)} photographs; what colour makes of the "
                "others would be learned as the truth: leave them out of --data.photos"
            )
        return SegmentationTrainer(config, morphable, photos)

    def learns_from(self, config: SegmentationConfig, trainer: SegmentationTrainer, facts: dict[str, Any]) -> str:
        photos = f"{len(trainer.photos)} photographs with masks" if trainer.photos else "no photographs"
        return f"renders of {facts['morphable']}, {photos}"

    def finish(self, config: SegmentationConfig, trainer: SegmentationTrainer, validation: dict[str, float]) -> None:
        print(export(trainer, config))


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


COMMAND = SegmentationCommand()
