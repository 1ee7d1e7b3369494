"""Random light of rendered pictures."""

from __future__ import annotations

import pytest
import torch

from facecore import ops
from facecore.data.lights import NUM_UNIFORM, band_energy, directional_share, distant_light, draw_lights


@pytest.fixture
def sphere(generator) -> torch.Tensor:
    """Directions spread evenly: a Fibonacci lattice of 20,000, [1, P, 3] float64."""
    k = torch.arange(20000, dtype=torch.float64) + 0.5
    z, turn = 1 - 2 * k / 20000, torch.pi * (1 + 5**0.5) * k
    radius = (1 - z * z).sqrt()
    return torch.stack((radius * turn.cos(), radius * turn.sin(), z), dim=1)[None]


@pytest.fixture
def lights(generator, sphere) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """2,000 lights over the half sphere that faces the camera, the normals and their weights."""
    normals = sphere[:, ::50]
    normals = normals[:, normals[0, :, 2] > 0].expand(2000, -1, -1).contiguous()
    uniform = torch.rand(2000, NUM_UNIFORM, generator=generator, dtype=torch.float64)
    weight = normals[..., 2]
    return draw_lights(uniform, normals, weight), normals, weight


def test_band_energy_is_the_mean_square_shading_over_the_sphere(sphere, generator):
    light = torch.randn(1, 9, 3, generator=generator, dtype=torch.float64)
    expected = []
    for low, high in ((0, 1), (1, 4), (4, 9)):
        band = torch.zeros_like(light)
        band[:, low:high] = light[:, low:high]
        expected.append(ops.sh_shading(sphere, band).square().sum(2).mean())
    # the lattice integrates polynomials of degree 4 to about 1e-6
    torch.testing.assert_close(band_energy(light)[0], torch.stack(expected), rtol=1e-5, atol=0)
    total = ops.sh_shading(sphere, light).square().sum(2).mean()
    assert directional_share(light)[0] == pytest.approx(float(sum(expected[1:]) / total), rel=1e-4)


def test_share_of_simple_lights():
    light = torch.zeros(3, 9, 3)
    light[0, 0], light[1, 1:] = 1.0, 1.0
    assert directional_share(light).tolist() == [0.0, 1.0, 0.0]  # ambient, no ambient, none at all


def test_distant_light_is_the_matte_law_cut_after_band_two(sphere, generator):
    direction = torch.nn.functional.normalize(torch.randn(1, 3, generator=generator, dtype=torch.float64), dim=1)
    cosine = (sphere[0] @ direction[0])[None, :, None]
    light = distant_light(direction)[:, :, None].expand(1, 9, 3).contiguous()
    expected = 0.25 + cosine / 2 + 5 / 32 * (3 * cosine**2 - 1)
    torch.testing.assert_close(ops.sh_shading(sphere, light), expected.expand(1, -1, 3))
    assert (expected - cosine.clamp_min(0)).abs().max() < 0.1  # it is a light: max(0, cosine)


def test_half_of_the_lights_are_a_third_directional(lights):
    share = directional_share(lights[0])
    strong = (share >= 1 / 3).double().mean()
    # the rule puts half above and most of the others below; 2,000 draws have a standard deviation of 1.1 %
    assert 0.46 < strong < 0.62
    assert share.min() < 0.15 and share.max() < 0.62  # 0.62: a distant light alone


def test_lights_are_positive_of_the_right_brightness_and_slightly_coloured(lights):
    light, normals, weight = lights
    shading = ops.sh_shading(normals, light)
    mean = (shading.mean(2) * weight).sum(1) / weight.sum(1)
    assert 1.1 < mean.max() <= 1.15 + 1e-9 and 0.4 < mean.min() and 0.7 < mean.mean() < 0.95
    brightest = torch.where(weight > 0.2, shading.mean(2), 0.0).amax(1)
    assert brightest.max() <= 1.6 + 1e-9
    dimmed = brightest > 1.6 - 1e-9
    assert mean[~dimmed].min() > 0.65 - 1e-9 and 0.05 < dimmed.double().mean() < 0.6
    assert (shading < 0).double().mean() < 1e-3
    moderate = ((shading > 0.3) & (shading < 1.5)).double().mean(2)
    assert (moderate * weight).sum() / weight.sum() > 0.8  # of the pixels of a sphere
    colour = (shading * weight[..., None]).sum(1) / weight.sum(1, keepdim=True) / mean[:, None]
    assert (colour - 1).abs().max() < 0.25 and colour.std(0).max() > 0.02


def test_side_light_is_common(lights):
    """Left and right half of the face differ: what makes light learnable (METHODS 8.3, claim 3)."""
    light, normals, weight = lights
    bright = ops.sh_shading(normals, light).mean(2) * weight
    left = (bright * (normals[..., 0] < 0)).sum(1) / bright.sum(1)
    assert (left - 0.5).abs().mean() > 0.07 and abs(left.mean() - 0.5) < 0.02
