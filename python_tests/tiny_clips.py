"""The smallest untrained systems of conditional estimation, and two clips of four frames."""

from __future__ import annotations

import torch

from facecore.data import PhotoBatch, RenderedPhotos
from facecore.morphable import MorphableModel
from facecore.systems.conditional_estimation import ConditionalEstimation
from facecore.systems.conditional_estimation_config import ConditionalModelConfig
from facecore.training.config import overlay

MODEL = {"image_size": 32, "texture_size": 32, "width": 0.0625, "num_vertices": 2500}


def make_conditional(morphable: MorphableModel, **changes: object) -> ConditionalEstimation:
    """Random weights, in the last layers too, small enough that faces stay in their pictures."""
    torch.manual_seed(0)
    config = overlay(ConditionalModelConfig(), MODEL | changes)
    system = ConditionalEstimation(config, morphable)
    for network in (system.viewpoint_network, system.shape_network, system.light_network):
        torch.nn.init.normal_(network.head[-1].weight, std=0.05)
    return system.eval()


def two_clips(morphable: MorphableModel) -> PhotoBatch:
    """Four frames of either, 32 x 32."""
    return RenderedPhotos(morphable, 32, 32, persons=2, pictures=4).batch(torch.arange(8))
