"""Renders of a morphable model with known parameters, made on the fly: the labelled half (METHODS 2.3, 6 Sampling)."""

from __future__ import annotations

import os

import torch

from facecore import ops
from facecore.data import backgrounds, lights, occluders, sensor
from facecore.data.augmentation import REFERENCE_SIZE
from facecore.data.backgrounds import load_backgrounds
from facecore.data.batches import LabelledBatch
from facecore.data.crop import BOX_FACTOR, landmark_boxes
from facecore.data.openings import NUM_UNIFORM as NUM_OPENING_UNIFORM
from facecore.data.openings import Openings
from facecore.data.random import sample_generator
from facecore.morphable import Coefficients, MorphableModel
from facecore.render import Renderer, WeakPerspectiveCamera, euler_to_matrix
from facecore.render.cameras import MEAN_SCALE, MM_PER_UNIT

PITCH, YAW, ROLL = 20.0, 45.0, 10.0  # degrees, uniform in +- (METHODS 6, Sampling)
SHIFT, SCALE = 10.0, 0.1  # jitter of the framing: pixels at 224, relative (METHODS 2.3, augmentation)
NUM_LIGHT_NORMALS = 256


class LabelledRenders:
    """An endless set of rendered faces; sample i depends on (seed, i) alone.

    The same sample in another batch is equal up to the rounding of matrix products.

    Args:
        model: with an albedo; everything is computed on its device.
        height, width: of the pictures, in pixels.
        seed: of everything random.
        occluders: the share of pictures with something in front of the face.
        backgrounds: a folder of photographs, used in half of the pictures; None = generated backgrounds only.
        sensor: whether to blur, to add noise and to change gamma slightly.
        yaw: largest turn to either side, in degrees.

    Identity, expression and albedo come from the model's prior; pose, framing, light and the rest as described by the
    constants above and in lights, occluders, backgrounds, sensor. Pictures are framed as FaceCrop frames photographs:
    by the box of the face's own projected landmarks. Raises ValueError if the model has no albedo.
    """

    def __init__(
        self,
        model: MorphableModel,
        height: int,
        width: int,
        seed: int = 0,
        *,
        occluders: float = 0.3,
        backgrounds: str | os.PathLike[str] | None = None,
        sensor: bool = True,
        yaw: float = YAW,
    ) -> None:
        model.require("albedo_mean")
        if not 0 <= yaw <= 90:
            raise ValueError(f"yaw must be in [0, 90] degrees, got {yaw}")
        if not 0 <= occluders <= 1:
            raise ValueError(f"occluders must be in [0, 1], the share of pictures, got {occluders}")
        self.model, self.height, self.width, self.seed = model, height, width, seed
        self.occluder_share, self.sensor, self.yaw = occluders, sensor, yaw
        self.renderer = Renderer(model.triangles, height, width)
        self._photographs = None if backgrounds is None else load_backgrounds(backgrounds)
        self._openings = Openings(model.template, model.triangles, model.landmarks68)
        self._normals = _normals_of_mean_face(model)

    @torch.no_grad()
    def batch(self, index: torch.Tensor) -> LabelledBatch:
        """The samples `index`, int64 [B] with values >= 0, on the model's device; no gradient."""
        index = _checked(index)
        model = self.model
        coefficients = self.coefficients(index)
        vertices = model.shape(coefficients.identity, coefficients.expression)
        pose = self._pose(index, vertices[:, model.landmarks68])
        camera = WeakPerspectiveCamera.from_pose(pose, self.height, self.width)
        landmarks = camera.project(vertices[:, model.landmarks68])
        sh_coefficients = self.lights(index)
        background = self._backgrounds(index)
        albedo = model.albedo(coefficients.albedo, clamp=True)
        rendering = self.renderer(vertices, albedo, camera, sh_coefficients, background)
        uniform = self._uniform("openings", index, NUM_OPENING_UNIFORM)
        image, opening = self._openings.fill(
            rendering.image, rendering.fragments, vertices, camera, sh_coefficients, uniform
        )
        image, mask = self._occluded(index, image, rendering.alpha * ~opening, landmarks)
        image = self._sensed(index, image.clamp(0, 1))
        return LabelledBatch(
            image=image,
            mask=mask,
            landmarks=landmarks,
            identity=coefficients.identity,
            expression=coefficients.expression,
            pose=pose,
            albedo=coefficients.albedo,
            sh_coefficients=sh_coefficients,
        )

    def coefficients(self, index: torch.Tensor) -> Coefficients:
        """Identity [B, Ki], expression [B, Ke] and albedo [B, Ka] of the samples."""
        draws = [self.model.sample(1, sample_generator(self.seed, "face", i)) for i in _checked(index).tolist()]
        draws = draws or [self.model.sample(0, torch.Generator())]
        return Coefficients(*(torch.cat(part).to(self.model.template) for part in zip(*draws)))

    @torch.no_grad()
    def lights(self, index: torch.Tensor) -> torch.Tensor:
        """Effective light of the samples, [B, 9, 3]. Its brightness is set on the posed mean face."""
        index = _checked(index)
        rotation = euler_to_matrix(self._angles(index))
        normals = self._normals @ rotation.transpose(1, 2)
        weight = normals[..., 2].clamp_min(0)  # the part of the picture that a piece of surface takes
        return lights.draw_lights(self._uniform("light", self.lit_as(index), lights.NUM_UNIFORM), normals, weight)

    def lit_as(self, index: torch.Tensor) -> torch.Tensor:
        """The samples whose light these have, but for its brightness: each its own."""
        return index

    def _angles(self, index: torch.Tensor) -> torch.Tensor:
        """Pitch, yaw, roll in radians, [B, 3]."""
        limits = torch.deg2rad(torch.tensor([PITCH, self.yaw, ROLL]))
        return (2 * self._uniform("pose", index, 3) - 1) * limits.to(self.model.template)

    def _pose(self, index: torch.Tensor, landmarks_mm: torch.Tensor) -> torch.Tensor:
        """Pose codes [B, 6]: the square of FaceCrop around the projected landmarks fills the picture, then jitter."""
        jitter = 2 * self._uniform("framing", index, 3) - 1
        shift = jitter[:, 1:] * (2 * SHIFT / REFERENCE_SIZE)
        return framed_pose(self._angles(index), landmarks_mm, 1 + SCALE * jitter[:, 0], shift)

    def _backgrounds(self, index: torch.Tensor) -> torch.Tensor:
        uniform = self._uniform("background", index, backgrounds.NUM_UNIFORM)
        return backgrounds.draw_backgrounds(uniform, self.height, self.width, self._photographs)

    def _occluded(
        self, index: torch.Tensor, image: torch.Tensor, mask: torch.Tensor, landmarks: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures with occluders, and the masks: coverage by the face, less the occluder."""
        rows = (self._uniform("occluded", index, 1)[:, 0] < self.occluder_share).nonzero()[:, 0]
        if len(rows) == 0:
            return image, mask
        uniform = self._uniform("occluder", index[rows.cpu()], occluders.NUM_UNIFORM)
        colour, hidden = occluders.draw_occluders(uniform, landmarks[rows], self.height, self.width)
        image, mask = image.clone(), mask.clone()
        image[rows] = torch.where(hidden[:, None], colour, image[rows])
        mask[rows] = mask[rows] * ~hidden
        return image, mask

    def _sensed(self, index: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        if not self.sensor or len(index) == 0:
            return image
        shape = (3, self.height, self.width)
        noise = [torch.randn(shape, generator=sample_generator(self.seed, "noise", i)) for i in index.tolist()]
        uniform = self._uniform("sensor", index, sensor.NUM_UNIFORM)
        return sensor.sensor_effects(image, uniform, torch.stack(noise).to(image))

    def _uniform(self, purpose: str, index: torch.Tensor, count: int) -> torch.Tensor:
        """Numbers in [0, 1) that belong to (seed, purpose, sample), [B, count]."""
        out = torch.empty(len(index), count)
        for row, i in zip(out, index.tolist()):
            torch.rand(count, generator=sample_generator(self.seed, purpose, i), out=row)
        return out.to(self.model.template)


def framed_pose(
    angles: torch.Tensor, landmarks_mm: torch.Tensor, zoom: torch.Tensor, shift: torch.Tensor
) -> torch.Tensor:
    """Pose codes [B, 6] with which FaceCrop's square around the projected landmarks fills the picture.

    angles: pitch, yaw, roll in radians, [B, 3]; landmarks_mm: [B, 68, 3]; zoom: factor of the scale, [B]; shift: in NDC
    [B, 2].
    """
    rotated = landmarks_mm @ euler_to_matrix(angles).transpose(1, 2) / MM_PER_UNIT
    centre, size = landmark_boxes(rotated[..., :2])
    scale = 2 / (BOX_FACTOR * size) * zoom  # the picture's short side spans 2 in NDC
    return torch.cat((angles, (scale / MEAN_SCALE).log()[:, None], shift - scale[:, None] * centre), dim=1)


def _normals_of_mean_face(model: MorphableModel) -> torch.Tensor:
    """Some vertex normals of the mean face, evenly over its vertices, [P, 3]: what lights are scaled for."""
    normals = ops.vertex_normals(model.mean_shape()[None], model.triangles)[0]
    return normals[torch.linspace(0, len(normals) - 1, min(NUM_LIGHT_NORMALS, len(normals))).long()]


def _checked(index: torch.Tensor) -> torch.Tensor:
    if index.ndim != 1 or index.dtype != torch.int64 or bool((index < 0).any()):
        raise ValueError(f"index must be int64 [B] with values >= 0, got {index.dtype} {list(index.shape)}")
    return index.cpu()
