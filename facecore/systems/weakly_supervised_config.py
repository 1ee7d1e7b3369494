"""Settings of system 2, weakly supervised regression (METHODS 4), and its presets."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Literal

from facecore.systems.encoder_config import EncoderConfig
from facecore.training.config import LATER, DataConfig, RunConfig, WorldConfig


@dataclasses.dataclass(frozen=True)
class WeakModelConfig(EncoderConfig):
    """R-Net, its camera, C-Net; those of the preset `paper` are the paper's sizes."""

    light: Literal["white", "rgb"] = "white"
    """9 numbers, or 27."""
    focal: float = 1015.0
    """Focal length in pixels of a picture of 224; in proportion for others."""
    distance_mm: float = 1000.0
    """Distance of the eye from an unmoved face. Renders have parallel rays: 10000 with a focal of 10150 is near it."""
    recognition: pathlib.Path | None = None
    """Manifest of a recognition network, for L_per (weights.perception)."""
    confidence: Literal["elementwise", "scalar"] = "elementwise"
    """C-Net gives a confidence for each identity coefficient, or one for all (an ablation)."""
    confidence_width: int = 256
    """Channels of C-Net's convolutions, half of those of its hidden layer."""


@dataclasses.dataclass(frozen=True)
class WeakWeights:
    """Weights of METHODS 4; 0 switches a term off."""

    photometric: float = 1.9
    """L_photo: colour distance where the model is seen, times attention."""
    landmark: float = 1.6e-3
    """L_lan: squared pixels of a picture of 224."""
    perception: float = 0.2
    """L_per: distance of the recognition network's embeddings; needs model.recognition."""
    perception_background: Literal["black", "photo"] = dataclasses.field(default="black", metadata=LATER)
    """What L_per sees behind the rendered face: black, or, beyond the paper, the photograph itself, so that faces
    alone can differ."""
    coefficient: float = 3e-4
    """L_coef: squared whitened coefficients, identity + 0.8 expression + 1.7e-3 albedo."""
    flattening: float = 5.0
    """L_tex: variance of the albedo over the model's region `skin`."""
    light_color: float = 10.0
    """Coloured light alone: variance of the light over its channels."""
    confidence_perception: float = 0.1
    """L_per where C-Net is trained."""
    attention: Literal["skin", "mask", "none"] = "skin"
    """Of L_photo: skin probability; masks, given (data.masks) or true ones of renders; or all that the model covers."""
    labelled_code: float = 1.0
    """Beyond the paper, in the stage `encoder`: coefficients, by the shape and albedo that they make; of C-Net on
    labelled sets the identity alone."""
    labelled_pose: float = 0.5
    """In that stage: the angles."""
    labelled_light: float = 2.0
    """In that stage: shading over directions."""
    labelled_landmark: float = 20.0
    """In that stage: landmarks, in NDC."""
    surface_points: float = 1.0
    """Where the encoder's maps see points of the face; in the stage `weak` the landmarks alone."""


@dataclasses.dataclass(frozen=True)
class WeakStageConfig:
    """Stages: `encoder`, beyond the paper, learns from labelled renders; `weak` is R-Net's, `confidence` C-Net's."""

    encoder_iterations: int = 0
    """Labelled renders, data.labelled-batch of them."""
    encoder_learning_rate: float = 1e-3
    """Adam in that stage, falling along a cosine."""
    head_renders: int = 0
    """At its end the heads of the coefficients are solved by least squares on this many renders; 0 = they are not."""
    weak_iterations: int = 500_000
    """R-Net on photographs, data.photo-batch of them."""
    learning_rate: float = 1e-4
    """Adam in that stage."""
    head_rate: float = 1.0
    """Of that rate, for the heads of the coefficients (see the semi-supervised system)."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Of that stage; cosine ends at 1 %."""
    hold_statistics: bool = False
    """That stage leaves the encoder's batch statistics as renders left them: solved heads depend on these."""
    confidence_iterations: int = 10_000
    """C-Net on sets of one person's photographs, R-Net frozen; 0 = no C-Net."""
    confidence_learning_rate: float = 2e-5
    """Adam in that stage."""
    confidence_pictures: Literal["photos", "renders"] = dataclasses.field(default="photos", metadata=LATER)
    """Of that stage: sets of photographs, by the losses of the stage `weak`; or, beyond the paper, sets of labelled
    renders that turn by up to 80 degrees, by the shape that the set's identity makes."""
    clip_norm: float = 10.0
    """Largest gradient norm."""

    @property
    def photo_set_iterations(self) -> int:
        """Those of the stage `confidence` that look at photographs."""
        return self.confidence_iterations if self.confidence_pictures == "photos" else 0


@dataclasses.dataclass(frozen=True)
class WeaklySupervisedConfig:
    """Everything that determines a training run of system 2.

    data.labelled_batch: renders of a batch in the stage `encoder`; data.photo_batch: photographs of a batch, and
    renders of one of labelled sets; data.photos_per_identity: pictures of a person's set in the stage `confidence`.
    Without data.photos, world.persons rendered persons stand for photographs: landmarks and masks are known of them,
    nothing of the shape.
    """

    model: WeakModelConfig = WeakModelConfig()
    weights: WeakWeights = WeakWeights()
    stages: WeakStageConfig = WeakStageConfig()
    data: DataConfig = dataclasses.field(default_factory=lambda: DataConfig(photo_batch=5, photos_per_identity=5))
    world: WorldConfig = dataclasses.field(default_factory=WorldConfig)
    run: RunConfig = dataclasses.field(default_factory=lambda: RunConfig(validate_every=1000, checkpoint_every=500))

    @property
    def perceives(self) -> bool:
        """Whether a stage has L_per."""
        stages, weights = self.stages, self.weights
        of_sets = stages.photo_set_iterations and weights.confidence_perception
        return bool((stages.weak_iterations and weights.perception) or of_sets)


def _on_renders(size: int, points: int, encoder: int, heads: int, weak: int, confidence: int) -> WeaklySupervisedConfig:
    """A preset that renders teach first, small enough for two cores."""
    return WeaklySupervisedConfig(
        model=WeakModelConfig(
            image_size=size,
            encoder_depth=18,
            surface_points=points,
            point_features=32 if points else 0,
            focal=10150.0,
            distance_mm=10_000.0,
            confidence_width=64,
        ),
        weights=WeakWeights(perception=0.0, confidence_perception=0.0),
        stages=WeakStageConfig(
            encoder_iterations=encoder,
            encoder_learning_rate=2e-3,
            head_renders=heads,
            weak_iterations=weak,
            learning_rate=2e-5,
            head_rate=0.05,
            schedule="cosine",
            hold_statistics=True,
            confidence_iterations=confidence,
            confidence_learning_rate=1e-3,
        ),
        data=DataConfig(labelled_batch=32, photo_batch=10, photos_per_identity=5),
        world=WorldConfig(persons=200, pictures=15),
        run=RunConfig(validate_every=500, checkpoint_every=250),
    )


def _for_ablation(config: WeaklySupervisedConfig) -> WeaklySupervisedConfig:
    """L_per is on for R-Net, so that it can be left out; C-Net learns without it, which would take three times as long.
    Photographs turn farther than the renders that come first, which leaves R-Net something to learn and C-Net something
    to doubt."""
    return dataclasses.replace(
        config,
        weights=WeakWeights(confidence_perception=0.0),
        stages=dataclasses.replace(config.stages, learning_rate=1e-4),
        data=dataclasses.replace(config.data, photo_batch=20),
        world=WorldConfig(persons=200, pictures=15, yaw=80.0),
    )


def _with_labelled_sets(config: WeaklySupervisedConfig) -> WeaklySupervisedConfig:
    """C-Net learns from labelled renders: in as many minutes photographs teach it less (docs/weakly_supervised.md)."""
    return dataclasses.replace(config, stages=dataclasses.replace(config.stages, confidence_pictures="renders"))


PRESETS: dict[str, WeaklySupervisedConfig] = {
    "paper": WeaklySupervisedConfig(),
    "small": _with_labelled_sets(_on_renders(96, 168, 1200, 12_000, 120, 250)),
    "ablation": _for_ablation(_on_renders(64, 132, 1600, 12_000, 200, 400)),
    "quick": _on_renders(64, 100, 150, 1000, 10, 10),
}
