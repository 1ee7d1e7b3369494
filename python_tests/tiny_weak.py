"""The smallest weakly supervised systems: settings, an untrained recognition network, renders."""

from __future__ import annotations

import pathlib

import torch

from facecore.data import LabelledRenders
from facecore.nn import RecognitionNet
from facecore.systems.network_export import export_network
from facecore.systems.weakly_supervised import WeaklySupervised
from facecore.systems.weakly_supervised_config import WeaklySupervisedConfig, WeakModelConfig
from facecore.training.config import overlay

SIZE = 32
TINY = {
    "model": {
        "num_vertices": 2500,
        "image_size": SIZE,
        "encoder_depth": 18,
        "surface_points": 68,
        "point_features": 2,
        "confidence_width": 4,
    },
    "weights": {"perception": 0.0, "confidence_perception": 0.0},
    "stages": {"encoder_iterations": 1, "head_renders": 8, "weak_iterations": 2, "confidence_iterations": 1},
    "data": {"labelled_batch": 4, "photo_batch": 4, "photos_per_identity": 2},
    "world": {"persons": 3, "pictures": 4},
    "run": {"validation_size": 4, "validate_every": 100, "checkpoint_every": 2, "log_every": 1},
}


def write_recogniser(folder: pathlib.Path) -> pathlib.Path:
    """An untrained network; its manifest."""
    torch.manual_seed(3)
    described = {
        "role": "recognition",
        "architecture": "small-recognition",
        "options": {},
        "input_size": [112, 112],
        "outputs": {"embed": "embed", "pooled": "pooled"},
    }
    network = RecognitionNet().eval()
    return export_network(network, folder, photographs=False, **described)


def config(**changes) -> WeaklySupervisedConfig:
    return overlay(overlay(WeaklySupervisedConfig(), TINY), changes)


def make_system(morphable, seed: int = 0, **model) -> WeaklySupervised:
    """Random heads: every code differs from picture to picture."""
    torch.manual_seed(seed)
    settings = overlay(WeakModelConfig(), TINY["model"] | {"surface_points": 0, "point_features": 0} | model)
    system = WeaklySupervised(settings, morphable)
    for head in (*system.code_heads(), system.light_head, system.pose_head, system.confidence_net.head):
        torch.nn.init.normal_(head.weight, std=0.05)
    return system.eval()


def pictures(morphable, count: int) -> torch.Tensor:
    return LabelledRenders(morphable, SIZE, SIZE, seed=5).batch(torch.arange(count)).image
