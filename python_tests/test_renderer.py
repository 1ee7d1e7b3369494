"""Renderer and light: a sphere against its analytic picture, one geometry in all stages, gradients, bad inputs."""

from __future__ import annotations

import math

import pytest
import torch

from facecore.render import (
    PerspectiveCamera,
    PhongLights,
    Renderer,
    WeakPerspectiveCamera,
    phong_shading,
    sh_from_channel_major,
    sh_from_lambertian,
    sh_from_prediction,
    sh_to_prediction,
)

RADIUS = 80.0  # mm


def sphere(rings: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """A closed sphere, float64 [V, 3] in mm and int32 [T, 3], counter-clockwise from outside, poles on y."""
    segments = 2 * rings
    vertices = [(0.0, RADIUS, 0.0)]
    for ring in range(1, rings):
        y, r = RADIUS * math.cos(math.pi * ring / rings), RADIUS * math.sin(math.pi * ring / rings)
        angles = (2 * math.pi * s / segments for s in range(segments))
        vertices += [(r * math.sin(angle), y, r * math.cos(angle)) for angle in angles]
    vertices.append((0.0, -RADIUS, 0.0))
    triangles = []
    for s in range(segments):
        following = (s + 1) % segments
        triangles.append((0, 1 + s, 1 + following))
        for ring in range(rings - 2):
            a, b = 1 + ring * segments, 1 + (ring + 1) * segments
            triangles += [(a + s, b + s, b + following), (a + s, b + following, a + following)]
        last = 1 + (rings - 2) * segments
        triangles.append((len(vertices) - 1, last + following, last + s))
    return torch.tensor(vertices, dtype=torch.float64), torch.tensor(triangles, dtype=torch.int32)


def quad(z: float, size: float = 100.0) -> tuple[torch.Tensor, torch.Tensor]:
    corners = [(-size, -size, z), (size, -size, z), (size, size, z), (-size, size, z)]
    return torch.tensor(corners, dtype=torch.float64), torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)


def weak(n: int = 1, height: int = 64, width: int = 64, pose: torch.Tensor | None = None) -> WeakPerspectiveCamera:
    pose = torch.zeros(n, 6, dtype=torch.float64) if pose is None else pose
    return WeakPerspectiveCamera.from_pose(pose, height, width)


def white_light(n: int = 1) -> torch.Tensor:
    """Coefficients that shade every normal 1."""
    light = torch.zeros(n, 9, 3, dtype=torch.float64)
    light[:, 0] = 1 / 0.8862269254527580
    return light


def pixel_centres(height: int, width: int) -> torch.Tensor:
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([u, v], -1).double()


def test_sphere_is_the_analytic_picture(generator):
    vertices, triangles = sphere()
    light = torch.randn(1, 9, 3, generator=generator, dtype=torch.float64)
    renderer = Renderer(triangles, 64, 80)
    camera = weak(1, 64, 80, torch.tensor([[0.3, -0.4, 0.2, 0.0, 0.2, -0.1]], dtype=torch.float64))
    rendering = renderer(vertices[None], torch.full((1, len(vertices), 3), 0.5, dtype=torch.float64), camera, light)
    radius = 0.8 * RADIUS / 100 * 32  # pixels
    centre = torch.tensor([40 + 0.2 * 32, 32 + 0.1 * 32], dtype=torch.float64)
    offset = (pixel_centres(64, 80) - centre) / radius * torch.tensor([1.0, -1.0])
    distance = offset.norm(dim=-1)
    inside, outside = distance < 0.995, distance > 1.005  # the polyhedron's outline lies between
    assert (rendering.alpha[0][inside] == 1).all() and (rendering.alpha[0][outside] == 0).all()
    core = distance < 0.9
    n = torch.cat([offset, (1 - distance.square()).clamp_min(0).sqrt()[..., None]], -1)
    # a facet spans 3.75 degrees, so positions and interpolated normals differ from the sphere's by half of that squared
    torch.testing.assert_close(rendering.normals[0].permute(1, 2, 0)[core], n[core], rtol=0, atol=3e-3)
    x, y, z = n[core].unbind(-1)
    basis = torch.stack(
        [
            torch.full_like(x, 0.886227),
            -1.772454 * y,
            1.772454 * z,
            -1.772454 * x,
            2.427032 * x * y,
            -2.427032 * y * z,
            0.700624 * (3 * z * z - 1),
            -2.427032 * x * z,
            1.213516 * (x * x - y * y),
        ],
        -1,
    )
    expected = basis @ light[0]
    torch.testing.assert_close(rendering.shading[0].permute(1, 2, 0)[core], expected, rtol=0, atol=0.03)
    torch.testing.assert_close(rendering.image, rendering.albedo * rendering.shading)


@pytest.mark.parametrize("kind", ["weak", "pose", "look_at"])
def test_each_pixel_shows_the_point_that_projects_there(generator, kind):
    """The object position interpolated at a pixel, projected, is that pixel's centre: camera and rasterizer agree."""
    vertices, triangles = sphere(12)
    pose = torch.randn(2, 6, generator=generator, dtype=torch.float64) * 0.2
    shift = pose[:, 3:] * 50
    height, width = 40, 52
    if kind == "weak":
        camera = weak(2, height, width, pose)
    elif kind == "pose":
        camera = PerspectiveCamera.from_pose(pose[:, :3], shift, height, width, focal=200.0)
    else:
        eye = torch.tensor([[300.0, 100.0, 800.0], [-200.0, 0.0, 700.0]], dtype=torch.float64)
        up = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64).expand(2, 3)
        camera = PerspectiveCamera.look_at(
            eye, shift, up, torch.tensor([0.3, 0.25], dtype=torch.float64), height, width, near=300.0
        )
    renderer, points = Renderer(triangles, height, width), vertices.expand(2, -1, -1)
    fragments = renderer.rasterize(points, camera)
    positions = renderer.interpolate(points, fragments).permute(0, 2, 3, 1)
    projected = camera.project(positions.flatten(1, 2)).view(2, height, width, 2)
    covered = fragments.triangle_id >= 0
    assert covered.sum() > 200
    expected = pixel_centres(height, width).expand(2, -1, -1, -1)
    torch.testing.assert_close(projected[covered], expected[covered], rtol=0, atol=1e-9)
    # the visible side is the near one: its normals look towards the eye
    axes = camera.to_camera(positions.flatten(1, 2)).view(2, height, width, 3)
    normal = camera.rotate(positions.flatten(1, 2)).view(2, height, width, 3)
    facing = (normal * camera.view_direction(axes)).sum(-1)
    assert (facing[covered] > -0.2 * RADIUS).all()


def test_nearer_surface_hides_the_other():
    (front, triangles), (back, _) = quad(50.0, 30.0), quad(-50.0)
    vertices = torch.cat([back, front])[None]
    triangles = torch.cat([triangles, triangles + 4])
    albedo = torch.tensor([[0.2] * 3] * 4 + [[0.9] * 3] * 4, dtype=torch.float64)[None]
    image = Renderer(triangles, 64, 64)(vertices, albedo, weak(), white_light()).image
    assert float(image[0, 0, 32, 32]) == pytest.approx(0.9)
    assert float(image[0, 0, 32, 10]) == pytest.approx(0.2)


def test_light_comes_from_where_the_conventions_say():
    """Negative coefficient 3 lights image right, negative 1 lights from above, positive 2 from the camera."""
    vertices, triangles = sphere(16)
    albedo = torch.ones(1, len(vertices), 3, dtype=torch.float64)
    for index, sign, bright, dark in (
        (3, -1, (32, 50), (32, 14)),
        (1, -1, (14, 32), (50, 32)),
        (2, 1, (32, 32), (32, 52)),
    ):
        light = torch.zeros(1, 9, 3, dtype=torch.float64)
        light[:, index] = sign
        image = Renderer(triangles, 64, 64)(vertices[None], albedo, weak(), light).image[0, 1]
        assert image[bright] > image[dark] + 0.3
    # light stays with the camera when the head turns
    turned = weak(pose=torch.tensor([[0.0, 1.0, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64))
    again = Renderer(triangles, 64, 64)(vertices[None], albedo, turned, light).image[0, 1]
    torch.testing.assert_close(again[32, 20:44], image[32, 20:44], rtol=0, atol=0.05)


def test_background_and_black(generator):
    vertices, triangles = quad(0.0, 40.0)
    background = torch.rand(1, 3, 64, 64, generator=generator, dtype=torch.float64)
    albedo = torch.full((1, 4, 3), 0.5, dtype=torch.float64)
    renderer = Renderer(triangles, 64, 64)
    plain = renderer(vertices[None], albedo, weak(), white_light())
    composed = renderer(vertices[None], albedo, weak(), white_light(), background)
    hole = (plain.alpha == 0)[:, None].expand(-1, 3, -1, -1)
    assert 0 < hole.sum() < hole.numel()
    assert (plain.image[hole] == 0).all() and torch.equal(composed.image[hole], background[hole])
    assert torch.equal(composed.image[~hole], plain.image[~hole])
    for picture in (plain.albedo, plain.shading, plain.normals):
        assert (picture[hole] == 0).all()
    torch.testing.assert_close(plain.image[~hole], torch.full_like(plain.image[~hole], 0.5))


def test_light_that_is_no_number_stays_on_the_face():
    vertices, triangles = quad(0.0, 40.0)
    albedo = torch.full_like(vertices, 0.5)[None]
    drawn = Renderer(triangles, 64, 64)(vertices[None], albedo, weak(), torch.full_like(white_light(), math.nan))
    covered = drawn.alpha[0] > 0
    assert covered.any() and not covered.all()
    for picture in (drawn.image, drawn.shading):
        assert picture[0, :, covered].isnan().all() and not picture[0, :, ~covered].any()


def test_nothing_to_see_is_the_background(generator):
    vertices, triangles = quad(0.0)
    pose = torch.tensor([[0.0, 0.0, 0.0, 0.0, 9.0, 0.0]], dtype=torch.float64)
    background = torch.rand(1, 3, 8, 8, generator=generator, dtype=torch.float64)
    renderer = Renderer(triangles, 8, 8)
    albedo = torch.ones(1, 4, 3, dtype=torch.float64, requires_grad=True)
    rendering = renderer(vertices[None], albedo, weak(1, 8, 8, pose), white_light(), background)
    assert torch.equal(rendering.image, background) and (rendering.alpha == 0).all()
    rendering.image.sum().backward()
    assert torch.equal(albedo.grad, torch.zeros_like(albedo))


def test_culling():
    vertices, triangles = quad(0.0)
    away = triangles.flip(1)

    def drawn(triangles: torch.Tensor, cull: bool) -> float:
        renderer = Renderer(triangles, 8, 8, cull_backfaces=cull)
        albedo = torch.ones(1, 4, 3, dtype=torch.float64)
        return float(renderer(vertices[None], albedo, weak(1, 8, 8), white_light()).alpha.sum())

    # the quad spans 4 +- 0.8 * 4 pixels: the centres 1.5 to 6.5
    assert drawn(triangles, True) == drawn(triangles, False) == drawn(away, False) == 36
    assert drawn(away, True) == 0


def small_scene(generator):
    """Two tilted overlapping quads: few vertices for finite differences, no pixel centre near an edge."""
    (front, triangles), (back, _) = quad(40.0, 41.3), quad(-30.0, 77.7)
    vertices = torch.cat([back, front])[None]
    vertices = vertices + torch.randn(vertices.shape, generator=generator, dtype=torch.float64) * 3.0
    albedo = torch.rand(1, 8, 3, generator=generator, dtype=torch.float64)
    pose = torch.randn(1, 6, generator=generator, dtype=torch.float64) * 0.1
    light = torch.randn(1, 9, 3, generator=generator, dtype=torch.float64) * 0.3
    background = torch.rand(1, 3, 7, 6, generator=generator, dtype=torch.float64)
    return Renderer(torch.cat([triangles, triangles + 4]), 7, 6), (vertices, albedo, pose, light, background)


def test_gradients(generator):
    renderer, inputs = small_scene(generator)

    def picture(vertices, albedo, pose, light, background):
        camera = WeakPerspectiveCamera.from_pose(pose, 7, 6)
        # mm are scaled, so that one step of the finite differences moves no outline over a pixel centre
        return renderer(vertices * 100.0, albedo, camera, light, background).image

    inputs = tuple(t.requires_grad_() for t in (inputs[0] / 100.0, *inputs[1:]))
    assert torch.autograd.gradcheck(picture, inputs, fast_mode=True)
    assert torch.autograd.gradcheck(picture, inputs)
    assert torch.autograd.gradgradcheck(picture, inputs, fast_mode=True)


def test_phong_gradients(generator):
    renderer, (vertices, albedo, pose, _, background) = small_scene(generator)
    position = torch.tensor([[[500.0, 800.0, 1500.0], [-900.0, 100.0, 2000.0]]], dtype=torch.float64)
    intensity = torch.rand(1, 2, 3, generator=generator, dtype=torch.float64)
    ambient = torch.rand(1, 3, generator=generator, dtype=torch.float64)

    def picture(vertices, albedo, shift, position, intensity, ambient):
        camera = PerspectiveCamera.from_pose(pose[:, :3], shift, 7, 6, focal=25.0)
        lights = PhongLights(position * 100.0, intensity, ambient, gloss=0.4, shininess=3.0)
        return renderer(vertices * 100.0, albedo, camera, None, background, lights=lights).image

    inputs = (vertices / 100.0, albedo, pose[:, 3:] * 10, position / 100.0, intensity, ambient)
    assert torch.autograd.gradcheck(picture, tuple(t.requires_grad_() for t in inputs))


def test_pose_is_recovered_by_following_the_gradient(generator):
    """A textured sphere seen from a slightly wrong pose turns back: the derivative is of the picture that is drawn."""
    vertices, triangles = sphere(16)
    phase = vertices / RADIUS * 4.0
    albedo = (0.5 + 0.4 * torch.sin(phase + torch.tensor([0.0, 1.0, 2.0])))[None]
    renderer, light = Renderer(triangles, 48, 48), white_light()

    def picture(pose):
        return renderer(vertices[None], albedo, weak(1, 48, 48, pose), light)

    truth = torch.tensor([[0.05, -0.1, 0.08, 0.03, 0.02, -0.03]], dtype=torch.float64)
    target = picture(truth)
    pose = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([pose], lr=0.01)
    for _ in range(80):
        optimizer.zero_grad()
        rendering = picture(pose)
        both = (rendering.alpha * target.alpha)[:, None]
        ((rendering.image - target.image).square() * both).mean().backward()
        optimizer.step()
    assert (pose - truth).abs().max() < 0.1 * truth.abs().max()


def test_phong_by_hand():
    """One point, normal and eye along +z, a light 60 degrees off: C = Ka Kd + I (Kd / 2 + Ks 0.5^m)."""
    positions = torch.zeros(1, 1, 3, dtype=torch.float64)
    up = torch.tensor([[[0.0, 0.0, 1.0]]], dtype=torch.float64)
    albedo = torch.tensor([[[0.5, 0.25, 1.0]]], dtype=torch.float64)
    direction = torch.tensor([math.sin(math.pi / 3), 0.0, math.cos(math.pi / 3)], dtype=torch.float64)
    lights = PhongLights(
        2000.0 * torch.stack([direction, torch.tensor([0.0, 0.0, -1.0])])[None],  # the second one is behind the surface
        torch.tensor([[[1.0, 2.0, 3.0], [9.0, 9.0, 9.0]]], dtype=torch.float64),
        torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64),
        gloss=0.4,
        shininess=2.0,
    )
    expected = [0.1 * 0.5 + 1 * (0.25 + 0.2 * 0.25), 0.2 * 0.25 + 2 * (0.125 + 0.3 * 0.25), 0.3 * 1 + 3 * 0.5]
    assert phong_shading(positions, up, albedo, up, lights)[0, 0].tolist() == pytest.approx(expected)


def test_phong_where_light_grazes_and_where_there_is_no_normal():
    """The slope at n.l = 0 is 0; a surface whose two sides cancel in the normals is black, not ambient."""
    up = torch.tensor([[[0.0, 0.0, 1.0]]], dtype=torch.float64, requires_grad=True)
    zero, one = torch.zeros(1, 1, 3, dtype=torch.float64), torch.ones(1, 1, 3, dtype=torch.float64)
    lights = PhongLights(torch.tensor([[[2000.0, 0.0, 0.0]]], dtype=torch.float64), one, 0.3 * one[:, 0], gloss=0.0)
    phong_shading(zero, up, one, torch.tensor([[[0.0, 0.0, 1.0]]], dtype=torch.float64), lights).sum().backward()
    assert not up.grad.any()
    vertices, triangles = quad(0.0)
    both = torch.cat([triangles, triangles.flip(1)])
    camera = weak()
    drawn = Renderer(both, 64, 64)(vertices[None], torch.ones_like(vertices)[None], camera, lights=lights)
    assert bool(drawn.alpha.any()) and not drawn.image.any()


def test_phong_highlight_is_where_the_light_mirrors():
    vertices, triangles = sphere()
    camera = PerspectiveCamera.from_pose(*(torch.zeros(1, 3, dtype=torch.float64),) * 2, 96, 96, focal=400.0)
    lights = PhongLights(
        torch.tensor([[[3000.0, 0.0, 2000.0 - 1000.0]]], dtype=torch.float64),  # to the right, in camera axes
        torch.full((1, 1, 3), 0.5, dtype=torch.float64),
        torch.zeros(1, 3, dtype=torch.float64),
        gloss=1.0,
        shininess=60.0,
    )
    black = torch.zeros(1, len(vertices), 3, dtype=torch.float64)
    rendering = Renderer(triangles, 96, 96)(vertices[None], black, camera, lights=lights)
    assert rendering.shading is None
    row, column = divmod(int(rendering.image[0, 0].argmax()), 96)
    # the mirroring normal halves the angle between eye (+z) and light (about 56 degrees to the right)
    angle = math.atan2(3000.0, 2000.0) / 2
    radius = 400.0 * RADIUS / 1000.0
    assert row == pytest.approx(48, abs=2) and column == pytest.approx(48 + radius * math.sin(angle), abs=3)
    assert float(rendering.image.max()) == pytest.approx(0.5, abs=0.02)


def test_sh_helpers(generator):
    code = torch.randn(2, 27, generator=generator)
    light = sh_from_prediction(code)
    torch.testing.assert_close(light[:, 0], code[:, :3] + 0.8)
    torch.testing.assert_close(light[:, 1:].reshape(2, -1), code[:, 3:])
    torch.testing.assert_close(sh_to_prediction(light), code)
    torch.testing.assert_close(sh_from_prediction(code.view(2, 9, 3)), light)
    white = sh_from_prediction(code[:, :9])
    assert white.shape == (2, 9, 3) and torch.equal(white[..., 0], white[..., 2])
    torch.testing.assert_close(sh_from_channel_major(light.transpose(1, 2).reshape(2, 27)), light)
    lambertian = sh_from_lambertian(torch.ones(1, 9, 3))[0, :, 0]
    torch.testing.assert_close(lambertian, torch.tensor([1.0] + [0.577350] * 3 + [0.353553] * 5), rtol=1e-5, atol=0)
    # METHODS 1.5: our basis times these factors gives the true Lambertian products
    ours = torch.tensor([0.886227, 1.772454, 2.427032, 0.700624, 1.213516])
    factors = lambertian[[0, 1, 4, 4, 4]]
    expected = torch.tensor([0.886227, 1.023327, 0.858086, 0.247708, 0.429043])
    torch.testing.assert_close(ours * factors, expected, rtol=2e-6, atol=0)


def test_autocast_and_dtypes(generator):
    vertices, triangles = sphere(8)
    renderer = Renderer(triangles, 24, 24)
    albedo = torch.rand(1, len(vertices), 3, generator=generator)
    inputs = (vertices[None].float(), albedo, weak(1, 24, 24).to(dtype=torch.float32), white_light().float())
    expected = renderer(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(renderer(*inputs).image, expected.image)
    assert expected.image.dtype == expected.alpha.dtype == torch.float32
    assert expected.image.is_contiguous(memory_format=torch.channels_last)
    assert not list(renderer.state_dict())


def test_batches_are_independent(generator):
    vertices, triangles = sphere(8)
    renderer = Renderer(triangles, 24, 24)
    pose = torch.randn(3, 6, generator=generator, dtype=torch.float64) * 0.2
    light = torch.rand(3, 9, 3, generator=generator, dtype=torch.float64)
    albedo = torch.rand(3, len(vertices), 3, generator=generator, dtype=torch.float64)
    together = renderer(vertices.expand(3, -1, -1), albedo, weak(3, 24, 24, pose), light).image
    alone = renderer(vertices[None], albedo[1:2], weak(1, 24, 24, pose[1:2]), light[1:2]).image
    torch.testing.assert_close(together[1:2], alone)
    empty = renderer(vertices[None][:0], albedo[:0], weak(0, 24, 24, pose[:0]), light[:0])
    assert empty.image.shape == (0, 3, 24, 24)


def test_bad_inputs():
    vertices, triangles = quad(0.0)
    vertices, albedo, light = vertices[None], torch.ones(1, 4, 3, dtype=torch.float64), white_light()
    renderer = Renderer(triangles, 8, 8)
    with pytest.raises(ValueError, match=r"albedo must have shape \[1, 4, 3\], got \[1, 5, 3\]"):
        renderer(vertices, torch.ones(1, 5, 3, dtype=torch.float64), weak(1, 8, 8), light)
    with pytest.raises(ValueError, match="camera must hold 1 cameras of 8 x 8 pixels, got 1 of 8 x 9"):
        renderer(vertices, albedo, weak(1, 8, 9), light)
    with pytest.raises(ValueError, match="exactly one of sh_coefficients and lights"):
        renderer(vertices, albedo, weak(1, 8, 8))
    with pytest.raises(ValueError, match=r"background must have shape \[1, 3, 8, 8\]"):
        renderer(vertices, albedo, weak(1, 8, 8), light, torch.zeros(1, 3, 8, 9, dtype=torch.float64))
    with pytest.raises(ValueError, match="sh_coefficients must have shape"):
        renderer(vertices, albedo, weak(1, 8, 8), light.view(1, 27))
    with pytest.raises(ValueError, match="triangles must have dtype int32"):
        Renderer(triangles.long(), 8, 8)
    with pytest.raises(ValueError, match="height and width"):
        Renderer(triangles, 8, 0)
    with pytest.raises(ValueError, match=r"code .* must have shape \[N, 9, 3\]"):
        sh_from_prediction(torch.zeros(2, 28))
    with pytest.raises(ValueError, match="gloss must be in"):
        PhongLights(torch.zeros(1, 1, 3), torch.zeros(1, 1, 3), torch.zeros(1, 3), gloss=1.5)
    with pytest.raises(ValueError, match="intensity must have shape"):
        PhongLights(torch.zeros(1, 2, 3), torch.zeros(1, 1, 3), torch.zeros(1, 3))
