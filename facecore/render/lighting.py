"""Light: spherical-harmonics coefficients in facecore's basis (METHODS 1.5), and Phong shading with point lights."""

from __future__ import annotations

import dataclasses
import math

import torch

from facecore.ops._library import check_tensor

AMBIENT_OFFSET = 0.8  # added to band 0 of a predicted light, so that a zero-initialised head is not a black image
# Band scales from true Lambertian coefficients to the basis of METHODS 1.5: 1/sqrt(3) and 1/sqrt(8).
LAMBERTIAN_BAND_SCALE = (1.0,) + (1.0 / math.sqrt(3.0),) * 3 + (1.0 / math.sqrt(8.0),) * 5


def sh_from_prediction(code: torch.Tensor) -> torch.Tensor:
    """Returns effective coefficients [N, 9, 3] of a network's output: the output plus 0.8 on band 0.

    Args:
        code: float [N, 27] or [N, 9, 3] ordered (coefficient, channel), or [N, 9] for white light.

    Differentiable. Raises ValueError for another shape. METHODS 1.5.
    """
    if isinstance(code, torch.Tensor) and code.dim() == 2 and code.shape[1] == 9:
        code = code[:, :, None].expand(-1, -1, 3)
    elif isinstance(code, torch.Tensor) and code.dim() == 2 and code.shape[1] == 27:
        code = code.reshape(-1, 9, 3)
    check_tensor("code (as [N, 27], [N, 9] or [N, 9, 3])", code, ("N", 9, 3))
    return torch.cat([code[:, :1] + AMBIENT_OFFSET, code[:, 1:]], 1)


def sh_to_prediction(sh_coefficients: torch.Tensor) -> torch.Tensor:
    """Returns the code [N, 27] whose `sh_from_prediction` is these effective coefficients [N, 9, 3]. Differentiable."""
    check_tensor("sh_coefficients", sh_coefficients, ("N", 9, 3))
    return torch.cat([sh_coefficients[:, :1] - AMBIENT_OFFSET, sh_coefficients[:, 1:]], 1).reshape(-1, 27)


def sh_from_lambertian(coefficients: torch.Tensor) -> torch.Tensor:
    """Returns coefficients [N, 9, 3] in facecore's basis of a light given for the true Lambertian kernel, [N, 9, 3].

    Band 1 is divided by sqrt(3), band 2 by sqrt(8); order and signs stay. Differentiable. METHODS 1.5.
    """
    check_tensor("coefficients", coefficients, ("N", 9, 3))
    return coefficients * coefficients.new_tensor(LAMBERTIAN_BAND_SCALE)[:, None]


def sh_from_channel_major(coefficients: torch.Tensor) -> torch.Tensor:
    """Returns [N, 9, 3] of coefficients stored channel by channel, [N, 27] or [N, 3, 9], as much public code does.

    No offset is added. Differentiable. Raises ValueError for another shape.
    """
    if isinstance(coefficients, torch.Tensor) and coefficients.dim() == 2 and coefficients.shape[1] == 27:
        coefficients = coefficients.reshape(-1, 3, 9)
    check_tensor("coefficients (as [N, 27] or [N, 3, 9])", coefficients, ("N", 3, 9))
    return coefficients.transpose(1, 2)


@dataclasses.dataclass(frozen=True, eq=False)
class PhongLights:
    """Point lights and the material's gloss, for Renderer and phong_shading.

    position: [N, L, 3] in mm, in camera axes with the origin of `camera.to_camera`; intensity: [N, L, 3] RGB;
    ambient: [N, 3] RGB factor Ka; gloss: k in [0, 1], specular reflectance Ks = k - k Kd; shininess: exponent m > 0.
    Raises ValueError for wrong shapes or ranges. METHODS 1.5.
    """

    position: torch.Tensor
    intensity: torch.Tensor
    ambient: torch.Tensor
    gloss: float = 0.2
    shininess: float = 10.0

    def __post_init__(self) -> None:
        sizes = check_tensor("position", self.position, ("N", "L", 3))
        check_tensor("intensity", self.intensity, ("N", "L", 3), like=self.position, sizes=sizes)
        check_tensor("ambient", self.ambient, ("N", 3), like=self.position, sizes=sizes)
        if not 0.0 <= self.gloss <= 1.0:
            raise ValueError(f"gloss must be in [0, 1], got {self.gloss}")
        if not self.shininess > 0.0:
            raise ValueError(f"shininess must be positive, got {self.shininess}")


def phong_shading(
    positions: torch.Tensor,
    normals: torch.Tensor,
    albedo: torch.Tensor,
    view_direction: torch.Tensor,
    lights: PhongLights,
) -> torch.Tensor:
    """Returns colours of lit surface points, [N, P, 3], not clamped.

        C = Ka Kd + sum_l I_l [Kd max(0, n.l) + Ks max(0, r.e)^m],  r = 2 (n.l) n - l,  Ks = k - k Kd

    with the specular term only where n.l > 0.

    Args:
        positions: mm, in the frame of the lights, float [N, P, 3].
        normals: unit [N, P, 3], same axes (not renormalised here).
        albedo: diffuse reflectance Kd in [0, 1], [N, P, 3].
        view_direction: unit vectors towards the eye, [N, P, 3].
        lights: see PhongLights.

    Differentiable in every tensor; at n.l = 0 and r.e = 0 the slope is taken as 0. Deterministic.
    Raises ValueError for wrong shapes or dtypes. METHODS 1.5 (S4).
    """
    sizes = check_tensor("positions", positions, ("N", "P", 3))
    for name, tensor in (("normals", normals), ("albedo", albedo), ("view_direction", view_direction)):
        check_tensor(name, tensor, ("N", "P", 3), like=positions, sizes=sizes)
    check_tensor("lights.position", lights.position, ("N", "L", 3), like=positions, sizes=sizes)
    color = albedo * lights.ambient[:, None]
    specular_reflectance = lights.gloss - lights.gloss * albedo
    for light in range(lights.position.shape[1]):
        to_light = torch.nn.functional.normalize(lights.position[:, None, light] - positions, dim=-1)
        cosine = (normals * to_light).sum(-1, keepdim=True)
        mirrored = 2.0 * cosine * normals - to_light
        highlight = (mirrored * view_direction).sum(-1, keepdim=True)
        lit = (cosine > 0) & (highlight > 0)
        # pow has a NaN gradient at 0 for exponents below 1, so its base is 1 where the highlight is absent.
        power = torch.where(lit, torch.where(lit, highlight, 1.0) ** lights.shininess, 0.0)
        reflected = albedo * torch.where(cosine > 0, cosine, 0.0) + specular_reflectance * power
        color = color + lights.intensity[:, None, light] * reflected
    return color
