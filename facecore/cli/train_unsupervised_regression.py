"""`facecore train --system unsupervised-regression`: Genova et al. 2018 (METHODS 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from facecore.cli.errors import UsageError
from facecore.cli.parsing import check_exists
from facecore.cli.train_data import check_modes, load_photos
from facecore.cli.training import TrainingCommand
from facecore.cli.training_settings import check_batches, check_terms, check_weights
from facecore.systems.unsupervised_regression_config import PRESETS, RegressionConfig

if TYPE_CHECKING:
    from facecore.morphable import MorphableModel
    from facecore.systems.unsupervised_regression_training import UnsupervisedRegressionTrainer

NAME = "unsupervised-regression"
DESCRIPTION = f"""Trains a regression from the features of a recognition network to the coefficients of a morphable \
model (Genova et al. 2018): on rendered faces, then on photographs (--data.photos) beside them. Settings come from \
--preset ({", ".join(PRESETS)}), over it a YAML file (--config), over both the options below.

Example: facecore train --system unsupervised-regression --preset small --model.recognition \
runs/recognition/manifest.json --model.morphable ICT-FaceKit --data.photos photos/ --run.out runs/regression

'facecore train recognition' makes such a network. Without --data.photos, renders of --world.persons stand for \
photographs. Writes to --run.out what 'facecore train' writes."""


class UnsupervisedRegressionCommand(TrainingCommand):
    prog = f"facecore train --system {NAME}"
    description = DESCRIPTION
    system = NAME
    kind, presets = RegressionConfig, PRESETS
    least: ClassVar = {
        "model.image_size": 32,
        "model.width": 1,
        "stages.synthetic_iterations": 0,
        "stages.mixed_iterations": 0,
        "stages.weight_decay": 0,
        "stages.views": 1,
        "stages.pool": 0,
    }
    positive = ("stages.learning_rate", "stages.mixed_learning_rate", "stages.clip_norm")
    unused: ClassVar = {
        "data.labelled": "faces of known coefficients are rendered",
        "data.masks": "no loss looks at pixels",
    }

    def check_shares(self, config: RegressionConfig, processes: int) -> None:
        check_batches(config, processes, pictured=config.stages.mixed_iterations > 0)

    def check_own(self, config: RegressionConfig) -> None:
        stages, data = config.stages, config.data
        check_weights(config)
        check_terms(config, stages.synthetic_iterations, ("shape", "texture"))
        check_terms(config, stages.mixed_iterations, ("shape", "texture", "identity", "batch"))
        if config.model.recognition is None:
            raise UsageError(
                "--model.recognition: give the manifest of a recognition network, such as 'facecore train recognition' "
                "writes; its features are what is decoded"
            )
        check_exists(**{"model.recognition": config.model.recognition})
        if stages.synthetic_iterations + stages.mixed_iterations < 1:
            raise UsageError("--stages: iterations must not all be 0")
        if stages.frontal and stages.views != 1:
            raise UsageError(f"--stages.frontal needs --stages.views 1, got {stages.views}")
        if stages.frontal and not (stages.mixed_iterations and config.weights.identity):
            raise UsageError("--stages.frontal has no effect here: L_id has no weight or stage 2 no iterations")
        if not stages.mixed_iterations:
            if data.photos is not None:
                raise UsageError("--data.photos has no effect here: --stages.mixed-iterations is 0; leave it out")
            return
        if not data.unlabelled or (data.photos is None and not config.world.persons):
            raise UsageError(
                "--stages.mixed-iterations: stage 2 needs --data.photos, or renders of --world.persons in their place; "
                "0 leaves it out"
            )
        if not data.photo_batch:
            raise UsageError("--data.photo-batch must be at least 1 in stage 2, got 0")

    def trainer(self, config: RegressionConfig, morphable: MorphableModel) -> UnsupervisedRegressionTrainer:
        from facecore.systems.unsupervised_regression_training import UnsupervisedRegressionTrainer

        check_modes(config.world, morphable)
        return UnsupervisedRegressionTrainer(config, morphable, load_photos(config))

    def facts(
        self, config: RegressionConfig, morphable: MorphableModel, trainer: UnsupervisedRegressionTrainer
    ) -> dict[str, Any]:
        return super().facts(config, morphable, trainer) | trainer.system.recognition.origin

    def learns_from(
        self, config: RegressionConfig, trainer: UnsupervisedRegressionTrainer, facts: dict[str, Any]
    ) -> str:
        photos = trainer.photos
        seen = "no photographs" if photos is None else f"{len(photos)} photographs"
        if config.data.photos is None and photos is not None:
            seen = f"renders of {config.world.persons} persons for photographs"
        return f"features of {facts['recognition']}, faces of {facts['morphable']}, {seen}"

    def remarks(self, config: RegressionConfig, trainer: UnsupervisedRegressionTrainer) -> list[str]:
        caution = trainer.system.caution
        return [f"{config.model.recognition}: {caution}"] if caution else []


COMMAND = UnsupervisedRegressionCommand()
