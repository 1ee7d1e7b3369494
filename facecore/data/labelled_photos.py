"""Photographs with the faces of their 300W-LP parameter files: the paper's labelled half (METHODS 2.2, 2.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import SupportsIndex

import torch

from facecore import ops
from facecore.data.batches import ShapeBatch
from facecore.data.face_parameters import crop_camera, moved_camera
from facecore.data.images import read_image_size
from facecore.data.parameter_photos import ParameterPhotos
from facecore.data.random import occurrences
from facecore.morphable import MorphableModel
from facecore.render import WeakPerspectiveCamera

NUM_CHECKED = 8  # pictures on which the model is compared with the files' own points
# Largest mean distance of the inner 51 points from them, of the crop's side. The mean face, posed, lies about 0.01 from
# the points of real files (FORMATS B4); coefficients in another model's unit move points by many sides.
MAX_MISFIT = 0.05


class LabelledPhotos:
    """Photographs whose shape, expression and pose are known; albedo and light are not (`ShapeBatch`).

    Args:
        photos: 300W-LP, or a folder in its format, opened without mirroring: a mirrored face has coefficients of its
            own, which the files of the folders `*_Flip` hold (`open_dataset("300w-lp", ..., flipped=True)`).
        model: the 300W-LP cut of the Basel Face Model, or a part of it: fewer vertices (`crop`), fewer modes.

    Points are projections of the model's, which do not move along the contour as a head turns. The mask is that of the
    photograph (a given one, or skin colour) where the labelled face covers it. Raises ValueError for photographs that
    are mirrored, and for a model without expressions or whose points do not lie on the files' own.
    """

    def __init__(self, photos: ParameterPhotos, model: MorphableModel) -> None:
        if photos.augmentation.mirror:
            raise ValueError(
                f"augmentation.mirror must be 0, got {photos.augmentation.mirror}: mirrored faces have coefficients of "
                "their own; take those of the folders *_Flip by flipped=True"
            )
        if model.num_expression == 0:
            raise ValueError(f"the model '{model.name}' has no expressions; load the 300W-LP cut (BFM.mat)")
        self.photos, self.model = photos, model.to("cpu")
        self.identity, self.num_identities = photos.identity, photos.num_identities
        self._check_fit()

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def digest(self) -> str:
        """What tells these pictures from others; see PhotoFolder.digest."""
        return self.photos.digest

    def sample(self, generator: torch.Generator, count: int, per_identity: int = 1) -> torch.Tensor:
        """`count` samples with `per_identity` of an original photograph, int64 [count] (`PhotoFolder.sample`)."""
        return self.photos.sample(generator, count, per_identity)

    def batch(
        self, index: torch.Tensor, key: SupportsIndex | None = None, occurrence: Sequence[int] | None = None
    ) -> ShapeBatch:
        """The samples `index`, int64 [B], on the CPU; key, occurrence: of their augmentation (`PhotoFolder.batch`)."""
        times = occurrences(index.tolist()) if occurrence is None else occurrence
        pictures = self.photos.batch(index, key, times)
        identity, expression, camera = self._faces(index.tolist(), key, times)
        vertices = self.model.shape(identity, expression)
        drawn = ops.rasterize(camera.to_clip(vertices), self.model.triangles, camera.height, camera.width)
        return ShapeBatch(
            image=pictures.image,
            mask=pictures.mask * (drawn.triangle_id >= 0),
            landmarks=camera.project(vertices[:, self.model.landmarks68]),
            identity=identity,
            expression=expression,
            pose=camera.pose(),
        )

    def expressions(self) -> torch.Tensor:
        """Expression coefficients of the originals, [N, Ke] (`ParameterPhotos.expressions`)."""
        return self.photos.expressions(self.model)

    def _faces(
        self, numbers: list[int], key: SupportsIndex | None, times: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor, WeakPerspectiveCamera]:
        """Coefficients [B, Ki] and [B, Ke] and the cameras of augmented samples, in the model's dtype."""
        size = self.photos.height, self.photos.width
        coefficients, cameras = [], []
        for i, (matrix, _) in zip(numbers, self.photos.maps(numbers, key, times)):
            parameters = self.photos.parameters(i)
            camera = parameters.camera(*read_image_size(self.photos.path(i)), self.model)
            cameras.append(moved_camera(crop_camera(camera, self.photos.crop(i)), matrix, *size))
            coefficients.append(parameters.coefficients(self.model))
        identity, expression = (torch.cat(part) for part in zip(*coefficients))
        rotation, scale, translation = (
            torch.cat([getattr(camera, name) for camera in cameras]).to(self.model.template)
            for name in ("rotation", "scale", "translation")
        )
        return identity, expression, WeakPerspectiveCamera(rotation, scale, translation, *size)

    def _check_fit(self) -> None:
        index = torch.linspace(0, len(self) - 1, min(NUM_CHECKED, len(self))).round().long()
        known = self.photos.batch(index)
        identity, expression, camera = self._faces(index.tolist(), None, occurrences(index.tolist()))
        points = camera.project(self.model.shape(identity, expression)[:, self.model.landmarks68])
        distance = (points - known.landmarks)[:, 17:].norm(dim=-1).mean(1)  # the contour of pt2d is the picture's
        misfit = float(distance[known.landmark_weight[:, 0] > 0].nanmedian()) / min(camera.height, camera.width)
        if misfit > MAX_MISFIT:
            raise ValueError(
                f"the model '{self.model.name}' does not fit the parameter files of {self.photos.root}: its points lie "
                f"{misfit:.2g} of the crop's side from theirs; load the 300W-LP cut of the Basel Face Model (BFM.mat)"
            )
