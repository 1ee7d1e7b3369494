"""Settings of system 3, conditional estimation (METHODS 5), and its presets."""

from __future__ import annotations

import dataclasses
from typing import Literal

from facecore.training.config import DataConfig, MorphableConfig, RunConfig, WorldConfig

Constraint = Literal["both", "consistency", "symmetry", "none"]


@dataclasses.dataclass(frozen=True)
class ConditionalModelConfig(MorphableConfig):
    """Morphable model and networks; those of the preset `paper` are the paper's sizes."""

    image_size: int = 256
    """Height and width of the pictures, pixels; a multiple of 32."""
    texture_size: int = 256
    """Height and width of the reflectance over UV space, texels; a multiple of 32."""
    width: float = 1.0
    """Factor of the networks' numbers of channels."""
    coupled: bool = True
    """False: IEST, which estimates viewpoint, shape, reflectance and light from the picture alone, each for itself."""
    detach_crop: bool = False
    """No gradient from the shape through the canonical crop to the viewpoint."""
    shape_network: Literal["strided", "point-reader"] = "strided"
    """f_s: strided convolutions, as the paper; or, beyond it, a network that finds points of the face first, which
    small machines train sooner."""
    surface_points: int = 132
    """Points that point-reader finds; the 68 landmarks are the first of them."""
    point_features: int = 16
    """Numbers that it reads of each point."""


@dataclasses.dataclass(frozen=True)
class ConditionalWeights:
    """Weights of the losses, 0 switches a term off, and what these are made of."""

    photometric: float = 1.0
    """L_ph: absolute colour difference on the face, with exchanged reflectances."""
    landmark: float = 1.0
    """L_kp: absolute coordinate difference of the 68 points, NDC."""
    regularisation: float = 0.1
    """L_rg: squared whitened coefficients."""
    reg_reduction: Literal["mean", "sum"] = "mean"
    """Of L_rg over the coefficients."""
    constraint: Constraint = "both"
    """With whose reflectance each frame is drawn. consistency: another frame's of its clip; symmetry: its own, and its
    own mirrored; both: another frame's, and one mirrored; none: its own."""
    flip_source: Literal["i", "j"] = "i"
    """Whose reflectance is mirrored with constraint both: the frame's own, or the other frame's."""
    exchange: Literal["stochastic", "all"] = "stochastic"
    """One other frame for each, or, with constraint both, every frame of the clip: 2 n^2 renders of n frames."""
    labelled_shape: float = 1.0
    """Of the warm-up: squared error of the shape that the coefficients make, over the prior's variance."""
    labelled_pose: float = 1.0
    """Of the warm-up: squared error of the pose code."""
    surface_points: float = 1.0
    """Of the warm-up: where a point-reader sees points of the face."""
    turn: float = 0.5
    """Of the warm-up: squared error of the pitch and yaw that a point-reader sees."""


@dataclasses.dataclass(frozen=True)
class ConditionalStageConfig:
    """The training of METHODS 5, and a start on labelled renders beyond the paper."""

    warmup_iterations: int = 0
    """Viewpoint and shape alone, on renders with known pose and coefficients; the paper has none."""
    iterations: int = 50_000
    """On clips, without any label but landmarks."""
    head_renders: int = 0
    """Of a point-reader: renders on which the warm-up ends with its last layer solved by least squares."""
    taught_rate: float = 1.0
    """Factor of the learning rate on clips of what the warm-up taught: viewpoint and shape."""
    head_rate: float = 1.0
    """A further factor of the shape network's last layer: a small one where it was solved, and reads many numbers."""
    warmup_learning_rate: float = 1e-3
    """Adam in the warm-up."""
    learning_rate: float = 1e-3
    """Adam on clips."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Over the warm-up, and over the clips; cosine ends at 1 %."""
    clip_norm: float = 10.0
    """Largest gradient norm."""


@dataclasses.dataclass(frozen=True)
class ConditionalEstimationConfig:
    """Everything that determines a training run of system 3.

    data.photo_batch: frames of a batch; data.photos_per_identity: of a clip in it; clips are sub-folders of
    data.photos, or what data.identities tells apart. world.persons, world.pictures: without photographs, rendered
    persons as clips, and frames of each. data.labelled_batch: renders of a batch of the warm-up.
    """

    model: ConditionalModelConfig = ConditionalModelConfig()
    weights: ConditionalWeights = ConditionalWeights()
    stages: ConditionalStageConfig = ConditionalStageConfig()
    data: DataConfig = dataclasses.field(
        default_factory=lambda: DataConfig(labelled_batch=64, photo_batch=128, photos_per_identity=4)
    )
    world: WorldConfig = dataclasses.field(default_factory=WorldConfig)
    run: RunConfig = dataclasses.field(default_factory=lambda: RunConfig(validate_every=1000, checkpoint_every=500))


def _preset(
    size: int, width: float, warmup: int, heads: int, iterations: int, batch: int, persons: int
) -> ConditionalEstimationConfig:
    """For renders and small machines, beyond the paper: points of the face first, and a warm-up on labelled renders."""
    plain = ConditionalEstimationConfig()
    return dataclasses.replace(
        plain,
        model=dataclasses.replace(
            plain.model, image_size=size, texture_size=size, width=width, shape_network="point-reader"
        ),
        stages=dataclasses.replace(
            plain.stages,
            warmup_iterations=warmup,
            head_renders=heads,
            iterations=iterations,
            schedule="cosine",
            taught_rate=0.05,
            head_rate=0.05,
        ),
        data=dataclasses.replace(plain.data, labelled_batch=32, photo_batch=batch),
        world=dataclasses.replace(plain.world, persons=persons, steady_light=True),
    )


PRESETS: dict[str, ConditionalEstimationConfig] = {
    "paper": ConditionalEstimationConfig(),
    "small": _preset(96, 0.5, 1000, 8_000, 350, 32, 1000),
    "ablation": _preset(64, 0.25, 1600, 12_000, 500, 32, 500),
    "quick": _preset(64, 0.25, 100, 600, 50, 16, 100),
}
