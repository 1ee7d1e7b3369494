"""Settings of system 1, joint reconstruction and recognition (METHODS 3), and its presets."""

from __future__ import annotations

import dataclasses
from typing import Literal

from facecore.training.config import LATER, DataConfig, MorphableConfig, RunConfig, WorldConfig


@dataclasses.dataclass(frozen=True)
class JointModelConfig(MorphableConfig):
    """Morphable model and network; those of the preset `paper` are the paper's sizes."""

    image_size: int = 112
    """Height and width of the crops from which faces are aligned, pixels; SphereFace sees 112 x 96 of
    them, point-recognition 112 x 112."""
    encoder: Literal["sphereface", "point-recognition"] = "sphereface"
    """SphereFace-20, as the paper; or, beyond it, a network that finds points of the face first, which small machines
    train sooner."""
    width: float = 1.0
    """Factor of SphereFace's numbers of channels."""
    surface_points: int = 132
    """Points that point-recognition finds; the 68 landmarks are the first of them."""
    point_features: int = 16
    """Numbers that it reads of each point."""


@dataclasses.dataclass(frozen=True)
class JointWeights:
    """Weights of the losses; 0 switches a term off."""

    reconstruction: float = 0.5
    """lambda_R of the first part of phase III: squared vertex distance, mm^2."""
    final_reconstruction: float = 1.0
    """lambda_R of its second part."""
    recognition: float = 1.0
    """L_C: softmax over the persons, on c_Id."""


@dataclasses.dataclass(frozen=True)
class JointStageConfig:
    """The phases of METHODS 3. Phase II, the decoders alone, has a closed form and takes no step."""

    encoder_iterations: int = 76_000
    """Phase I: the encoder alone, on the coefficients."""
    joint_iterations: int = 76_000
    """Phase III, first part: everything, with weights.reconstruction."""
    final_iterations: int = 152_000
    """Phase III, second part, with weights.final-reconstruction."""
    encoder_learning_rate: float = 1e-4
    """Adam in phase I."""
    learning_rate: float = 1e-4
    """Adam in phase III."""
    head_rate: float = 1.0
    """Factor of the learning rate of the layers to the codes in phase III: a small one where they were solved, and read
    many numbers."""
    code_error: Literal["codes", "shape"] = "codes"
    """What phase I minimises: the squared distance of codes, as the paper; or, beyond it, that of the shapes they make,
    over the prior's variance."""
    skipped_persons: int = dataclasses.field(default=0, metadata=LATER)
    """Of phase I, which shows ever new persons: those before this one are left out, for a training that begins from
    another one, which has seen them."""
    head_renders: int = 0
    """Beyond the paper: phase I ends with linear heads solved by least squares on so many renders."""
    classifier: Literal["random", "solved"] = dataclasses.field(default="random", metadata=LATER)
    """How the softmax over the persons begins: anyhow; or, beyond the paper, solved for their true codes and for what
    the encoder says of 1,000 renders: from random weights it learns nothing in the first hundreds of iterations."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Over phase I, and over phase III; cosine ends at 1 %."""
    clip_norm: float = 10.0
    """Largest gradient norm."""


@dataclasses.dataclass(frozen=True)
class JointRecognitionConfig:
    """Everything that determines a training run of system 1.

    data.labelled_batch: renders of a batch; data.photo_batch: photographs, whose labels `facecore fit` finds in their
    landmarks; data.photos_per_identity: of a person in both; world.persons, world.pictures: rendered persons and
    pictures of each in phase III, while phase I sees ever new persons.
    """

    model: JointModelConfig = JointModelConfig()
    weights: JointWeights = JointWeights()
    stages: JointStageConfig = JointStageConfig()
    data: DataConfig = dataclasses.field(default_factory=lambda: DataConfig(labelled_batch=64, photo_batch=64))
    world: WorldConfig = dataclasses.field(default_factory=lambda: WorldConfig(persons=1000, pictures=50))
    run: RunConfig = dataclasses.field(default_factory=lambda: RunConfig(validate_every=1000, checkpoint_every=500))


def _preset(encoder: int, heads: int, joint: int, final: int, persons: int) -> JointRecognitionConfig:
    """For renders and small machines, beyond the paper: points of the face first, shapes instead of codes, and heads
    that are solved."""
    plain = JointRecognitionConfig()
    return dataclasses.replace(
        plain,
        model=dataclasses.replace(plain.model, encoder="point-recognition"),
        stages=dataclasses.replace(
            plain.stages,
            encoder_iterations=encoder,
            joint_iterations=joint,
            final_iterations=final,
            encoder_learning_rate=1e-3,
            learning_rate=1e-4,
            head_rate=0.05,
            code_error="shape",
            head_renders=heads,
            schedule="cosine",
        ),
        data=dataclasses.replace(plain.data, labelled_batch=32, photo_batch=32),
        world=dataclasses.replace(plain.world, persons=persons),
    )


def _ablation(config: JointRecognitionConfig) -> JointRecognitionConfig:
    """So that phase III does something in a few hundred iterations."""
    stages = dataclasses.replace(config.stages, learning_rate=3e-4, head_rate=1.0, classifier="solved")
    return dataclasses.replace(config, stages=stages)


PRESETS: dict[str, JointRecognitionConfig] = {
    "paper": JointRecognitionConfig(),
    "small": _preset(900, 8_000, 75, 75, 1000),
    "ablation": _ablation(_preset(1200, 0, 150, 150, 500)),
    "quick": _preset(60, 600, 10, 10, 100),
}
