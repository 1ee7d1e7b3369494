"""facecore.render.fit_weak_perspective."""

from __future__ import annotations

import math

import pytest
import torch

from facecore import morphable
from facecore.perception.alignment import five_points
from facecore.render import WeakPerspectiveCamera, fit_weak_perspective
from facecore.render.pose_fit import _nearest_rotation


def faces(n: int, points: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shape = 60 * torch.randn(n, points, 3, generator=generator, dtype=torch.float64)
    pose = 0.4 * (2 * torch.rand(n, 6, generator=generator, dtype=torch.float64) - 1)
    return shape.to(device), pose.to(device)


def test_recovers_exact_poses(device):
    shape, pose = faces(5, 20, device)
    ndc = WeakPerspectiveCamera.from_pose(pose, 100, 100).ndc(shape)
    # exact correspondences: only rounding and the tiny ridge remain
    torch.testing.assert_close(fit_weak_perspective(shape, ndc), pose, rtol=0, atol=1e-6)


def test_points_of_weight_zero_take_no_part(device):
    shape, pose = faces(3, 20, device)
    ndc = WeakPerspectiveCamera.from_pose(pose, 100, 100).ndc(shape)
    ndc[:, 10:] = 77.0
    weight = torch.zeros(3, 20, dtype=torch.float64, device=device)
    weight[:, :10] = 1
    torch.testing.assert_close(fit_weak_perspective(shape, ndc, weight), pose, rtol=0, atol=1e-6)
    ndc[:, 12:], shape[:, 15:] = math.nan, math.inf
    torch.testing.assert_close(fit_weak_perspective(shape, ndc, weight), pose, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="weight must not be negative"):
        fit_weak_perspective(shape, ndc, weight - 0.5)


def test_few_points_give_a_frontal_pose(device):
    shape, pose = faces(2, 4, device)
    pose[:, :2] = 0
    ndc = WeakPerspectiveCamera.from_pose(pose, 100, 100).ndc(shape)
    torch.testing.assert_close(fit_weak_perspective(shape, ndc), pose, rtol=0, atol=1e-6)


def test_five_points_tell_how_a_face_is_turned(device):
    """Eyes, nose and mouth corners of the mean face, seen on other faces turned by up to 45 degrees, with noise of
    1.5 % of their box: 4.5 degrees off in the mean. A face taken for frontal is off by its turn, 34."""
    model, generator = morphable.load("procedural"), torch.Generator().manual_seed(3)
    codes = torch.randn(100, model.num_identity, generator=generator)
    shape = model.shape(codes).double()
    seen, mean = five_points(shape[:, model.landmarks68]), five_points(model.mean_shape()[model.landmarks68]).double()
    turns = math.pi / 4 * (2 * torch.rand(100, 2, generator=generator, dtype=torch.float64) - 1)
    pose = torch.cat([turns, torch.zeros(100, 4, dtype=torch.float64)], 1)
    ndc = WeakPerspectiveCamera.from_pose(pose, 100, 100).ndc(seen)
    box = (ndc.amax(1) - ndc.amin(1)).mean(1)[:, None, None]
    ndc = ndc + 0.015 * box * torch.randn(ndc.shape, generator=generator, dtype=torch.float64)
    found = fit_weak_perspective(mean.expand(100, -1, -1).to(device), ndc.to(device))
    angle = _angle(found.cpu(), pose)
    assert angle.mean() < 8 < 20 < _angle(torch.zeros_like(pose), pose).mean()


def _angle(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Degrees between the turns of two pose codes [N, 6]."""
    a, b = (WeakPerspectiveCamera.from_pose(pose, 100, 100).rotation for pose in (first, second))
    trace = (a * b).sum((1, 2))
    return torch.rad2deg(((trace - 1) / 2).clamp(-1, 1).acos())


def test_in_plane_turn_by_hand(device):
    """A square turned by 90 degrees counter-clockwise: roll +90 degrees."""
    shape = torch.tensor([[[100.0, 0, 0], [0, 100, 0], [-100, 0, 0], [0, -100, 0]]])
    ndc = torch.tensor([[[0.0, 0.8], [-0.8, 0], [0, -0.8], [0.8, 0]]])
    expected = torch.tensor([[0, 0, math.pi / 2, 0, 0, 0]], device=device)
    torch.testing.assert_close(fit_weak_perspective(shape.to(device), ndc.to(device)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("seen", [[0.0, 0.0], [1.0, 1.0], [1.0, -1.0], [0.0, 2.0]])
def test_points_on_a_line_still_give_a_rotation(seen, device):
    """Nothing tells the turn about the line, or where all are seen at one place any turn: one is chosen."""
    line = torch.linspace(-1, 1, 10, dtype=torch.float64, device=device)[None, :, None]
    shape = line * torch.tensor([50.0, 20.0, 30.0], dtype=torch.float64, device=device)
    pose = fit_weak_perspective(shape, line * torch.tensor(seen, dtype=torch.float64, device=device))
    assert torch.isfinite(pose).all()
    rotation = WeakPerspectiveCamera.from_pose(pose, 100, 100).rotation[0]
    # built from unit vectors: rounding alone
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3).to(rotation), rtol=0, atol=1e-12)


def test_nearest_rotation_is_that_of_the_singular_value_decomposition(device):
    generator = torch.Generator().manual_seed(2)
    rows = torch.nn.functional.normalize(torch.randn(50, 2, 3, generator=generator, dtype=torch.float64), dim=2)
    rows = rows.to(device)
    matrix = torch.cat([rows, torch.linalg.cross(rows[:, 0], rows[:, 1])[:, None]], 1)
    u, _, vt = torch.linalg.svd(matrix)  # its determinant is positive: both are turns
    torch.testing.assert_close(_nearest_rotation(rows), u @ vt, rtol=0, atol=1e-9)


def test_rejects_too_few_points():
    with pytest.raises(ValueError, match="at least two points"):
        fit_weak_perspective(torch.zeros(1, 5, 3), torch.zeros(1, 5, 2), torch.tensor([[1.0, 0, 0, 0, 0]]))
