"""Named and turning lights: exposure, uniformity, sides, and the turn."""

from __future__ import annotations

import math

import pytest
import torch

from facecore.data.named_lights import EXPOSURE, NAMED_LIGHTS, TURNING_ANGLE, exposed, named_light, turning_light
from facecore.ops import sh_shading


def directions(count: int = 20_000) -> torch.Tensor:
    """Unit vectors float64 [1, count, 3] spread evenly over the sphere (a Fibonacci lattice)."""
    i = torch.arange(count, dtype=torch.float64) + 0.5
    z, turn = 1 - 2 * i / count, i * math.pi * (1 + math.sqrt(5))
    radius = (1 - z * z).sqrt()
    return torch.stack((radius * turn.cos(), radius * turn.sin(), z), 1)[None]


def shading(light: torch.Tensor, normals: torch.Tensor) -> torch.Tensor:
    return sh_shading(normals.expand(len(light), -1, -1).contiguous(), light.to(normals))


@pytest.mark.parametrize("name", NAMED_LIGHTS)
def test_exposure_is_the_mean_over_normals_towards_the_camera(name):
    light = named_light(name)
    assert light.dtype == torch.float32 and light.shape == (1, 9, 3)
    normals = directions()
    front = normals[:, normals[0, :, 2] > 0]
    # the lattice's mean of a quadratic is exact to about 1 / count
    assert float(shading(light, front)[..., 1].mean()) == pytest.approx(EXPOSURE, abs=1e-3)
    assert float(shading(light, normals).min()) > 0, "no surface is darker than black"


def test_ambient_light_is_the_same_everywhere():
    values = shading(named_light("ambient"), directions(500))
    torch.testing.assert_close(values, torch.full_like(values, EXPOSURE), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("name", "axis"),
    [("left", (-1, 0, 0)), ("right", (1, 0, 0)), ("above", (0, 1, 0)), ("below", (0, -1, 0)), ("front", (0, 0, 1))],
)
def test_the_side_of_its_name_is_brightest(name, axis):
    axes = torch.tensor([[*torch.eye(3).tolist(), *(-torch.eye(3)).tolist()]], dtype=torch.float64)
    values = shading(named_light(name), axes)[0, :, 1]
    assert axes[0, int(values.argmax())].tolist() == list(axis)


def test_sunset_is_warm_on_its_side_and_cool_on_the_other():
    right, left = shading(named_light("sunset"), torch.tensor([[[1.0, 0, 0], [-1.0, 0, 0]]]))[0]
    assert right[0] > 1.2 * right[2] and left[2] > left[0]


def test_the_light_turns_clockwise_from_above_at_one_exposure():
    lights = turning_light(4)
    toward = torch.tensor([[0.0, 1, 0], [1.0, 0, 0], [0.0, -1, 0], [-1.0, 0, 0]], dtype=torch.float64)
    values = shading(lights, toward[None])[..., 0]
    assert values.argmax(1).tolist() == [0, 1, 2, 3]
    # a quarter turn of the light and of the normals together changes nothing; float32 coefficients
    torch.testing.assert_close(values[1].roll(-1), values[0], rtol=1e-5, atol=1e-6)
    front = directions()
    front = front[:, front[0, :, 2] > 0]
    torch.testing.assert_close(
        shading(lights, front).mean((1, 2)), torch.full((4,), EXPOSURE, dtype=torch.float64), rtol=0, atol=1e-3
    )
    angle = math.radians(TURNING_ANGLE)
    main = torch.tensor([[[0, math.sin(angle), math.cos(angle)], [0, 0, 1.0], [0, 1.0, 0]]], dtype=torch.float64)
    assert int(shading(lights[:1], main)[0, :, 0].argmax()) == 0, "brightest where it comes from"


def test_exposed_scales_alone():
    light = torch.rand(2, 9, 3, dtype=torch.float64) + 0.5
    ratio = exposed(light) / light
    torch.testing.assert_close(ratio, ratio[:, :1, :1].expand_as(ratio))
    torch.testing.assert_close(exposed(3 * light), exposed(light))


def test_what_is_refused():
    with pytest.raises(ValueError, match="no light is named 'lamp'; choose one of ambient, front"):
        named_light("lamp")
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        turning_light(0)
