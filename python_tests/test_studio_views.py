"""Views in a studio: camera, lights, colours of black bodies, gradients, and what a view depends on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from facecore.data.studio_views import BLACK_BODIES, DISTANCE_MM, StudioViews
from facecore.morphable import load as load_model
from facecore.render import euler_to_matrix


@pytest.fixture(scope="module")
def views() -> StudioViews:
    return StudioViews(load_model("procedural", num_vertices=2500), 48, 48, seed=5)


def test_a_view_depends_on_its_number_alone(views):
    together = views.faces(torch.tensor([3, 9]))
    alone = views.faces(torch.tensor([9]))
    assert torch.equal(together.identity[1:], alone.identity) and torch.equal(together.albedo[1:], alone.albedo)
    # products of other sizes round otherwise: a pixel at an edge may change, the mean does not
    assert float((together.image[1:] - alone.image).abs().mean()) < 1e-4
    torch.testing.assert_close(together.landmarks[1:], alone.landmarks, rtol=0, atol=1e-3)
    other = StudioViews(views.model, 48, 48, seed=6).faces(torch.tensor([9]))
    assert not torch.equal(other.identity, alone.identity)
    assert 0 <= float(together.image.min()) and float(together.image.max()) <= 1


def test_views_lie_within_what_methods_say(views):
    view = views.draw(torch.arange(300))
    camera, lights = view.camera, view.lights
    middle = camera.to_camera(views._middle.expand(300, 1, 3))[:, 0]
    torch.testing.assert_close(middle, middle.new_tensor([0.0, 0.0, -DISTANCE_MM]).expand(300, 3), rtol=0, atol=1e-2)
    assert float(camera.focal[0]) == pytest.approx(24 / math.tan(math.radians(6.3)))
    yaw = torch.asin(-camera.rotation[:, 2, 0]).rad2deg()
    assert 35 < float(yaw.abs().max()) <= 45.01
    towards = lights.position - middle[:, None]
    radius = towards.norm(dim=-1)
    assert 2000 <= float(radius.min()) + 0.1 and float(radius.max()) <= 5000.1
    elevation = torch.asin(towards[..., 1] / radius).rad2deg()
    assert -30.01 <= float(elevation.min()) and float(elevation.max()) <= 60.01
    assert 0.3 * 0.349 * 0.95 - 1e-4 < float(lights.intensity.min()) and float(lights.intensity.max()) < 0.9 * 1.05
    assert (lights.gloss, lights.shininess) == (0.2, 10.0)
    red_over_blue = lights.intensity[:, 0, 0] / lights.intensity[:, 0, 2]
    assert torch.allclose(red_over_blue, lights.intensity[:, 1, 0] / lights.intensity[:, 1, 2])  # one lamp's colour


def test_the_camera_sees_the_face_turned_as_methods_1_2_says(views):
    angles = torch.tensor([[0.2, -0.5, 0.1]])
    torch.testing.assert_close(views.fixed(angles).camera.rotation, euler_to_matrix(angles))
    model = views.model
    ahead = views.ahead(1).camera.project(model.mean_neutral()[None, model.landmarks68])[0]
    assert abs(float(ahead[30, 0]) - 24) < 1  # the nose tip of a symmetric face
    assert float(ahead[30, 1]) < float(ahead[8, 1])  # above the chin
    yaw = views.fixed(torch.tensor([[0.0, 0.5, 0.0]])).camera
    assert float(yaw.project(model.mean_neutral()[None, model.landmarks68])[0, 30, 0]) > 25  # to image right


def test_the_fixed_light_is_the_same_in_every_view(views):
    one, other = views.ahead(2), views.fixed(torch.tensor([[0.1, 0.4, 0.0]]))
    assert torch.equal(one.lights.position[:1], other.lights.position)
    assert torch.equal(one.lights.intensity[:1], other.lights.intensity)


def test_gradients_reach_shape_and_albedo(views):
    model = views.model
    vertices = model.mean_neutral()[None].clone().requires_grad_()
    albedo = model.albedo(model.prior.albedo_mean[None]).clone().requires_grad_()
    image = views.render(vertices, albedo, views.draw(torch.tensor([1]))).image
    (image * torch.rand(image.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    for gradient in (vertices.grad, albedo.grad):
        assert bool(gradient.isfinite().all()) and float(gradient.abs().sum()) > 0


def test_black_bodies_are_plancks():
    """Planck's law seen by the CIE 1931 observer, in the lobes of Wyman, Sloan and Shirley (2013), as display sRGB."""
    length = np.arange(360.0, 831.0)  # nm

    def lobe(height: float, centre: float, below: float, above: float) -> np.ndarray:
        return height * np.exp(-0.5 * ((length - centre) * np.where(length < centre, below, above)) ** 2)

    observer = np.stack(
        [
            lobe(1.056, 599.8, 0.0264, 0.0323) + lobe(0.362, 442.0, 0.0624, 0.0374) - lobe(0.065, 501.1, 0.049, 0.0382),
            lobe(0.821, 568.8, 0.0213, 0.0247) + lobe(0.286, 530.9, 0.0613, 0.0322),
            lobe(1.217, 437.0, 0.0845, 0.0278) + lobe(0.681, 459.0, 0.0385, 0.0725),
        ]
    )
    to_linear = np.array(
        [[3.2404542, -1.5371385, -0.4985314], [-0.969266, 1.8760108, 0.041556], [0.0556434, -0.2040259, 1.0572252]]
    )
    for temperature, colour in BLACK_BODIES.items():
        radiance = length**-5 / np.expm1(1.438777e7 / (length * temperature))
        linear = to_linear @ (observer @ radiance)
        linear = linear / linear.max()
        display = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        # the splines and the lobes are fits, each within a few thousandths in chromaticity
        np.testing.assert_allclose(display, colour, atol=0.008)


def test_bad_indices_are_refused(views):
    with pytest.raises(ValueError, match=r"index must be int64 \[N\]"):
        views.draw(torch.tensor([-1]))
