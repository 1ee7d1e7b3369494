"""`facecore train`, system 0: the semi-supervised one (METHODS 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from facecore.cli.errors import UsageError
from facecore.cli.parsing import in_options
from facecore.cli.train_data import check_model, load_labelled, load_photos
from facecore.cli.training import TrainingCommand
from facecore.cli.training_settings import check_encoder, check_weights, refuse_unseen_photographs
from facecore.systems.semi_supervised_config import PRESETS, SemiSupervisedConfig

if TYPE_CHECKING:
    from facecore.morphable import MorphableModel
    from facecore.systems.semi_supervised_training import SemiSupervisedTrainer

DESCRIPTION = f"""Trains a system. Settings come from --preset ({", ".join(PRESETS)}), over it a YAML file (--config), \
over both the options below.

Example: facecore train --preset small --model.morphable ICT-FaceKit --data.photos photos/ --run.out runs/small

Other systems: --system joint-recognition, weakly-supervised, conditional-estimation, unsupervised-regression (their \
options: facecore train --system NAME --help).

Also: facecore train recognition, facecore train segmentation: networks that tell persons, and faces, apart.

Several GPUs or processes: torchrun --nproc-per-node 4 -m facecore.cli.main train ...; batches stay as they are set \
and are split over the processes.

Writes to --run.out: config.yaml (the resolved settings, which --config takes), last.safetensors (resumable with \
--run.resume), model.safetensors, metrics.jsonl, TensorBoard events."""

RATES = ("learning_rate", "decoder_learning_rate", "encoder_learning_rate", "critic_learning_rate")


class SemiSupervisedCommand(TrainingCommand):
    prog = "facecore train"
    description = DESCRIPTION
    system = "semi-supervised"
    kind, presets = SemiSupervisedConfig, PRESETS
    least: ClassVar = {
        "data.photo_batch": 1,
        "model.image_size": 32,
        "model.identity_size": 1,
        "model.expression_size": 1,
        "model.num_terms": 1,
        "model.point_features": 0,
        "stages.encoder_batch": 2,
        "stages.head_renders": 0,
        "stages.critic_steps": 1,
        "stages.rise_steps": 0,
        "stages.accumulate": 1,
        "stages.history_size": 1,
    }
    positive = tuple(f"stages.{name}" for name in (*RATES, "head_rate", "clip_norm"))

    def check_own(self, config: SemiSupervisedConfig) -> None:
        if config.data.labelled_batch < 2 or config.data.labelled_batch % 2:
            raise UsageError(f"--data.labelled-batch must be even and at least 2, got {config.data.labelled_batch}")
        stages = {name: value for name, value in vars(config.stages).items() if name.endswith("_iterations")}
        if min(stages.values()) < 0 or sum(stages.values()) < 1:
            raise UsageError(f"--stages: iterations must be at least 0 and not all 0, got {stages}")
        refuse_unseen_photographs(config)
        if config.data.photos is not None and not (stages["hybrid_iterations"] + stages["texture_iterations"]):
            raise UsageError("--data.photos has no effect here: no stage that sees photographs has iterations")
        if config.model.albedo_decoder != "graph" and config.model.image_size % 32:
            raise UsageError(
                f"--model.image-size must be a multiple of 32 for a texture decoder, got {config.model.image_size}"
            )
        check_encoder(config)
        check_ranges(config)

    def check_shares(self, config: SemiSupervisedConfig, processes: int) -> None:
        from facecore.systems.semi_supervised_training import check_shares

        pictured = config.data.unlabelled and (config.data.photos is not None or config.world.persons > 0)
        try:
            check_shares(config, pictured, processes)
        except ValueError as error:
            raise UsageError(in_options(str(error))) from error

    def trainer(self, config: SemiSupervisedConfig, morphable: MorphableModel) -> SemiSupervisedTrainer:
        from facecore.systems.semi_supervised_training import SemiSupervisedTrainer

        check_model(config, morphable)
        photos = load_photos(config)
        return SemiSupervisedTrainer(config, morphable, photos, load_labelled(config, morphable))

    def facts(self, config: Any, morphable: MorphableModel, trainer: SemiSupervisedTrainer) -> dict[str, Any]:
        precision = str(trainer.system.encoder_precision).removeprefix("torch.")
        return super().facts(config, morphable, trainer) | {"encoder_precision": precision}

    def learns_from(self, config: SemiSupervisedConfig, trainer: SemiSupervisedTrainer, facts: dict[str, Any]) -> str:
        photos, morphable = trainer.photos, trainer.morphable
        return (
            f"{morphable.name} ({morphable.num_vertices} vertices), encoder in {facts['encoder_precision']}, "
            f"{len(photos) if photos else 0} photographs"
        )

    def remarks(self, config: SemiSupervisedConfig, trainer: SemiSupervisedTrainer) -> list[str]:
        from facecore.training import distributed

        lines = []
        if trainer.labelled is not None:
            lines.append(
                f"the labelled half of stages A to C: {len(trainer.labelled)} photographs, versions of "
                f"{trainer.labelled.num_identities}; their albedo and light are unknown, so labelled_albedo and "
                "labelled_light do not count there"
            )
        if distributed.normalises_apart(trainer.system):  # of which the next line, of every system, speaks
            lines.append("--model.encoder-norm group does not depend on the batch:")
        return lines


def check_ranges(config: SemiSupervisedConfig) -> None:
    """Refuses loss weights and widths that are outside their ranges, and widths that are too many or too few."""
    for part in ("shape", "albedo"):
        widths = getattr(config.model, f"{part}_channels")
        if len(widths) != len(config.model.factors) + 1:
            raise UsageError(
                f"--model.{part}-channels must have one width more than --model.factors has factors, got "
                f"{len(widths)} and {len(config.model.factors)}"
            )
    if len(config.model.critic_channels) != len(config.model.factors):
        raise UsageError(
            "--model.critic-channels must have as many widths as --model.factors has factors, got "
            f"{len(config.model.critic_channels)} and {len(config.model.factors)}"
        )
    check_weights(config)
    for name, least in (("factors", 2), ("shape_channels", 1), ("albedo_channels", 1), ("critic_channels", 1)):
        values = getattr(config.model, name)
        if min(values, default=least) < least:
            raise UsageError(f"--model.{name.replace('_', '-')} must be at least {least} each, got {list(values)}")


COMMAND = SemiSupervisedCommand()
