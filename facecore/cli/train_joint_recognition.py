"""`facecore train --system joint-recognition`: Liu et al. 2018 (METHODS 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from facecore.cli.errors import UsageError
from facecore.cli.train_data import check_modes, load_photos, refuse_unknown_persons
from facecore.cli.training import TrainingCommand
from facecore.cli.training_settings import check_terms, check_weights, refuse_unseen_photographs
from facecore.systems.joint_recognition_config import PRESETS, JointModelConfig, JointRecognitionConfig

if TYPE_CHECKING:
    from facecore.morphable import MorphableModel
    from facecore.systems.joint_recognition_training import JointRecognitionTrainer

NAME = "joint-recognition"
DESCRIPTION = f"""Trains joint reconstruction and recognition (Liu et al. 2018) on renders of a morphable model, and \
on photographs of known persons (--data.photos), whose labels are fitted to their landmarks. Settings come from \
--preset ({", ".join(PRESETS)}), over it a YAML file (--config), over both the options below.

Example: facecore train --system joint-recognition --preset small --model.morphable ICT-FaceKit --run.out runs/joint

Writes to --run.out what 'facecore train' writes."""

SMALLEST_CROP = 56  # pixels, half of what the network sees
_POINTS = (JointModelConfig.surface_points, JointModelConfig.point_features)
_FITTED = "labels are fitted to landmarks"


class JointRecognitionCommand(TrainingCommand):
    prog = f"facecore train --system {NAME}"
    description = DESCRIPTION
    system = NAME
    kind, presets = JointRecognitionConfig, PRESETS
    least: ClassVar = {
        "stages.encoder_iterations": 0,
        "stages.joint_iterations": 0,
        "stages.final_iterations": 0,
        "stages.head_renders": 0,
        "stages.skipped_persons": 0,
        "model.surface_points": 68,
        "model.point_features": 1,
        "data.labelled_batch": 2,
        "world.persons": 2,
        "model.image_size": SMALLEST_CROP,
    }
    positive = (
        "model.width",
        *("stages.encoder_learning_rate", "stages.learning_rate", "stages.head_rate", "stages.clip_norm"),
    )
    unused: ClassVar = {
        "data.labelled": _FITTED,
        "data.assume_cropped": _FITTED,
        "data.masks": "no loss looks at pixels",
        "world.steady_light": "every render has a light of its own",
        "world.yaw": "renders turn by up to 45 degrees",
    }

    def check_own(self, config: JointRecognitionConfig) -> None:
        stages = config.stages
        check_weights(config)
        refuse_unseen_photographs(config)
        check_terms(config, stages.joint_iterations, ("reconstruction", "recognition"))
        check_terms(config, stages.final_iterations, ("final_reconstruction", "recognition"))
        if stages.encoder_iterations + stages.joint_iterations + stages.final_iterations < 1:
            raise UsageError("--stages: iterations must not all be 0")
        if stages.head_renders and not stages.encoder_iterations:
            raise UsageError("--stages.head-renders are for the end of phase I, which has 0 iterations")
        if stages.skipped_persons and not stages.encoder_iterations:
            raise UsageError("--stages.skipped-persons is phase I's, which has 0 iterations: give 0")
        if not stages.encoder_iterations and stages.code_error != "codes":
            raise UsageError("--stages.code-error is phase I's, which has 0 iterations: give codes")
        joint = stages.joint_iterations + stages.final_iterations
        if stages.classifier == "solved" and not (joint and config.weights.recognition):
            raise UsageError("--stages.classifier is phase III's, with --weights.recognition: give random")
        model = config.model
        if model.encoder == "point-recognition" and model.width != 1:
            raise UsageError("--model.width scales sphereface alone; leave it out")
        if model.encoder == "sphereface" and (model.surface_points, model.point_features) != _POINTS:
            raise UsageError("--model.surface-points and --model.point-features are for point-recognition alone")

    def trainer(self, config: JointRecognitionConfig, morphable: MorphableModel) -> JointRecognitionTrainer:
        from facecore.data import Augmentation
        from facecore.systems.joint_recognition_training import JointRecognitionTrainer

        check_modes(config.world, morphable)
        # a mirrored face has other coefficients than those that were fitted
        photos = load_photos(config, augmentation=Augmentation(mirror=0.0))
        if photos is not None:
            refuse_unknown_persons(photos)
        return JointRecognitionTrainer(config, morphable, photos)

    def learns_from(
        self, config: JointRecognitionConfig, trainer: JointRecognitionTrainer, facts: dict[str, Any]
    ) -> str:
        labels = trainer.labels
        fitted = f"{int(labels.known.sum())} photographs with fitted labels" if labels else "no photographs"
        return f"{config.world.persons} rendered persons of {facts['morphable']}, {fitted}"


COMMAND = JointRecognitionCommand()
