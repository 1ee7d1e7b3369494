"""Settings of system 4, unsupervised regression from recognition features (METHODS 6), and its presets."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Literal

from facecore.training.config import LATER, DataConfig, MorphableConfig, RunConfig, WorldConfig


@dataclasses.dataclass(frozen=True)
class RegressionModelConfig(MorphableConfig):
    """Recognition network, morphable model and decoder; those of the preset `paper` are the paper's sizes."""

    recognition: pathlib.Path | None = None
    """Manifest of the recognition network whose features are decoded, of the format state-dict; needed."""
    image_size: int = 128
    """Height and width of crops and of rendered views, pixels; faces are aligned from them."""
    width: int = 1024
    """Units of each of the decoder's two hidden layers."""


@dataclasses.dataclass(frozen=True)
class RegressionWeights:
    """Weights of the losses (METHODS 6); 0 switches a term off."""

    shape: float = 0.4
    """Of L_param: squared distance of whitened shape coefficients. Acts in the loopback loss, too."""
    texture: float = 0.002
    """The same for albedo coefficients."""
    identity: float = 1.0
    """L_id: 1 - cosine between the features of a photograph and of views of its face."""
    batch: float = 10.0
    """L_batch: moments of the coefficients over a batch of photographs."""
    loop: float = 0.07
    """L_loop: coefficients read off a view of the face that they make."""


@dataclasses.dataclass(frozen=True)
class RegressionStageConfig:
    """The two stages of METHODS 6: synthetic faces alone, then photographs beside them."""

    synthetic_iterations: int = 50_000
    """Stage 1."""
    mixed_iterations: int = 100_000
    """Stage 2; it needs photographs, or rendered persons."""
    learning_rate: float = 1e-4
    """Adam in stage 1."""
    mixed_learning_rate: float = 1e-4
    """Adam in stage 2."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Over each stage; cosine ends at 1 %."""
    weight_decay: float = 1e-5
    """L2 of the decoder's matrices, as part of their gradient."""
    clip_norm: float = 10.0
    """Largest gradient norm."""
    views: int = 3
    """Random views of each photograph's face; the loopback loss reads the first."""
    frontal: bool = dataclasses.field(default=False, metadata=LATER)
    """The identity loss sees each face once, from the front under one light, as in the ablation of the paper's figure
    3; `views` must be 1."""
    param_reduction: Literal["mean", "sum"] = "mean"
    """Of L_param and L_loop over the batch; sum is the paper's, which grows with the batch."""
    detach_render: bool = False
    """Take the picture of the loopback loss as given: no gradient through the renderer."""
    pool: int = 0
    """Synthetic faces whose features are made once and come again and again; 0 = new ones in each iteration."""


@dataclasses.dataclass(frozen=True)
class RegressionConfig:
    """Everything that determines a training run of system 4.

    data.labelled_batch: synthetic faces of a batch; data.photo_batch: photographs, or renders of world.persons where
    no folder is given; data.photos_per_identity: of a person, 1 as the moments are those of persons.
    """

    model: RegressionModelConfig = RegressionModelConfig()
    weights: RegressionWeights = RegressionWeights()
    stages: RegressionStageConfig = RegressionStageConfig()
    data: DataConfig = dataclasses.field(
        default_factory=lambda: DataConfig(labelled_batch=32, photo_batch=32, photos_per_identity=1)
    )
    world: WorldConfig = dataclasses.field(default_factory=WorldConfig)
    run: RunConfig = dataclasses.field(default_factory=lambda: RunConfig(validate_every=1000, checkpoint_every=500))


def _ablation(config: RegressionConfig) -> RegressionConfig:
    """With weights under which every loss of stage 2 counts: with the paper's, and means over the batch, what is
    compared moved by less than 0.2 % without L_loop, or with one random view."""
    weights = RegressionWeights(identity=100.0, batch=0.2, loop=2.0)
    return dataclasses.replace(config, weights=weights, data=dataclasses.replace(config.data, photo_batch=16))


def _preset(synthetic: int, mixed: int, pool: int, size: int, persons: int) -> RegressionConfig:
    plain = RegressionConfig()
    return dataclasses.replace(
        plain,
        model=dataclasses.replace(plain.model, image_size=size),
        stages=dataclasses.replace(
            plain.stages,
            synthetic_iterations=synthetic,
            mixed_iterations=mixed,
            learning_rate=3e-4,
            mixed_learning_rate=3e-4,
            schedule="cosine",
            pool=pool,
        ),
        data=dataclasses.replace(plain.data, labelled_batch=64),
        world=dataclasses.replace(plain.world, persons=persons),
        run=dataclasses.replace(plain.run, checkpoint_every=250),
    )


PRESETS: dict[str, RegressionConfig] = {
    "paper": RegressionConfig(),
    # a face of the pool comes about ten times: much oftener, and the decoder learns the pool by heart
    # with the paper's weight of L_batch the coefficients become as varied as the prior, and the shapes worse
    "small": dataclasses.replace(_preset(1500, 80, 10_000, 112, 1000), weights=RegressionWeights(batch=0.05)),
    "ablation": _ablation(_preset(1000, 150, 6000, 112, 500)),
    "quick": _preset(100, 4, 640, 112, 64),
}
