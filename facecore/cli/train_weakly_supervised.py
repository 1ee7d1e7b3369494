"""`facecore train --system weakly-supervised`: Deng et al. 2019 (METHODS 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from facecore.cli.errors import UsageError
from facecore.cli.parsing import check_exists
from facecore.cli.train_data import check_modes, check_surface_points, load_photos
from facecore.cli.training import TrainingCommand
from facecore.cli.training_settings import check_weights
from facecore.systems.weakly_supervised_config import PRESETS, WeaklySupervisedConfig

if TYPE_CHECKING:
    from facecore.morphable import MorphableModel
    from facecore.perception import IdentityNetwork
    from facecore.systems.weakly_supervised_training import WeaklySupervisedTrainer

NAME = "weakly-supervised"
DESCRIPTION = f"""Trains weakly supervised reconstruction (Deng et al. 2019): R-Net on photographs with landmarks \
(--data.photos; rendered persons stand for them where there are none), then C-Net, which trusts each picture of a \
person by what it shows. Settings come from --preset ({", ".join(PRESETS)}), over it a YAML file (--config), over both \
the options below.

Example: facecore train --system weakly-supervised --preset small --model.morphable ict_facekit.npz --run.out runs/weak

Writes to --run.out what 'facecore train' writes."""


class WeaklySupervisedCommand(TrainingCommand):
    prog = f"facecore train --system {NAME}"
    description = DESCRIPTION
    system = NAME
    kind, presets = WeaklySupervisedConfig, PRESETS
    least: ClassVar = {
        "data.labelled_batch": 2,
        "data.photo_batch": 1,
        "model.image_size": 32,
        "model.point_features": 0,
        "model.confidence_width": 1,
        "stages.encoder_iterations": 0,
        "stages.weak_iterations": 0,
        "stages.confidence_iterations": 0,
        "stages.head_renders": 0,
    }
    positive = (
        "model.focal",
        "model.distance_mm",
        *(f"stages.{name}" for name in ("learning_rate", "encoder_learning_rate", "confidence_learning_rate")),
        *("stages.head_rate", "stages.clip_norm"),
    )
    unused: ClassVar = {"data.labelled": "nothing is learned from labelled photographs"}

    def check_own(self, config: WeaklySupervisedConfig) -> None:
        stages, data, weights = config.stages, config.data, config.weights
        if stages.encoder_iterations + stages.weak_iterations + stages.confidence_iterations < 1:
            raise UsageError("--stages: iterations must not all be 0")
        if config.model.point_features and not config.model.surface_points:
            raise UsageError(
                "--model.point-features are of surface points: with --model.surface-points 0 give 0 of them too"
            )
        check_weights(config)
        if stages.head_renders and not stages.encoder_iterations:
            raise UsageError("--stages.head-renders are for the end of the stage `encoder`, which has 0 iterations")
        if data.masks is not None and weights.attention != "mask":
            raise UsageError("--data.masks has no effect here: add --weights.attention mask, or leave it out")
        if stages.confidence_iterations and data.photo_batch % data.photos_per_identity:
            raise UsageError(
                f"--data.photo-batch must be a multiple of --data.photos-per-identity, the size of a person's set, got "
                f"{data.photo_batch} and {data.photos_per_identity}"
            )
        pictured = data.unlabelled and (data.photos is not None or config.world.persons > 0)
        if not pictured and stages.weak_iterations + stages.confidence_iterations:
            raise UsageError(
                "R-Net and C-Net learn from photographs: give --data.photos, or --world.persons rendered ones, or set "
                "--stages.weak-iterations and --stages.confidence-iterations to 0"
            )
        perceived = weights.perception or weights.confidence_perception
        if perceived and config.model.recognition is None:
            raise UsageError(
                "L_per needs a recognition network: give --model.recognition MANIFEST ('facecore train recognition' "
                "makes one), or --weights.perception 0 --weights.confidence-perception 0"
            )
        if config.model.recognition is not None and not perceived:
            raise UsageError("--model.recognition has no effect with perception weights of 0; leave it out")
        check_exists(
            **{"model.encoder_weights": config.model.encoder_weights, "model.recognition": config.model.recognition}
        )

    def check_shares(self, config: WeaklySupervisedConfig, processes: int) -> None:
        for name, unit in (("labelled_batch", 1), ("photo_batch", config.data.photos_per_identity)):
            size = getattr(config.data, name)
            if processes > 1 and size % (unit * processes):
                raise UsageError(
                    f"--data.{name.replace('_', '-')} must be a multiple of {unit * processes} for {processes} "
                    f"processes, got {size}"
                )

    def trainer(self, config: WeaklySupervisedConfig, morphable: MorphableModel) -> WeaklySupervisedTrainer:
        from facecore.systems.weakly_supervised_training import WeaklySupervisedTrainer

        check_modes(config.world, morphable)
        check_surface_points(config.model.surface_points, morphable)
        return WeaklySupervisedTrainer(config, morphable, load_photos(config), self._recogniser(config))

    def _recogniser(self, config: WeaklySupervisedConfig) -> IdentityNetwork | None:
        if config.model.recognition is None:
            return None
        from facecore.cli.finders import say_if_rendered
        from facecore.perception import load_identity_network

        say_if_rendered(config.model.recognition, "see whether its persons are yours")
        return load_identity_network(config.model.recognition)

    def introduce(
        self, config: WeaklySupervisedConfig, trainer: WeaklySupervisedTrainer, facts: dict[str, Any]
    ) -> None:
        weights = sum(parameter.numel() for parameter in trainer.system.parameters())
        photos = trainer.photos
        known = f"{len(photos)} photographs of {photos.num_identities} known persons" if photos else "no photographs"
        rendered = " (rendered)" if photos and config.data.photos is None else ""
        print(
            f"configuration {facts['config_hash']}, seed {config.run.seed}: {weights:,} weights, {facts['morphable']}, "
            f"{known}{rendered}, {trainer.device}"
        )


COMMAND = WeaklySupervisedCommand()
