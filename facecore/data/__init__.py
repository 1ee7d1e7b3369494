"""Pictures, landmarks and batches: photographs of people and rendered faces with known parameters."""

from facecore.data.augmentation import Augmentation
from facecore.data.batches import LabelledBatch, PhotoBatch, PhotoSource, PictureSource, ShapeBatch
from facecore.data.crop import FaceCrop, landmark_boxes
from facecore.data.datasets import open_dataset
from facecore.data.face_parameters import FaceParameters, read_face_parameters
from facecore.data.images import read_image, write_png
from facecore.data.labelled_photos import LabelledPhotos
from facecore.data.landmarks import MIRROR_5, MIRROR_68, Landmarks, LandmarkSource, five_points, read_landmarks
from facecore.data.loading import PhotoBatches, PhotoStream, default_workers
from facecore.data.parameter_photos import ParameterPhotos
from facecore.data.photo_report import PhotoReport
from facecore.data.photos import PhotoFolder
from facecore.data.random import sample_generator
from facecore.data.rendered_photos import PersonRenders, RenderedPhotos
from facecore.data.renders import LabelledRenders

__all__ = [
    "MIRROR_5",
    "MIRROR_68",
    "Augmentation",
    "FaceCrop",
    "FaceParameters",
    "LabelledBatch",
    "LabelledPhotos",
    "LabelledRenders",
    "LandmarkSource",
    "Landmarks",
    "ParameterPhotos",
    "PersonRenders",
    "PhotoBatch",
    "PhotoBatches",
    "PhotoFolder",
    "PhotoReport",
    "PhotoSource",
    "PhotoStream",
    "PictureSource",
    "RenderedPhotos",
    "ShapeBatch",
    "default_workers",
    "five_points",
    "landmark_boxes",
    "open_dataset",
    "read_face_parameters",
    "read_image",
    "read_landmarks",
    "sample_generator",
    "write_png",
]
