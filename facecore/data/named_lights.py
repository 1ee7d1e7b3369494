"""Lights by name, and one that turns around the face: effective spherical-harmonics coefficients for relighting."""

from __future__ import annotations

import dataclasses
import math

import torch

from facecore.data.lights import BAND_0, distant_light

# Mean shading of a face-like surface, one whose normals are spread evenly over the half sphere towards the camera.
EXPOSURE = 0.9
TURNING_ANGLE = 60.0  # degrees between the turning light and the line from the face to the camera
TURNING_AMBIENT = 0.35
# Mean of H_b of METHODS 1.5 over the half sphere n_z > 0; that of n_z is 1/2, of n_z^2 1/3, the others vanish.
_MEAN_H2 = 1.772454 / 2


@dataclasses.dataclass(frozen=True)
class NamedLight:
    """A distant light over ambient light, before exposure.

    azimuth, elevation: where the light comes from, in degrees; 0, 0 = the camera, azimuth +90 = the right side of the
    picture, elevation +90 = above. ambient: its part, in shading of a surface that faces the distant light (which
    itself gives 1). colour, ambient_colour: RGB of either.
    """

    azimuth: float
    elevation: float
    ambient: float
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    ambient_colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    strength: float = 1.0


NAMED_LIGHTS = {
    "ambient": NamedLight(0.0, 0.0, 1.0, strength=0.0),
    "front": NamedLight(0.0, 15.0, 0.30),
    "left": NamedLight(-75.0, 15.0, 0.30),
    "right": NamedLight(75.0, 15.0, 0.30),
    "above": NamedLight(0.0, 75.0, 0.30),
    "below": NamedLight(0.0, -60.0, 0.30),
    "window": NamedLight(-55.0, 25.0, 0.55, (0.92, 1.0, 1.08), (1.0, 0.98, 0.95)),
    "sunset": NamedLight(60.0, 8.0, 0.40, (1.25, 0.98, 0.72), (0.85, 0.95, 1.20)),
}


def named_light(name: str) -> torch.Tensor:
    """Effective coefficients float32 [1, 9, 3], in camera axes, of one of NAMED_LIGHTS.

    "left" and "right" are sides of the picture. The green shading, averaged over the half sphere of normals towards
    the camera, is EXPOSURE. Deterministic. Raises ValueError for another name.
    """
    if name not in NAMED_LIGHTS:
        raise ValueError(f"no light is named {name!r}; choose one of {', '.join(NAMED_LIGHTS)}")
    light = NAMED_LIGHTS[name]
    rise, turn = math.radians(light.elevation), math.radians(light.azimuth)
    direction = (math.cos(rise) * math.sin(turn), math.sin(rise), math.cos(rise) * math.cos(turn))
    distant = light.strength * distant_light(torch.tensor([direction], dtype=torch.float64))[:, :, None]
    coefficients = distant * distant.new_tensor(light.colour)
    coefficients[:, 0] += light.ambient / BAND_0 * distant.new_tensor(light.ambient_colour)
    return exposed(coefficients).float()


def turning_light(count: int) -> torch.Tensor:
    """`count` white lights float32 [count, 9, 3] that circle once around the line from the face to the camera.

    The first comes from above; they go clockwise in the picture, TURNING_ANGLE off the camera, over ambient light of
    TURNING_AMBIENT; all have the EXPOSURE of `named_light`. Raises ValueError for a count below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    turn = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
    across, along = math.sin(math.radians(TURNING_ANGLE)), math.cos(math.radians(TURNING_ANGLE))
    direction = torch.stack((across * turn.sin(), across * turn.cos(), torch.full_like(turn, along)), 1)
    coefficients = distant_light(direction)[:, :, None].repeat(1, 1, 3)
    coefficients[:, 0] += TURNING_AMBIENT / BAND_0
    return exposed(coefficients).float()


def exposed(sh_coefficients: torch.Tensor) -> torch.Tensor:
    """Lights [N, 9, 3] scaled to the EXPOSURE: the mean of the green shading over normals with n_z > 0."""
    green = sh_coefficients[:, :, 1]
    mean = green[:, 0] * BAND_0 + green[:, 2] * _MEAN_H2
    return sh_coefficients * (EXPOSURE / mean)[:, None, None]
