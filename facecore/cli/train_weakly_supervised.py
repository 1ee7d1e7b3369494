"""`facecore train --system weakly-supervised`: Deng et al. 2019 (METHODS 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from facecore.cli.errors import UsageError
from facecore.cli.parsing import check_exists
from facecore.cli.train_data import check_modes, check_surface_points, load_photos
from facecore.cli.training import TrainingCommand
from facecore.cli.training_settings import check_encoder, check_terms, check_weights, refuse_unused
from facecore.systems.weakly_supervised_config import PRESETS, WeaklySupervisedConfig, WeakWeights

if TYPE_CHECKING:
    from facecore.morphable import MorphableModel
    from facecore.perception import IdentityNetwork
    from facecore.systems.weakly_supervised_training import WeaklySupervisedTrainer

NAME = "weakly-supervised"
DESCRIPTION = f"""Trains weakly supervised reconstruction (Deng et al. 2019): R-Net on photographs with landmarks \
(--data.photos; rendered persons stand for them where there are none), then C-Net, which trusts each picture of a \
person by what it shows. Settings come from --preset ({", ".join(PRESETS)}), over it a YAML file (--config), over both \
the options below.

Example: facecore train --system weakly-supervised --preset small --model.morphable ICT-FaceKit --run.out runs/weak

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
        stages, data = config.stages, config.data
        if stages.encoder_iterations + stages.weak_iterations + stages.confidence_iterations < 1:
            raise UsageError("--stages: iterations must not all be 0")
        if stages.head_renders and not stages.encoder_iterations:
            raise UsageError("--stages.head-renders are for the end of the stage `encoder`, which has 0 iterations")
        check_encoder(config)
        check_weights(config)
        _check_terms(config)
        _check_pictures(config)
        _check_perception(config)
        sets = data.photos_per_identity
        if stages.confidence_iterations and sets < 2:
            raise UsageError(
                "--data.photos-per-identity must be at least 2 for C-Net: of one picture every confidence says the "
                f"same, got {sets}"
            )
        if stages.confidence_iterations and data.photo_batch % sets:
            raise UsageError(
                f"--data.photo-batch must be a multiple of --data.photos-per-identity, the size of a person's set, got "
                f"{data.photo_batch} and {sets}"
            )
        if config.stages.photo_set_iterations and data.photos is None and config.world.pictures < sets:
            raise UsageError(
                f"--world.pictures must be at least --data.photos-per-identity, the size of a person's set, got "
                f"{config.world.pictures} and {sets}"
            )

    def check_shares(self, config: WeaklySupervisedConfig, processes: int) -> None:
        unit_of_photos = config.data.photos_per_identity if config.stages.confidence_iterations else 1
        for name, unit in (("labelled_batch", 1), ("photo_batch", unit_of_photos)):
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

    def facts(
        self, config: WeaklySupervisedConfig, morphable: MorphableModel, trainer: WeaklySupervisedTrainer
    ) -> dict[str, Any]:
        recogniser = trainer.recogniser
        return super().facts(config, morphable, trainer) | ({} if recogniser is None else recogniser.origin)

    def learns_from(
        self, config: WeaklySupervisedConfig, trainer: WeaklySupervisedTrainer, facts: dict[str, Any]
    ) -> str:
        photos = trainer.photos
        known = f"{len(photos)} photographs of {photos.num_identities} known persons" if photos else "no photographs"
        rendered = " (rendered)" if photos and config.data.photos is None else ""
        return f"{facts['morphable']}, {known}{rendered}"


def _check_terms(config: WeaklySupervisedConfig) -> None:
    """Refuses a stage without a loss."""
    stages = config.stages
    pictures = ("photometric", "landmark", "coefficient")
    labelled = stages.confidence_pictures == "renders"
    for count, names in (
        (stages.encoder_iterations, ("labelled_code", "labelled_pose", "labelled_light", "labelled_landmark")),
        (stages.weak_iterations, (*pictures, "perception", "flattening")),
        (stages.confidence_iterations, ("labelled_code",) if labelled else (*pictures, "confidence_perception")),
    ):
        check_terms(config, count, names)


def _check_pictures(config: WeaklySupervisedConfig) -> None:
    """Refuses stages on photographs without any, photographs without a stage, and masks that say nothing."""
    data, attention = config.data, config.weights.attention
    used = config.stages.weak_iterations + config.stages.photo_set_iterations
    if used and not (data.unlabelled and (data.photos is not None or config.world.persons > 0)):
        raise UsageError(
            "R-Net and C-Net learn from photographs: give --data.photos, or --world.persons rendered ones, or set "
            "--stages.weak-iterations and --stages.confidence-iterations to 0 (or, of the latter, "
            "--stages.confidence-pictures renders)"
        )
    if data.photos is not None and not used:
        raise UsageError("--data.photos has no effect: no stage that sees photographs has iterations")
    if data.masks is not None and attention != "mask":
        raise UsageError("--data.masks has no effect here: add --weights.attention mask, or leave it out")
    if attention == "mask" and data.photos is not None and data.masks is None:
        raise UsageError("--weights.attention mask: give the masks of the photographs, --data.masks")


def _check_perception(config: WeaklySupervisedConfig) -> None:
    """Refuses L_per without a network, and a network without L_per."""
    if config.stages.confidence_pictures == "renders":
        if not config.stages.confidence_iterations:
            raise UsageError("--stages.confidence-pictures is of C-Net, which has 0 iterations: give photos")
        if config.weights.confidence_perception not in (0, WeakWeights.confidence_perception):
            raise UsageError(
                "--weights.confidence-perception has no effect here: C-Net learns from renders; leave it out"
            )
    recognition = config.model.recognition
    if config.perceives and recognition is None:
        raise UsageError(
            "L_per needs a recognition network: give --model.recognition MANIFEST ('facecore train recognition' makes "
            "one), or --weights.perception 0 --weights.confidence-perception 0"
        )
    if not config.perceives:
        reason = "no stage that looks at photographs has L_per"
        refuse_unused(config, {"model.recognition": reason, "weights.perception_background": reason})
    check_exists(**{"model.recognition": recognition})


COMMAND = WeaklySupervisedCommand()
