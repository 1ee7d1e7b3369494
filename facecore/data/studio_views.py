"""Faces as a camera in a studio sees them: one metre away, two coloured point lights, a grey wall (METHODS 6)."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import torch

from facecore.data.random import sample_generator
from facecore.data.renders import PITCH, ROLL, YAW
from facecore.morphable import MorphableModel
from facecore.render import PerspectiveCamera, PhongLights, Renderer, euler_to_matrix

DISTANCE_MM = 1000.0  # from the camera to the middle of the mean face
FIELD_OF_VIEW = 12.6  # degrees, vertical
LIGHT_RADIUS_MM = (2000.0, 5000.0)  # from the middle of the face
LIGHT_AZIMUTH, LIGHT_ELEVATION = (-90.0, 90.0), (-30.0, 60.0)  # degrees, from the camera's direction
INTENSITY, AMBIENT = (0.3, 0.9), (0.1, 0.3)
TINT = (0.95, 1.05)  # factor of each channel of a picture's light
GLOSS, SHININESS = 0.2, 10.0
NUM_UNIFORM = 17  # numbers that one view takes: 3 angles, 2 x 4 of lights, ambient, temperature, 3 tints, wall

# Colour of a black body by its temperature in kelvin, display sRGB with the largest channel 1. Chromaticity from the
# cubic splines of Kim et al. (US patent 7024034, 2006), which agree with Planck's law seen by the CIE 1931 observer
# (test_studio_views.py), through the matrix and the transfer curve of IEC 61966-2-1.
BLACK_BODIES = {
    2700: (1.000, 0.678, 0.349),
    3200: (1.000, 0.746, 0.478),
    4000: (1.000, 0.828, 0.648),
    5000: (1.000, 0.903, 0.815),
    5600: (1.000, 0.936, 0.896),
    6500: (1.000, 0.975, 0.997),
    7500: (0.920, 0.927, 1.000),
}
# Of `StudioViews.fixed`: a light from either side and above, of daylight, as portraits are lit.
FIXED_AZIMUTH, FIXED_ELEVATION, FIXED_RADIUS_MM = 45.0, 20.0, 3000.0
FIXED_TEMPERATURE, FIXED_INTENSITY, FIXED_AMBIENT, FIXED_WALL = 6500, 0.5, 0.25, 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class StudioView:
    """N views. camera, lights: of N pictures; wall: grey of the background in [0, 1], [N]."""

    camera: PerspectiveCamera
    lights: PhongLights
    wall: torch.Tensor

    def __len__(self) -> int:
        return len(self.wall)


class Pictured(NamedTuple):
    """image: [N, 3, H, W] in [0, 1]; landmarks: [N, 68, 2] in pixels, hidden or not."""

    image: torch.Tensor
    landmarks: torch.Tensor


class StudioFaces(NamedTuple):
    """Random faces without expression. identity: [N, Ki], albedo: [N, Ka], coefficients."""

    image: torch.Tensor
    landmarks: torch.Tensor
    identity: torch.Tensor
    albedo: torch.Tensor


class StudioViews:
    """Random views of any faces of a model; view i depends on (seed, i) alone.

    Yaw, pitch and roll are uniform within 45, 20 and 10 degrees, by METHODS 1.2; the lights are fixed to the camera's
    axes, both of one colour temperature. Everything is computed on the model's device. Raises ValueError if the model
    has no albedo.
    """

    def __init__(self, model: MorphableModel, height: int, width: int, seed: int = 0) -> None:
        model.require("albedo_mean")
        self.model, self.height, self.width, self.seed = model, height, width, seed
        self.renderer = Renderer(model.triangles, height, width)
        points = model.mean_neutral()[model.landmarks68]
        self._middle = (points.amin(0) + points.amax(0)) / 2

    def draw(self, index: torch.Tensor) -> StudioView:
        """The views `index`, int64 [N]."""
        u = self._uniform(index)
        limits = torch.deg2rad(u.new_tensor([PITCH, YAW, ROLL]))
        angles = (2 * u[:, :3] - 1) * limits
        azimuth, elevation = _between(LIGHT_AZIMUTH, u[:, 3:5]), _between(LIGHT_ELEVATION, u[:, 5:7])
        direction = _directions(azimuth.deg2rad(), elevation.deg2rad())
        colours = u.new_tensor(list(BLACK_BODIES.values()))
        colour = colours[(u[:, 12] * len(colours)).long()] * _between(TINT, u[:, 13:16])
        return self._view(
            angles,
            direction * _between(LIGHT_RADIUS_MM, u[:, 7:9])[..., None],
            _between(INTENSITY, u[:, 9:11])[..., None] * colour[:, None],
            _between(AMBIENT, u[:, 11:12]) * colour,
            u[:, 16],
        )

    def fixed(self, angles: torch.Tensor) -> StudioView:
        """Views under one and the same light, for comparing faces. angles: pitch, yaw, roll in radians, [N, 3]."""
        n = len(angles)
        azimuth = angles.new_tensor([-FIXED_AZIMUTH, FIXED_AZIMUTH]).deg2rad()
        direction = _directions(azimuth, torch.full_like(azimuth, math.radians(FIXED_ELEVATION)))
        colour = angles.new_tensor(BLACK_BODIES[FIXED_TEMPERATURE]).expand(n, 3)
        return self._view(
            angles,
            (FIXED_RADIUS_MM * direction).expand(n, 2, 3),
            (FIXED_INTENSITY * colour)[:, None].expand(n, 2, 3),
            FIXED_AMBIENT * colour,
            torch.full_like(angles[:, 0], FIXED_WALL),
        )

    def ahead(self, count: int) -> StudioView:
        """`fixed` of faces that look straight ahead."""
        return self.fixed(self.model.template.new_zeros(count, 3))

    def render(self, vertices: torch.Tensor, albedo: torch.Tensor, view: StudioView) -> Pictured:
        """Pictures of faces, colours cut at 0 and 1. vertices: [N, V, 3] mm; albedo: [N, V, 3].

        Differentiable in vertices and albedo, see Renderer. Deterministic on the CPU. Raises ValueError for other
        shapes.
        """
        wall = view.wall.view(-1, 1, 1, 1).expand(-1, 3, self.height, self.width)
        image = self.renderer(vertices, albedo, view.camera, background=wall, lights=view.lights).image
        return Pictured(image.clamp(0, 1), view.camera.project(vertices[:, self.model.landmarks68]))

    @torch.no_grad()
    def faces(self, index: torch.Tensor) -> StudioFaces:
        """Faces `index` of the model's prior without expression, each in the view of its number; no gradient."""
        identity, albedo = self.coefficients(index)
        shape, colour = self.model.shape(identity), self.model.albedo(albedo, clamp=True)
        return StudioFaces(*self.render(shape, colour, self.draw(index)), identity, albedo)

    def coefficients(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Identity [N, Ki] and albedo [N, Ka] of the faces `index`."""
        draws = [self.model.sample(1, sample_generator(self.seed, "studio face", i)) for i in index.tolist()]
        identity, _, albedo = (torch.cat(part).to(self.model.template) for part in zip(*draws))
        return identity, albedo

    def _view(
        self,
        angles: torch.Tensor,
        position: torch.Tensor,
        intensity: torch.Tensor,
        ambient: torch.Tensor,
        wall: torch.Tensor,
    ) -> StudioView:
        """position: of the lights from the middle of the face, in camera axes, [N, L, 3] mm."""
        rotation = euler_to_matrix(angles)  # an object turned by R looks as it does to an eye turned back by R
        middle = self._middle.expand(len(angles), 3)
        eye = middle + DISTANCE_MM * rotation[:, 2]
        field = torch.full_like(angles[:, 0], math.radians(FIELD_OF_VIEW))
        camera = PerspectiveCamera.look_at(eye, middle, rotation[:, 1], field, self.height, self.width)
        position = position - position.new_tensor([0.0, 0.0, DISTANCE_MM])  # the eye is the origin of camera axes
        return StudioView(camera, PhongLights(position, intensity, ambient, GLOSS, SHININESS), wall)

    def _uniform(self, index: torch.Tensor) -> torch.Tensor:
        if index.ndim != 1 or index.dtype != torch.int64 or bool((index < 0).any()):
            raise ValueError(f"index must be int64 [N] with values >= 0, got {index.dtype} {list(index.shape)}")
        out = torch.empty(len(index), NUM_UNIFORM)
        for row, i in zip(out, index.tolist()):
            torch.rand(NUM_UNIFORM, generator=sample_generator(self.seed, "studio view", i), out=row)
        return out.to(self.model.template)


def _between(limits: tuple[float, float], uniform: torch.Tensor) -> torch.Tensor:
    return limits[0] + (limits[1] - limits[0]) * uniform


def _directions(azimuth: torch.Tensor, elevation: torch.Tensor) -> torch.Tensor:
    """Unit vectors [..., 3] in camera axes; azimuth 0 and elevation 0 point to the camera."""
    parts = (elevation.cos() * azimuth.sin(), elevation.sin(), elevation.cos() * azimuth.cos())
    return torch.stack(parts, -1)
