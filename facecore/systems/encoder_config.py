"""Settings of the encoder that several systems share: a ResNet, and surface points that it finds."""

from __future__ import annotations

import dataclasses
from typing import Literal

from facecore.training.config import MorphableConfig


@dataclasses.dataclass(frozen=True)
class EncoderConfig(MorphableConfig):
    """Which morphable model, the size of the pictures, the ResNet and its surface points."""

    image_size: int = 224
    """Height and width of the crops, pixels."""
    encoder_depth: Literal[18, 34, 50] = 50
    """ResNet depth."""
    encoder_weights: str | None = None
    """File of pre-trained weights with torchvision's names; random otherwise."""
    encoder_norm: Literal["batch", "group"] = "batch"
    """group: nothing crosses the batch, so parts of it and several processes give what the whole gives; torchvision has
    no weights for it."""
    surface_points: int = 0
    """Beyond the paper: points of the face that the encoder finds by maps and gives to its heads; the 68 landmarks are
    the first of them. 0 = the heads see pooled features alone, as in the paper."""
    point_features: int = 0
    """Beyond the paper: numbers that the heads see of each surface point, from the encoder's finest map; 0 = its
    position alone."""
