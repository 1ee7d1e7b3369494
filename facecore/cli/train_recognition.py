"""`facecore train recognition`: a network that tells persons apart, with a manifest for losses and evaluation."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any, ClassVar

from facecore.cli.errors import UsageError
from facecore.cli.train_data import load_photos, refuse_unknown_persons
from facecore.cli.training import TrainingCommand
from facecore.cli.training_settings import refuse_unseen_photographs, refuse_unused
from facecore.systems.recognition_config import PRESETS, RecognitionConfig, RecognitionModelConfig, options_of

if TYPE_CHECKING:
    from facecore.morphable import MorphableModel
    from facecore.systems.recognition_training import RecognitionTrainer

DESCRIPTION = f"""Trains a recognition network on renders of a morphable model, and on photographs of known persons \
(--data.photos). Settings come from --preset ({", ".join(PRESETS)}), over it a YAML file (--config), over both the \
options below.

Example: facecore train recognition --preset small --model.morphable ICT-FaceKit --run.out runs/recognition

Writes to --run.out what 'facecore train' writes, and network.safetensors with manifest.json, which losses and \
evaluations take. Use one network in losses and another, of another architecture and seed, in evaluation."""

GOOD_AUC = 95.0  # percent of held-out rendered persons (METHODS 7)
_POINTS = (RecognitionModelConfig.surface_points, RecognitionModelConfig.point_features, RecognitionModelConfig.depth)
_ALIGNED = "faces are aligned by their landmarks"


class RecognitionCommand(TrainingCommand):
    prog = "facecore train recognition"
    description = DESCRIPTION
    kind, presets = RecognitionConfig, PRESETS
    least: ClassVar = {
        "model.image_size": 32,
        "stages.coefficient_iterations": 0,
        "stages.iterations": 0,
        "stages.head_renders": 0,
        "model.surface_points": 68,
        "model.point_features": 1,
        "data.labelled_batch": 2,
        "world.persons": 2,
        "world.pictures": 2,
        "run.validation_size": 4,
    }
    positive = ("model.width", "stages.learning_rate", "stages.scale", "stages.clip_norm")
    unused: ClassVar = {
        "data.labelled": _ALIGNED,
        "data.assume_cropped": _ALIGNED,
        "data.masks": "persons are told apart by whole faces",
        "world.labelled_modes": "there is no labelled half",
        "world.steady_light": "every render has a light of its own",
        "world.yaw": "renders turn by up to 60 degrees",
    }

    def check_own(self, config: RecognitionConfig) -> None:
        refuse_unseen_photographs(config)
        if not 0 <= config.stages.margin < 2:
            raise UsageError(f"--stages.margin must lie in [0, 2), got {config.stages.margin}")
        if config.model.width != 1 and config.model.architecture != "sphereface":
            raise UsageError("--model.width scales sphereface alone; leave it out")
        stages, model = config.stages, config.model
        if not stages.coefficient_iterations + stages.iterations:
            raise UsageError("--stages.coefficient-iterations and --stages.iterations must not both be 0")
        if not stages.iterations:
            reason = "--stages.iterations is 0: nobody is told apart"
            refuse_unused(config, dict.fromkeys(("data.photos", "stages.margin", "stages.scale"), reason))
        if model.architecture == "point-recognition":
            if stages.head_renders and not stages.coefficient_iterations:
                raise UsageError("--stages.head-renders are for the end of the first stage, which has 0 iterations")
        elif stages.head_renders or (model.surface_points, model.point_features, model.depth) != _POINTS:
            raise UsageError(
                "--model.surface-points, --model.point-features, --model.depth and --stages.head-renders are for "
                f"point-recognition alone, the architecture is {model.architecture}"
            )

    def trainer(self, config: RecognitionConfig, morphable: MorphableModel) -> RecognitionTrainer:
        from facecore.systems.recognition_training import RecognitionTrainer

        photos = load_photos(config)
        if photos is not None:
            refuse_unknown_persons(photos)
        return RecognitionTrainer(config, morphable, photos)

    def learns_from(self, config: RecognitionConfig, trainer: RecognitionTrainer, facts: dict[str, Any]) -> str:
        photos = trainer.photos
        known = f"{photos.num_identities} persons on {len(photos)} photographs" if photos else "no photographs"
        return f"{config.model.architecture}, {config.world.persons} rendered persons of {facts['morphable']}, {known}"

    def finish(self, config: RecognitionConfig, trainer: RecognitionTrainer, validation: dict[str, float]) -> None:
        print(export(trainer, config))
        if validation["auc"] < GOOD_AUC:
            print(
                f"the area under the ROC curve of held-out persons is {validation['auc']:.1f} %, below "
                f"{GOOD_AUC:.0f} %: losses and evaluations with this network say little; train longer"
            )


def export(trainer: RecognitionTrainer, config: RecognitionConfig) -> pathlib.Path:
    """The network with its manifest, in the folder of the run; returns the manifest's path."""
    from facecore.systems.network_export import export_network

    return export_network(
        trainer.network,
        config.run.out,
        photographs=trainer.sees_photographs,
        role="recognition",
        architecture=config.model.architecture,
        options=options_of(config.model, trainer.morphable),
        input_size=list(trainer.network.input_size),
        outputs={"embed": "embed", "pooled": "pooled"},
    )


COMMAND = RecognitionCommand()
