"""Pictures, landmarks and batches: photographs of people and rendered faces with known parameters."""

from facecore.data.crop import FaceCrop, landmark_boxes
from facecore.data.images import read_image, write_png
from facecore.data.landmarks import MIRROR_5, MIRROR_68, Landmarks, LandmarkSource, five_points, read_landmarks
from facecore.data.random import sample_generator

__all__ = [
    "MIRROR_5",
    "MIRROR_68",
    "FaceCrop",
    "LandmarkSource",
    "Landmarks",
    "five_points",
    "landmark_boxes",
    "read_image",
    "read_landmarks",
    "sample_generator",
    "write_png",
]
