"""`facecore train --system conditional-estimation`: Wen et al. 2021 (METHODS 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from facecore.cli.errors import UsageError
from facecore.cli.parsing import in_options
from facecore.cli.train_data import check_modes, load_photos
from facecore.cli.training import TrainingCommand
from facecore.cli.training_settings import check_terms, check_weights, refuse_unused
from facecore.systems.conditional_estimation_config import PRESETS, ConditionalEstimationConfig

if TYPE_CHECKING:
    from facecore.morphable import MorphableModel
    from facecore.systems.conditional_estimation_training import ConditionalEstimationTrainer

NAME = "conditional-estimation"
DESCRIPTION = f"""Trains conditional estimation (Wen et al. 2021) on clips: sub-folders of --data.photos are videos, \
their pictures frames; without photographs, rendered persons. Settings come from --preset ({", ".join(PRESETS)}), over \
it a YAML file (--config), over both the options below.

Example: facecore train --system conditional-estimation --preset small --data.photos videos/ --run.out runs/clips

Writes to --run.out what 'facecore train' writes."""

SIZE_STEP = 32  # pixels; networks halve their inputs five times


class ConditionalEstimationCommand(TrainingCommand):
    prog = f"facecore train --system {NAME}"
    description = DESCRIPTION
    system = NAME
    kind, presets = ConditionalEstimationConfig, PRESETS
    least: ClassVar = {
        "stages.warmup_iterations": 0,
        "stages.iterations": 0,
        "stages.head_renders": 0,
        "model.surface_points": 68,
        "model.point_features": 1,
        "data.photo_batch": 1,
    }
    positive = (
        "model.width",
        *("stages.warmup_learning_rate", "stages.learning_rate", "stages.taught_rate", "stages.head_rate"),
        "stages.clip_norm",
    )
    unused: ClassVar = {
        "data.labelled": "clips have no labels but landmarks",
        "data.unlabelled": "everything but the warm-up is learned from clips; --stages.iterations 0 leaves these out",
    }

    def check_own(self, config: ConditionalEstimationConfig) -> None:
        stages = config.stages
        if stages.warmup_iterations + stages.iterations < 1:
            raise UsageError("--stages: iterations must not all be 0")
        for name in ("image_size", "texture_size"):
            size = getattr(config.model, name)
            if size < SIZE_STEP or size % SIZE_STEP:
                raise UsageError(f"--model.{name.replace('_', '-')} must be a multiple of {SIZE_STEP}, got {size}")
        if stages.head_renders and not stages.warmup_iterations:
            raise UsageError("--stages.head-renders are for the end of the warm-up, which has 0 iterations: give 0")
        if config.model.shape_network == "strided" and (stages.head_renders or stages.head_rate != 1):
            raise UsageError(
                "--model.shape-network strided has no layer that is solved: give --stages.head-renders 0 and "
                "--stages.head-rate 1"
            )
        check_weights(config)
        _check_terms(config)
        _check_effects(config)
        if stages.iterations and config.data.photos is None and not config.world.persons:
            raise UsageError("--data.photos: there are no clips; give a folder, or --world.persons to render some")

    def check_shares(self, config: ConditionalEstimationConfig, processes: int) -> None:
        from facecore.systems.conditional_estimation_training import check_shares

        try:
            check_shares(config, processes)
        except ValueError as error:
            raise UsageError(in_options(str(error))) from error

    def trainer(self, config: ConditionalEstimationConfig, morphable: MorphableModel) -> ConditionalEstimationTrainer:
        from facecore.data import Augmentation
        from facecore.systems.conditional_estimation_training import ConditionalEstimationTrainer

        check_modes(config.world, morphable)
        # frames of a clip exchange their reflectances: all of them mirrored, or none
        photos = load_photos(config, augmentation=Augmentation(mirror=0.0))
        return ConditionalEstimationTrainer(config, morphable, photos)

    def learns_from(
        self, config: ConditionalEstimationConfig, trainer: ConditionalEstimationTrainer, facts: dict[str, Any]
    ) -> str:
        photos = trainer.photos
        clips = f"{len(photos)} frames, {photos.num_identities} clips" if photos else "no clips"
        return f"{facts['morphable']}, {clips}"

    def remarks(self, config: ConditionalEstimationConfig, trainer: ConditionalEstimationTrainer) -> list[str]:
        from facecore.systems.conditional_estimation_losses import clips_of_one_frame

        photos, exchanged = trainer.photos, config.weights.constraint in ("both", "consistency")
        if photos and exchanged and clips_of_one_frame(photos.identity, config.data.photos_per_identity):
            return ["every clip has one frame in a batch: each frame exchanges its reflectance with itself"]
        return []


def _check_terms(config: ConditionalEstimationConfig) -> None:
    """Refuses a stage without a loss."""
    stages = config.stages
    for count, names in (
        (stages.warmup_iterations, ("labelled_shape", "labelled_pose")),
        (stages.iterations, ("photometric", "landmark", "regularisation")),
    ):
        check_terms(config, count, names)


def _check_effects(config: ConditionalEstimationConfig) -> None:
    """Refuses settings that others leave without an effect."""
    weights, stages = config.weights, config.stages
    both = weights.constraint == "both"
    for idle, names, reason in (
        (not config.model.coupled, ["model.detach_crop"], "--model.coupled is off"),
        (not weights.regularisation, ["weights.reg_reduction"], "--weights.regularisation is 0"),
        (
            not weights.photometric,
            ["weights.constraint", "weights.flip_source", "weights.exchange"],
            "--weights.photometric is 0",
        ),
        (not both, ["weights.flip_source", "weights.exchange"], f"--weights.constraint is {weights.constraint}"),
        (weights.exchange == "all", ["weights.flip_source"], "--weights.exchange all mirrors every frame"),
        (not stages.iterations, ["data.photos"], "--stages.iterations is 0"),
        (
            not stages.warmup_iterations,
            [
                *(f"weights.{name}" for name in ("labelled_shape", "labelled_pose", "surface_points", "turn")),
                "stages.warmup_learning_rate",
            ],
            "--stages.warmup-iterations is 0",
        ),
        (
            config.model.shape_network == "strided",
            ["model.surface_points", "model.point_features", "weights.surface_points", "weights.turn"],
            "--model.shape-network is strided",
        ),
    ):
        if idle:
            refuse_unused(config, dict.fromkeys(names, reason))


COMMAND = ConditionalEstimationCommand()
