"""Settings of `facecore train segmentation`, and its presets (METHODS 7)."""

from __future__ import annotations

import dataclasses

from facecore.training.config import DataConfig, MorphableConfig, RunConfig


@dataclasses.dataclass(frozen=True)
class SegmentationModelConfig(MorphableConfig):
    """The network, and the morphable model whose renders it learns from."""

    width: int = 16
    """Channels of its finest map."""
    image_size: int = 128
    """Height and width of the crops, pixels; a multiple of 16."""


@dataclasses.dataclass(frozen=True)
class SegmentationStageConfig:
    """How it is trained: cross-entropy of each pixel, and the overlap."""

    iterations: int = 20_000
    """Steps of Adam."""
    learning_rate: float = 2e-3
    """Of Adam, falling along a cosine."""
    occluders: float = 0.6
    """Share of renders with something in front of the face."""
    clip_norm: float = 10.0
    """Largest gradient norm."""


@dataclasses.dataclass(frozen=True)
class SegmentationConfig:
    """Everything that determines a training run of the segmentation network.

    data.labelled_batch: renders of a batch, data.photo_batch: photographs with masks (data.photos, data.masks).
    """

    model: SegmentationModelConfig = SegmentationModelConfig()
    stages: SegmentationStageConfig = SegmentationStageConfig()
    data: DataConfig = dataclasses.field(default_factory=lambda: DataConfig(labelled_batch=16, photo_batch=16))
    run: RunConfig = dataclasses.field(default_factory=lambda: RunConfig(validate_every=1000, checkpoint_every=500))


def _preset(iterations: int, size: int, width: int) -> SegmentationConfig:
    plain = SegmentationConfig()
    return dataclasses.replace(
        plain,
        model=dataclasses.replace(plain.model, image_size=size, width=width),
        stages=dataclasses.replace(plain.stages, iterations=iterations),
    )


PRESETS: dict[str, SegmentationConfig] = {
    "paper": SegmentationConfig(),
    "small": _preset(1500, 96, 12),
    "quick": _preset(60, 64, 8),
}
