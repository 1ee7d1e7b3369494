"""The smallest joint systems: settings."""

from __future__ import annotations

from facecore.systems.joint_recognition_config import JointRecognitionConfig
from facecore.training.config import overlay

TINY = {
    "model": {"width": 0.0625, "num_vertices": 2500},
    "stages": {"encoder_iterations": 2, "joint_iterations": 1, "final_iterations": 1},
    "data": {"labelled_batch": 4, "photo_batch": 4},
    "world": {"persons": 5, "pictures": 3},
    "run": {"validation_size": 4, "validate_every": 100, "checkpoint_every": 2, "log_every": 1},
}
POINTS = {
    "model": {"encoder": "point-recognition", "width": 1.0, "surface_points": 70, "point_features": 2},
    "stages": {"code_error": "shape", "head_renders": 8, "head_rate": 0.1},
}


def config(**changes) -> JointRecognitionConfig:
    return overlay(overlay(JointRecognitionConfig(), TINY), changes)
