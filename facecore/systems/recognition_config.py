"""Settings of `facecore train recognition`, and its presets (METHODS 7)."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from facecore.morphable import MorphableModel
from facecore.training.config import LATER, DataConfig, MorphableConfig, RunConfig, WorldConfig

Architecture = Literal["small-recognition", "sphereface", "point-recognition"]


@dataclasses.dataclass(frozen=True)
class RecognitionModelConfig(MorphableConfig):
    """The network, and the morphable model whose renders it learns from."""

    architecture: Architecture = "small-recognition"
    """small-recognition: 112 x 112 pixels, 2.0 million weights; sphereface: 112 x 96, 22.7 million at width 1;
    point-recognition: 112 x 112, 12 million at depth 18, finds points of the face first and embeds coefficients."""
    width: float = 1.0
    """Factor of sphereface's numbers of channels."""
    surface_points: int = 132
    """Points that point-recognition finds; the 68 landmarks are the first of them."""
    point_features: int = 16
    """Numbers that it reads of each point."""
    depth: Literal[18, 34, 50] = dataclasses.field(default=18, metadata=LATER)
    """Of its ResNet."""
    image_size: int = 128
    """Height and width of the crops from which faces are aligned, pixels."""


@dataclasses.dataclass(frozen=True)
class RecognitionStageConfig:
    """How it is trained: softmax over cosines with an additive margin."""

    coefficient_iterations: int = 0
    """Steps before the others, beyond METHODS 7: the embedding learns the identity and albedo coefficients of renders.
    From random weights the margin of many persons at once is far from what it teaches."""
    head_renders: int = 0
    """Of point-recognition: renders on which the first stage ends with the embedding solved by least squares to be the
    coefficients themselves."""
    iterations: int = 50_000
    """Steps of Adam that tell persons apart."""
    learning_rate: float = 1e-3
    """Of Adam, falling along a cosine in both."""
    margin: float = 0.35
    """Additive margin of the cosines (METHODS 7)."""
    scale: float = 30.0
    """What the cosines are multiplied by before the softmax (METHODS 7)."""
    clip_norm: float = 10.0
    """Largest gradient norm."""


@dataclasses.dataclass(frozen=True)
class RecognitionConfig:
    """Everything that determines a training run of a recognition network.

    data.labelled_batch: renders of a batch, data.photo_batch: photographs, data.photos_per_identity: of a person in
    both; world.persons, world.pictures: rendered persons and pictures of each.
    """

    model: RecognitionModelConfig = RecognitionModelConfig()
    stages: RecognitionStageConfig = RecognitionStageConfig()
    data: DataConfig = dataclasses.field(default_factory=lambda: DataConfig(labelled_batch=64, photo_batch=64))
    world: WorldConfig = dataclasses.field(default_factory=lambda: WorldConfig(persons=1000, pictures=50))
    run: RunConfig = dataclasses.field(default_factory=lambda: RunConfig(validate_every=1000, checkpoint_every=500))


def options_of(config: RecognitionModelConfig, model: MorphableModel) -> dict[str, Any]:
    """What the architecture is built with."""
    if config.architecture == "sphereface":
        return {"width": config.width}
    if config.architecture == "point-recognition":
        embed = model.num_identity + model.num_albedo
        points = {"points": config.surface_points, "features": config.point_features, "embed": embed}
        return points | ({} if config.depth == 18 else {"depth": config.depth})
    return {}


def _preset(
    architecture: Architecture,
    width: float,
    first: int,
    iterations: int,
    size: int,
    persons: int,
    heads: int = 0,
    batch: int = 64,
) -> RecognitionConfig:
    plain = RecognitionConfig()
    stages = {"coefficient_iterations": first, "head_renders": heads, "iterations": iterations}
    return dataclasses.replace(
        plain,
        model=dataclasses.replace(plain.model, architecture=architecture, width=width, image_size=size),
        stages=dataclasses.replace(plain.stages, **stages),
        data=dataclasses.replace(plain.data, labelled_batch=batch),
        world=dataclasses.replace(plain.world, persons=persons),
    )


def _deeper(config: RecognitionConfig) -> RecognitionConfig:
    """For evaluation alone, beside `small-points` for losses (METHODS 7): a deeper ResNet that finds more points."""
    model = dataclasses.replace(config.model, depth=34, surface_points=168, point_features=24)
    return dataclasses.replace(config, model=model)


PRESETS: dict[str, RecognitionConfig] = {
    "paper": RecognitionConfig(),
    "small": _preset("small-recognition", 1.0, 2000, 1000, 112, 1000),
    "small-points": _preset("point-recognition", 1.0, 2000, 0, 112, 1000, heads=15_000, batch=32),
    "small-points-34": _deeper(_preset("point-recognition", 1.0, 1200, 0, 112, 1000, heads=15_000, batch=32)),
    "small-sphereface": _preset("sphereface", 0.25, 4000, 2000, 112, 1000),
    "quick": _preset("small-recognition", 1.0, 40, 20, 96, 64),
}
