"""Rotations and cameras: hand-computed numbers, signs, round trips, agreement of all forms of one projection."""

from __future__ import annotations

import math

import pytest
import torch

from facecore.render import (
    PerspectiveCamera,
    WeakPerspectiveCamera,
    euler_to_matrix,
    matrix_from_300wlp,
    matrix_to_euler,
    ndc_to_pixel,
    pixel_to_ndc,
)

HEIGHT, WIDTH = 96, 112


def elementary(axis: int, angle: float) -> torch.Tensor:
    """Rx, Ry or Rz of METHODS 1.2, written out independently."""
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor(
        [
            [[1, 0, 0], [0, c, -s], [0, s, c]],
            [[c, 0, s], [0, 1, 0], [-s, 0, c]],
            [[c, -s, 0], [s, c, 0], [0, 0, 1]],
        ][axis],
        dtype=torch.float64,
    )


def random_angles(generator: torch.Generator, count: int = 200) -> torch.Tensor:
    limits = torch.tensor([3.1, 1.5, 3.1], dtype=torch.float64)
    return (torch.rand(count, 3, generator=generator, dtype=torch.float64) * 2 - 1) * limits


def random_points(generator: torch.Generator, images: int, count: int = 50) -> torch.Tensor:
    return torch.randn(images, count, 3, generator=generator, dtype=torch.float64) * 80.0


def random_cameras(generator: torch.Generator) -> list[WeakPerspectiveCamera | PerspectiveCamera]:
    pose = torch.randn(4, 6, generator=generator, dtype=torch.float64) * 0.3
    shift = torch.randn(4, 3, generator=generator, dtype=torch.float64) * 30.0
    eye = torch.randn(4, 3, generator=generator, dtype=torch.float64) * 50.0 + torch.tensor([0.0, 0.0, 1000.0])
    up = torch.tensor([0.1, 1.0, 0.0], dtype=torch.float64).expand(4, 3)
    fov = torch.full((4,), 0.22, dtype=torch.float64)
    return [
        WeakPerspectiveCamera.from_pose(pose, HEIGHT, WIDTH),
        PerspectiveCamera.from_pose(pose[:, :3], shift, HEIGHT, WIDTH, focal=500.0),
        PerspectiveCamera.look_at(eye, shift, up, fov, HEIGHT, WIDTH),
    ]


def test_euler_matrix_is_roll_times_yaw_times_pitch(generator):
    for p, y, r in random_angles(generator, 20).tolist():
        expected = elementary(2, r) @ elementary(1, y) @ elementary(0, p)
        torch.testing.assert_close(euler_to_matrix(torch.tensor([[p, y, r]], dtype=torch.float64))[0], expected)


def test_300wlp_rotation_is_the_transpose(generator):
    for p, y, r in random_angles(generator, 20).tolist():
        expected = elementary(0, -p) @ elementary(1, -y) @ elementary(2, -r)
        torch.testing.assert_close(matrix_from_300wlp(torch.tensor([[p, y, r]], dtype=torch.float64))[0], expected)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_euler_round_trip(generator, dtype, tolerance):
    angles = random_angles(generator).to(dtype)
    # near 90 degrees of yaw the angles themselves lose 1 / cos(yaw) = 14 times the precision
    torch.testing.assert_close(matrix_to_euler(euler_to_matrix(angles)), angles, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-7), (torch.float32, 1e-3)])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("distance", [0.0, 1e-9, 1e-4, 1e-3])
def test_euler_near_gimbal_lock_keeps_the_rotation(dtype, tolerance, sign, distance):
    angles = torch.tensor([[0.7, sign * (math.pi / 2 - distance), -0.4]], dtype=dtype, requires_grad=True)
    matrix = euler_to_matrix(angles)
    back = matrix_to_euler(matrix)
    # within sqrt(eps) of the pole roll is set to 0, which turns the matrix by at most that much
    torch.testing.assert_close(euler_to_matrix(back), matrix, rtol=0, atol=tolerance)
    (grad,) = torch.autograd.grad(back.sum(), angles)
    assert torch.isfinite(grad).all()
    if distance == 0.0:
        assert back[0, 2] == 0


def test_rotation_gradients(generator):
    angles = (random_angles(generator, 3) * 0.4).requires_grad_()
    assert torch.autograd.gradcheck(euler_to_matrix, angles)
    assert torch.autograd.gradgradcheck(euler_to_matrix, angles)
    matrices = euler_to_matrix(angles).detach().requires_grad_()
    assert torch.autograd.gradcheck(matrix_to_euler, matrices)
    assert torch.autograd.gradgradcheck(matrix_to_euler, matrices)


def pixel_of(point: list[float], pose: list[float], height: int = 224, width: int = 224) -> list[float]:
    camera = WeakPerspectiveCamera.from_pose(torch.tensor([pose], dtype=torch.float64), height, width)
    return camera.project(torch.tensor([[point]], dtype=torch.float64))[0, 0].tolist()


def test_weak_perspective_by_hand():
    # q = 0.8 * (30, 50) / 100 = (0.24, 0.4); half of the 200-pixel height is m/2 = 100
    assert pixel_of([30.0, 50.0, 70.0], [0.0] * 6, 200, 300) == pytest.approx([150 + 24, 100 - 40])
    # twice the scale, then the offset (0.1, -0.2) in NDC
    pose = [0.0, 0.0, 0.0, math.log(2.0), 0.1, -0.2]
    assert pixel_of([30.0, 50.0, 70.0], pose, 200, 300) == pytest.approx([150 + 58, 100 - 60])
    # roll by 90 degrees sends +x up
    assert pixel_of([50.0, 0.0, 0.0], [0, 0, math.pi / 2, 0, 0, 0], 200, 300) == pytest.approx([150, 60])


def test_pose_signs():
    nose, crown = [0.0, 0.0, 60.0], [0.0, 90.0, 0.0]
    assert pixel_of(nose, [0.3, 0, 0, 0, 0, 0])[1] > 112 + 5  # pitch > 0 looks down: the nose tip moves down
    assert pixel_of(nose, [0, 0.3, 0, 0, 0, 0])[0] > 112 + 5  # yaw > 0: the nose tip moves to image right
    assert pixel_of(crown, [0, 0, 0.3, 0, 0, 0])[0] < 112 - 5  # roll > 0: the crown moves to image left
    assert pixel_of([50.0, 0, 0], [0.0] * 6)[0] > 112  # the subject's left is image right
    assert pixel_of([0, 50.0, 0], [0.0] * 6)[1] < 112  # up is up


def test_perspective_by_hand():
    angles, shift = torch.zeros(1, 3, dtype=torch.float64), torch.tensor([[10.0, -20.0, 0.0]], dtype=torch.float64)
    camera = PerspectiveCamera.from_pose(angles, shift)
    # METHODS 1.3 (S2): depth 1000 - 50 = 950 mm; u = 112 + 1015 * 40 / 950, v = 112 - 1015 * (40 - 20) / 950
    pixel = camera.project(torch.tensor([[[30.0, 40.0, 50.0]]], dtype=torch.float64))[0, 0]
    assert pixel.tolist() == pytest.approx([112 + 1015 * 40 / 950, 112 - 1015 * 20 / 950])
    assert math.degrees(2 * math.atan(112 / 1015)) == pytest.approx(12.59, abs=0.005)


def test_look_at_is_the_gl_matrix_product(generator):
    """clip = P V x with P of METHODS 1.3 (S4), against to_clip up to the common factor of the units."""
    camera = random_cameras(generator)[2]
    points = random_points(generator, 4)
    g, aspect, near, far = 1 / math.tan(0.11), WIDTH / HEIGHT, camera.near, camera.far
    projection = torch.zeros(4, 4, dtype=torch.float64)
    projection[0, 0], projection[1, 1], projection[3, 2] = g / aspect, g, -1.0
    projection[2, 2], projection[2, 3] = -(far + near) / (far - near), -2 * far * near / (far - near)
    homogeneous = torch.cat([camera.to_camera(points), torch.ones(4, 50, 1, dtype=torch.float64)], 2)
    torch.testing.assert_close(camera.to_clip(points) * 100.0, homogeneous @ projection.T)


def test_look_at_sees_its_center_in_the_middle_and_up_upwards(generator):
    camera = random_cameras(generator)[2]
    eye = -torch.matmul(camera.rotation.transpose(1, 2), camera.translation[:, :, None]).transpose(1, 2)
    forward = -camera.rotation[:, 2:]
    torch.testing.assert_close(
        camera.project(eye + 800.0 * forward),
        torch.tensor([WIDTH / 2.0, HEIGHT / 2.0], dtype=torch.float64).expand(4, 1, 2),
    )
    up = eye + 800.0 * forward + torch.tensor([0.1, 1.0, 0.0], dtype=torch.float64) * 10.0
    above = camera.project(up)
    assert (above[..., 1] < HEIGHT / 2).all()
    torch.testing.assert_close(above[..., 0], torch.full((4, 1), WIDTH / 2.0, dtype=torch.float64))


def test_look_at_equals_the_pose_form():
    """An eye 1 m in front, looking at the origin: both perspective forms are the same camera."""
    eye, zero, up = (torch.tensor([v], dtype=torch.float64) for v in ([0.0, 0.0, 1000.0], [0.0] * 3, [0.0, 1.0, 0.0]))
    fov = torch.tensor([2 * math.atan(112 / 1015)], dtype=torch.float64)
    one, two = PerspectiveCamera.look_at(eye, zero, up, fov, 224, 224), PerspectiveCamera.from_pose(zero, zero)
    torch.testing.assert_close(one.matrix(), two.matrix())


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["weak", "pose", "look_at"])
def test_all_forms_of_the_projection_agree(generator, kind):
    camera = random_cameras(generator)[kind]
    points = random_points(generator, 4)
    pixels, clip = camera.project(points), camera.to_clip(points)
    x, y = clip[..., 0] / clip[..., 3], clip[..., 1] / clip[..., 3]
    rasterized = torch.stack([(x + 1) * WIDTH / 2, (1 - y) * HEIGHT / 2], -1)  # pixel centres of METHODS 1.8
    torch.testing.assert_close(rasterized, pixels)
    torch.testing.assert_close(pixel_to_ndc(pixels, HEIGHT, WIDTH), camera.ndc(points))
    torch.testing.assert_close(ndc_to_pixel(camera.ndc(points), HEIGHT, WIDTH), pixels)
    homogeneous = torch.cat([points, torch.ones(4, 50, 1, dtype=torch.float64)], 2)
    u, v, depth = (homogeneous @ camera.matrix().transpose(1, 2)).unbind(-1)
    torch.testing.assert_close(depth, -camera.to_camera(points)[..., 2])
    divisor = torch.ones_like(depth) if kind == 0 else depth
    torch.testing.assert_close(torch.stack([u / divisor, v / divisor], -1), pixels)


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["weak", "pose", "look_at"])
def test_nearer_points_have_smaller_clip_depth(generator, kind):
    camera = random_cameras(generator)[kind]
    points = random_points(generator, 4)
    clip = camera.to_clip(points)
    z_ndc, depth = clip[..., 2] / clip[..., 3], -camera.to_camera(points)[..., 2]
    assert (z_ndc.abs() <= 1).all()
    assert torch.equal(z_ndc.argsort(1), depth.argsort(1))
    toward_eye = camera.view_direction(camera.to_camera(points))
    assert (toward_eye[..., 2] > 0).all()


def test_perspective_planes_map_to_minus_one_and_one():
    zero = torch.zeros(1, 3, dtype=torch.float64)
    camera = PerspectiveCamera.from_pose(zero, zero, near=400.0, far=1700.0)
    clip = camera.to_clip(torch.tensor([[[0.0, 0.0, 600.0], [0.0, 0.0, -700.0]]], dtype=torch.float64))
    assert (clip[0, :, 2] / clip[0, :, 3]).tolist() == pytest.approx([-1.0, 1.0])


def test_weak_perspective_is_the_limit_of_perspective(generator):
    """Far away with a matching focal length the two cameras agree; the difference falls as 1/distance."""
    pose = torch.randn(2, 6, generator=generator, dtype=torch.float64) * 0.3
    pose[:, 3] = 0.0  # scale 0.8
    points, zero = random_points(generator, 2), torch.zeros(2, 1, dtype=torch.float64)
    weak = WeakPerspectiveCamera.from_pose(pose, 224, 224)
    errors = []
    for distance in (1e5, 1e6):
        shift = torch.cat([pose[:, 4:] / 0.8 * 100.0, zero], 1)
        focal = 0.8 * 112 / 100.0 * distance
        strong = PerspectiveCamera.from_pose(pose[:, :3], shift, focal=focal, distance=distance, far=2 * distance)
        errors.append(float((strong.project(points) - weak.project(points)).abs().max()))
    assert errors[1] < 0.11 * errors[0] < 0.11


def test_pose_round_trip(generator):
    pose = torch.randn(20, 6, generator=generator, dtype=torch.float64) * 0.4
    torch.testing.assert_close(WeakPerspectiveCamera.from_pose(pose, HEIGHT, WIDTH).pose(), pose)


def test_from_300wlp_is_the_formula(generator):
    """x = f R s + t in micrometres, 1-based, y up; u = x - 0.5, v = H + 0.5 - y; METHODS 1.2."""
    para = torch.cat(
        [
            torch.randn(3, 3, generator=generator, dtype=torch.float64) * 0.3,
            torch.rand(3, 3, generator=generator, dtype=torch.float64) * 200.0,
            torch.rand(3, 1, generator=generator, dtype=torch.float64) * 1e-3 + 5e-4,
        ],
        1,
    )
    centroid_um = torch.tensor([1000.0, -7000.0, 50000.0], dtype=torch.float64)
    points_mm = random_points(generator, 3)
    theirs = (points_mm * 1000.0 + centroid_um) @ matrix_from_300wlp(para[:, :3]).transpose(1, 2)
    x, y, _ = (para[:, None, 6:] * theirs + para[:, None, 3:6]).unbind(-1)
    expected = torch.stack([x - 0.5, 450 + 0.5 - y], -1)
    camera = WeakPerspectiveCamera.from_300wlp(para, 450, 400, centroid_um)
    torch.testing.assert_close(camera.project(points_mm), expected)
    rebuilt = WeakPerspectiveCamera.from_pose(camera.pose(), 450, 400)
    torch.testing.assert_close(rebuilt.project(points_mm), expected)


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["weak", "pose", "look_at"])
def test_camera_gradients(generator, kind):
    points = random_points(generator, 4, 2)
    camera = random_cameras(generator)[kind]
    camera = camera.to(dtype=torch.float64)
    names = {0: ("rotation", "scale", "translation")}.get(kind, ("rotation", "focal", "translation"))
    tensors = [getattr(camera, name).clone().requires_grad_() for name in names]

    def outputs(points, *tensors):
        moved = type(camera)(*tensors, HEIGHT, WIDTH)
        return moved.project(points), moved.to_clip(points)

    assert torch.autograd.gradcheck(outputs, (points.requires_grad_(), *tensors))


def test_autocast_does_not_lower_the_precision(generator):
    camera = random_cameras(generator)[0].to(dtype=torch.float32)
    points = random_points(generator, 4).float()
    expected = camera.project(points)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = camera.project(points)
        assert camera.to_clip(points).dtype == torch.float32
    assert torch.equal(got, expected)
    eye, zero, up = torch.tensor([[100.0, 200.0, 900.0]]), torch.zeros(1, 3), torch.tensor([[0.0, 1.0, 0.0]])
    rows = torch.tensor([[0.1, -0.3, 0.05, 112.0, 96.0, 0.0, 1e-3]])
    centroid = torch.tensor([1000.0, -20000.0, 40000.0])
    make = (
        lambda: PerspectiveCamera.look_at(eye, zero, up, torch.tensor([0.2]), 64, 64).translation,
        lambda: WeakPerspectiveCamera.from_300wlp(rows, 224, 224, centroid).translation,
    )
    for translation in make:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            lowered = translation()
        assert torch.equal(lowered, translation())


def test_indexing_and_batches(generator):
    for camera in random_cameras(generator):
        points = random_points(generator, 4)
        part = camera[torch.tensor([2, 0])]
        assert len(part) == 2 and len(camera[1:]) == 3
        torch.testing.assert_close(part.project(points[[2, 0]]), camera.project(points)[[2, 0]])
        assert camera[:0].project(points[:0]).shape == (0, 50, 2)
        assert camera[:0].to_clip(points[:0]).shape == (0, 50, 4)
        with pytest.raises(ValueError, match="stays a batch"):
            camera[0]


def test_detach_stops_gradients(generator):
    pose = torch.zeros(1, 6, requires_grad=True)
    camera = WeakPerspectiveCamera.from_pose(pose, 8, 8)
    assert camera.project(torch.ones(1, 1, 3)).requires_grad
    assert not camera.detach().project(torch.ones(1, 1, 3)).requires_grad


def test_bad_inputs():
    pose = torch.zeros(2, 6)
    with pytest.raises(ValueError, match=r"pose must have shape \[N, 6\], got \[2, 7\]"):
        WeakPerspectiveCamera.from_pose(torch.zeros(2, 7), 8, 8)
    with pytest.raises(ValueError, match="height and width must be at least 1"):
        WeakPerspectiveCamera.from_pose(pose, 0, 8)
    camera = WeakPerspectiveCamera.from_pose(pose, 8, 8)
    with pytest.raises(ValueError, match=r"must have shape \[2, V, 3\], got \[3, 5, 3\]"):
        camera.project(torch.zeros(3, 5, 3))
    with pytest.raises(ValueError, match="dtype"):
        camera.project(torch.zeros(2, 5, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"angles must have shape \[N, 3\]"):
        euler_to_matrix(torch.zeros(3))
    with pytest.raises(ValueError, match=r"rotation must have shape \[N, 3, 3\]"):
        matrix_to_euler(torch.zeros(3, 3))
    with pytest.raises(ValueError, match="near and far"):
        PerspectiveCamera.from_pose(torch.zeros(1, 3), torch.zeros(1, 3), near=10.0, far=5.0)
    eye, up = torch.tensor([[0.0, 0.0, 5.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    with pytest.raises(ValueError, match="parallel to the view"):
        PerspectiveCamera.look_at(eye, torch.zeros(1, 3), eye, torch.ones(1), 8, 8)
    with pytest.raises(ValueError, match="eye must differ from center"):
        PerspectiveCamera.look_at(eye, eye, up, torch.ones(1), 8, 8)


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["weak", "pose", "look_at"])
def test_clip_matrix_is_to_clip(generator, kind):
    camera = random_cameras(generator)[kind]
    points = random_points(generator, 4)
    homogeneous = torch.cat([points, torch.ones(4, 50, 1, dtype=torch.float64)], 2)
    torch.testing.assert_close(camera.to_clip(points), homogeneous @ camera.clip_matrix().transpose(1, 2))
    if kind == 0:
        assert (camera.to_clip(points)[..., 3] == 1).all()


def test_transform_is_the_same_product_on_both_devices(generator, device):
    """CUDA multiplies elementwise to keep TF32 out; the result is that of the matrix product."""
    camera = random_cameras(generator)[1]
    points = random_points(generator, 4)
    expected = torch.einsum("nij,npj->npi", camera.rotation, points)
    got = camera.to(device=device).rotate(points.to(device))
    torch.testing.assert_close(got.cpu(), expected)
