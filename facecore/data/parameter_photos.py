"""Photographs with a parameter file each: 300W-LP and AFLW2000-3D (FORMATS B4)."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import torch
from tqdm import tqdm

from facecore.data.crop import FaceCrop
from facecore.data.face_parameters import FaceParameters, crop_camera, read_face_parameters
from facecore.data.images import read_image_size
from facecore.data.landmarks import Landmarks, LandmarkSource
from facecore.data.photos import PhotoFolder
from facecore.morphable import MorphableModel
from facecore.render import WeakPerspectiveCamera


class ParameterPhotos(PhotoFolder):
    """A `PhotoFolder` whose pictures have `<stem>.mat` beside them, with pose, shape and expression.

    A picture whose parameter file is missing or damaged is skipped and listed, as one without landmarks is. Where
    `landmarks` is a folder, a picture that has none there takes those of its parameter file.
    """

    def __init__(self, root: str | os.PathLike[str], landmarks: str | os.PathLike[str] | None = None, **options: Any):
        super().__init__(root, landmarks, **options)

    def parameters(self, index: int) -> FaceParameters:
        """The parameters of a sample, read from its file. Raises ValueError when it was damaged meanwhile."""
        return read_face_parameters(self.path(index).with_suffix(".mat"))

    def camera(self, index: int, model: MorphableModel) -> WeakPerspectiveCamera:
        """The camera of a sample without augmentation, for vertices of the 300W-LP cut of the Basel Face Model."""
        height, width = read_image_size(self.path(index))
        return crop_camera(self.parameters(index).camera(height, width, model), self.crop(index))

    def expressions(self, model: MorphableModel) -> torch.Tensor:
        """Expression coefficients of the set, [N, Ke], in the model's units: one row per original photograph.

        Rotated and mirrored versions of a photograph have its expression; they count once, by person. For sampling
        real shapes (METHODS 2.3).
        """
        first: dict[int, int] = {}
        for index, person in enumerate(self.identity.tolist()):
            first.setdefault(person if person >= 0 else -1 - index, index)
        chosen = tqdm(first.values(), desc="expressions", unit="file", disable=len(first) < 500)
        return torch.cat([self.parameters(index).coefficients(model)[1] for index in chosen])

    def _landmark_source(self, landmarks: str | os.PathLike[str] | None) -> LandmarkSource:
        return LandmarkSource(self.root, landmarks, beside=True)

    def _faces_of(
        self, path: pathlib.Path, size: tuple[int, int], source: LandmarkSource, assume_cropped: bool
    ) -> list[tuple[FaceCrop, Landmarks | None]]:
        read_face_parameters(path.with_suffix(".mat"))
        return super()._faces_of(path, size, source, assume_cropped)
