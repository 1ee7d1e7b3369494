"""Random similarities of crops."""

from __future__ import annotations

import math

import pytest
import torch

from facecore.data import MIRROR_68, Augmentation, sample_generator
from facecore.data.augmentation import NO_AUGMENTATION, padded, warp_points
from facecore.render.affine import apply_affine, invert_affine, warp


def draws(settings: Augmentation, count: int = 400, height: int = 112, width: int = 96):
    return [settings.draw(sample_generator(0, i), height, width) for i in range(count)]


def test_draws_stay_in_their_ranges_and_fill_them():
    maps = draws(Augmentation())
    matrices = torch.stack([matrix for matrix, _ in maps])
    mirrored = torch.tensor([flag for _, flag in maps])
    determinant = torch.linalg.det(matrices[:, :, :2])
    scale = determinant.abs().sqrt()
    angle = torch.rad2deg(torch.atan2(matrices[:, 1, 0], matrices[:, 1, 1]))  # mirroring touches the first column
    angle = torch.where(mirrored, -angle, angle).abs()
    shift = apply_affine(matrices, torch.tensor([[48.0, 56.0]], dtype=torch.float64))[:, 0] - torch.tensor([48.0, 56.0])
    limit = 10 * 96 / 224
    for values, low, high in ((scale, 0.9, 1.1), (angle, 0.0, 10.0), (shift, -limit, limit)):
        assert low - 1e-9 <= values.min() and values.max() <= high + 1e-9
        # of 400 uniform numbers none in the outer 5 % of the range happens once in 10^9
        assert values.min() < low + 0.05 * (high - low) and values.max() > high - 0.05 * (high - low)
    assert torch.equal(determinant < 0, mirrored)
    assert abs(mirrored.double().mean() - 0.5) < 0.125  # five standard deviations


def test_no_augmentation_is_the_identity(generator):
    image = torch.rand(2, 3, 12, 10, generator=generator)
    matrix, mirrored = NO_AUGMENTATION.draw(generator, 12, 10)
    assert torch.equal(matrix, torch.eye(2, 3, dtype=torch.float64)) and not mirrored
    assert NO_AUGMENTATION.padding(12, 10) == 0
    torch.testing.assert_close(warp(image, matrix.expand(2, 2, 3), 12, 10), image, atol=1e-6, rtol=0)


@pytest.mark.parametrize("index", range(6))
def test_a_spot_and_its_point_move_together(index):
    """Centre of mass of a soft spot against the mapped point: the pixel-centre convention is exact."""
    height, width, padding = 90, 70, Augmentation().padding(90, 70)
    matrix, _ = Augmentation().draw(sample_generator(5, index), height, width)
    point = torch.tensor([[31.3, 47.9]], dtype=torch.float64)
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    v, u = (torch.nn.functional.pad(x[None, None], (padding,) * 4)[0, 0] for x in (v, u))
    rows = torch.arange(-padding, height + padding)[:, None] + 0.5
    columns = torch.arange(-padding, width + padding)[None] + 0.5
    spot = torch.exp(-((columns - point[0, 0]) ** 2 + (rows - point[0, 1]) ** 2) / (2 * 4.0**2)).double()
    moved = warp(spot[None, None], padded(matrix[None], padding), height, width)[0, 0]
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    found = torch.stack(((moved * u).sum(), (moved * v).sum())) / moved.sum()
    # interpolation at a turned grid moves the mass by little; half a pixel of convention would show 25 times over
    torch.testing.assert_close(found, apply_affine(matrix, point)[0], atol=0.02, rtol=0)


def test_mirroring_swaps_left_and_right_points(generator):
    points = torch.rand(68, 2, generator=generator, dtype=torch.float64) * 100
    flip = Augmentation(shift=0, scale=0, rotation_degrees=0, mirror=1)
    matrix, mirrored = flip.draw(generator, 112, 96)
    assert mirrored
    moved = warp_points(points, matrix, mirrored)
    torch.testing.assert_close(moved[:, 0], 96 - points[list(MIRROR_68), 0])
    torch.testing.assert_close(moved[:, 1], points[list(MIRROR_68), 1])
    assert torch.equal(moved[:5], warp_points(points, matrix, True)[:5])
    with pytest.raises(ValueError, match="to be mirrored"):
        warp_points(points[:7], matrix, True)


@pytest.mark.parametrize("size", [(112, 112), (112, 96), (64, 200)])
def test_padding_holds_every_augmented_crop_and_is_not_lavish(size):
    settings, (height, width) = Augmentation(), size
    padding = settings.padding(height, width)
    corners = torch.tensor([[0, 0], [width, 0], [0, height], [width, height]], dtype=torch.float64)
    reach = 0.0
    for matrix, _ in draws(settings, 2000, height, width):
        source = apply_affine(invert_affine(matrix), corners)
        low, high = source.amin(0), source.amax(0) - torch.tensor([width, height])
        reach = max(reach, float(-low.min()), float(high.max()))
    assert padding - math.ceil(0.35 * padding) < reach <= padding


def test_refuses_impossible_ranges():
    for bad in ({"scale": 1.0}, {"shift": -1.0}, {"mirror": 2.0}, {"rotation_degrees": 181.0}):
        with pytest.raises(ValueError, match="must"):
            Augmentation(**bad)
