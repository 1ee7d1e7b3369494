"""The inside of the mouth: from the right place of the other picture, and nothing changes outside of the lips."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from faces import SIZE, make_face

from facecore.data import FaceCrop
from facecore.evaluation.transfer_page import Seen
from facecore.render import WeakPerspectiveCamera
from facecore.systems.mouth import ENLARGED, INNER_LIPS, paste_mouth, points_in_picture

CROP = FaceCrop((120.0, 90.0), 100.0, SIZE, SIZE)
SHAPE = (3, 180, 240)


def lips(opening: float, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0), roll: float = 0.0):
    """A face whose 20 points of the lips lie on two ellipses, the inner one `opening` mm high."""
    face = make_face()
    vertices = face.vertices.clone()
    for first, count, half_width, half_height in ((48, 12, 25.0, 8.0 + opening / 2), (60, 8, 20.0, opening / 2)):
        turn = torch.arange(count) * (2 * math.pi / count)
        ring = torch.stack((-half_width * turn.cos(), half_height * turn.sin(), torch.full_like(turn, 75.0)), 1)
        vertices[0, face.landmarks68[first : first + count]] = ring
    pose = torch.tensor([[0.0, 0.0, roll, math.log(scale), *shift]])
    return dataclasses.replace(
        face, vertices=vertices, pose=pose, camera=WeakPerspectiveCamera.from_pose(pose, SIZE, SIZE)
    )


def ramp(slope: tuple[float, float, float] = (1.0, 0.5, 0.2)) -> torch.Tensor:
    """A picture that bilinear filters of any width keep: linear in u and v."""
    v, u = torch.meshgrid(torch.arange(180) + 0.5, torch.arange(240) + 0.5, indexing="ij")
    plane = (u + v) / 420
    return torch.stack([plane * s for s in slope])


def inside(face, scale: float) -> torch.Tensor:
    """Pixels of the picture whose centre lies in the ellipse of the inner lips times `scale`, bool [H, W]."""
    points = points_in_picture(face, CROP)[INNER_LIPS]
    centre, half = points.mean(0), (points.amax(0) - points.amin(0)) / 2 * scale
    v, u = torch.meshgrid(torch.arange(180) + 0.5, torch.arange(240) + 0.5, indexing="ij")
    return ((u - centre[0]) / half[0]).square() + ((v - centre[1]) / half[1]).square() < 1


def test_only_the_inner_lips_change():
    below, driver = Seen(ramp(), CROP, lips(1.0)), Seen(torch.zeros(SHAPE), CROP, lips(12.0))
    opened = lips(12.0)
    result = paste_mouth(below, opened, driver)
    assert torch.equal(below.image, ramp()), "the picture itself is left alone"
    changed = (result != below.image).any(0)
    assert bool((result[:, inside(opened, 0.9)] == 0).all()), "the driver's pixels"
    assert not bool((changed & ~inside(opened, ENLARGED + 0.2)).any())


def test_a_mouth_of_the_same_place_is_the_same_picture():
    below = Seen(ramp(), CROP, lips(12.0))
    # bilinear sampling of a plane is exact to float32
    torch.testing.assert_close(paste_mouth(below, below.face, below), below.image, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [0.5, 1.6], ids=["enlarged", "made smaller"])
def test_pixels_follow_the_lips(scale):
    """The driver's mouth is elsewhere, of another size and rolled: each pixel comes from the matching place."""
    own, other = lips(12.0), lips(12.0, scale, (0.2, -0.1), roll=0.3)
    driver = Seen(ramp(), CROP, other)
    result = paste_mouth(Seen(torch.full(SHAPE, 9.0), CROP, own), own, driver)
    first, second = points_in_picture(own, CROP), points_in_picture(other, CROP)
    v, u = torch.nonzero(inside(own, 0.8), as_tuple=True)
    places = torch.stack([u + 0.5, v + 0.5], 1).double()
    # a similarity, from two pairs of points as complex numbers
    a, b = (torch.view_as_complex(points[[60, 64]].contiguous()) for points in (first, second))
    factor = (b[1] - b[0]) / (a[1] - a[0])
    expected = torch.view_as_real((torch.view_as_complex(places) - a[0]) * factor + b[0]).sum(1) / 420
    # where pixels are averaged, the few taps of the filter move its centre by up to a tenth of a pixel in u and in v
    atol = 1e-5 if scale < 1 else 0.2 / 420
    torch.testing.assert_close(result[0, v, u].double(), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("place", [(30.0, 0.0), (0.0, 30.0), (-30.0, -30.0)])
def test_a_mouth_outside_of_the_picture_changes_nothing(place):
    face = lips(12.0, shift=place)
    below = Seen(ramp(), CROP, face)
    assert torch.equal(paste_mouth(below, face, Seen(torch.zeros(SHAPE), CROP, lips(12.0))), below.image)


def test_at_the_border_and_from_beyond_the_border():
    """Half of the mouth lies outside of its picture; the driver's all of it: its border pixels go on."""
    face = lips(12.0, shift=(-2.4, 0.0))
    below, driver = Seen(ramp(), CROP, face), Seen(torch.full(SHAPE, 0.25), CROP, lips(12.0, shift=(9.0, 9.0)))
    result = paste_mouth(below, face, driver)
    changed = (result != below.image).any(0)
    assert bool(changed.any()) and bool(torch.isfinite(result).all())
    torch.testing.assert_close(result[:, inside(face, 0.8)].unique(), torch.tensor([0.25]), rtol=0, atol=1e-5)
