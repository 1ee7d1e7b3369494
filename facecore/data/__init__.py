"""Pictures, landmarks and batches: photographs of people and rendered faces with known parameters."""

from facecore.data.augmentation import Augmentation
from facecore.data.batches import LabelledBatch, PhotoBatch
from facecore.data.crop import FaceCrop, landmark_boxes
from facecore.data.images import read_image, write_png
from facecore.data.landmarks import MIRROR_5, MIRROR_68, Landmarks, LandmarkSource, five_points, read_landmarks
from facecore.data.photos import PhotoFolder, PhotoReport
from facecore.data.random import sample_generator
from facecore.data.renders import LabelledRenders

__all__ = [
    "MIRROR_5",
    "MIRROR_68",
    "Augmentation",
    "FaceCrop",
    "LabelledBatch",
    "LabelledRenders",
    "LandmarkSource",
    "Landmarks",
    "PhotoBatch",
    "PhotoFolder",
    "PhotoReport",
    "five_points",
    "landmark_boxes",
    "read_image",
    "read_landmarks",
    "sample_generator",
    "write_png",
]
