"""The face crop and its map."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from facecore.data import FaceCrop, LandmarkSource, five_points
from facecore.data.crop import landmark_boxes
from facecore.render.affine import compose_affine


@pytest.fixture
def face(generator) -> torch.Tensor:
    points = torch.rand(68, 2, generator=generator, dtype=torch.float64)
    points[0], points[1] = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 1.0])  # the box is exactly the unit square
    return points


def test_box_is_centred_with_one_and_a_half_times_the_mean_extent(face):
    crop = FaceCrop.from_landmarks(face * torch.tensor([40.0, 60.0]) + torch.tensor([100.0, 200.0]), 112, 112)
    assert crop.centre == pytest.approx((120, 230)) and crop.side == pytest.approx(75)
    # the square's corners are the crop's corners
    corners = torch.tensor([[82.5, 192.5], [157.5, 267.5]], dtype=torch.float64)
    torch.testing.assert_close(crop.to_crop(corners), torch.tensor([[0.0, 0.0], [112.0, 112.0]], dtype=torch.float64))


def test_square_fills_the_short_side():
    crop = FaceCrop((50.0, 60.0), 48.0, 112, 96)
    assert crop.scale == 2
    torch.testing.assert_close(
        crop.to_crop(torch.tensor([[50.0, 60.0], [26.0, 36.0]])), torch.tensor([[48.0, 56.0], [0.0, 8.0]])
    )


def test_maps_are_inverse(face):
    crop = FaceCrop((31.7, 12.3), 77.1, 112, 96)
    torch.testing.assert_close(crop.to_image(crop.to_crop(face)), face, atol=1e-12, rtol=0)
    eye = compose_affine(crop.inverse(), crop.matrix())
    torch.testing.assert_close(eye, torch.eye(2, 3, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("side", [40.0, 97.3, 211.0])
def test_a_known_point_of_the_picture_appears_where_the_map_says(side):
    """A soft spot keeps its centre of mass to a small part of a pixel at any scale: the convention is exact."""
    centre = torch.tensor([70.3, 51.8], dtype=torch.float64)
    v, u = torch.meshgrid(torch.arange(120) + 0.5, torch.arange(160) + 0.5, indexing="ij")
    spot = torch.exp(-((u - centre[0]) ** 2 + (v - centre[1]) ** 2) / (2 * 4.0**2))
    crop = FaceCrop((66.0, 55.5), side, 64, 64)
    small = crop.crop(spot[None].double())[0]
    v, u = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    found = torch.stack(((small * u).sum(), (small * v).sum())) / small.sum()
    # of the spot (4 pixels wide) 1e-6 lies outside the smallest crop, and linear interpolation moves no mass centre
    torch.testing.assert_close(found, crop.to_crop(centre), atol=2e-3, rtol=0)


def test_a_crop_at_scale_one_copies_pixels(generator):
    image = torch.rand(3, 20, 30, generator=generator)
    crop = FaceCrop((15.0, 10.0), 8.0, 8, 8)
    assert torch.equal(crop.crop(image), image[:, 6:14, 11:19])


def test_agrees_with_pillow_inside_the_picture(generator):
    image = torch.rand(60, 90, generator=generator)
    for box, size in (((10.2, 5.1, 70.2, 45.1), (24, 16)), ((30.0, 20.0, 40.5, 27.0), (24, 16))):
        expected = Image.fromarray(image.numpy()).resize(size, Image.Resampling.BILINEAR, box=box)
        centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        crop = FaceCrop(centre, box[3] - box[1], size[1], size[0])
        # Pillow cuts its filter at the box's edge, ours reads on in the picture: compare away from the edge
        inner = (slice(2, -2), slice(2, -2))
        torch.testing.assert_close(
            crop.crop(image[None])[0][inner], torch.from_numpy(np.array(expected))[inner], atol=1e-5, rtol=0
        )


def test_nothing_aliases():
    """Stripes of one pixel vanish to grey when shrunk five times."""
    stripes = (torch.arange(200) % 2).float().expand(1, 200, 200)
    small = FaceCrop((100.0, 100.0), 150.0, 30, 30).crop(stripes)
    assert (small - 0.5).abs().max() < 0.05


def test_beyond_the_border_the_edge_goes_on(generator):
    image = torch.rand(3, 10, 12, generator=generator)
    crop = FaceCrop((0.0, 0.0), 8.0, 8, 8)
    result = crop.crop(image)
    assert torch.equal(result[:, :4, :4], image[:, :1, :1].expand(3, 4, 4))
    assert torch.equal(result[:, 4:, 4:], image[:, :4, :4])
    inside = crop.inside(10, 12)
    assert torch.equal(inside, (torch.arange(8) >= 4)[:, None] & (torch.arange(8) >= 4)[None])
    far = FaceCrop((500.0, 500.0), 8.0, 8, 8)
    assert torch.equal(far.crop(image), image[:, -1:, -1:].expand(3, 8, 8)) and not far.inside(10, 12).any()


def test_whole_picture_fits():
    crop = FaceCrop.whole(100, 60, 112, 96)
    corners = crop.to_crop(torch.tensor([[0.0, 0.0], [60.0, 100.0]]))
    assert corners.min() >= 0 and corners[1, 0] <= 96 and corners[1, 1] == pytest.approx(112)


def test_refuses_what_it_cannot_crop():
    with pytest.raises(ValueError, match="not all at one place"):
        FaceCrop.from_landmarks(torch.ones(68, 2), 9, 9)
    with pytest.raises(ValueError, match="not all at one place"):
        FaceCrop.from_landmarks(torch.full((68, 2), float("nan")), 9, 9)
    with pytest.raises(ValueError, match=r"\[N, 68, 2\] or \[N, 5, 2\]"):
        FaceCrop.from_landmarks(torch.ones(21, 2), 9, 9)
    with pytest.raises(ValueError, match="positive"):
        FaceCrop((0.0, 0.0), 5.0, 0, 9)
    with pytest.raises(ValueError, match="floating point"):
        FaceCrop((0.0, 0.0), 5.0, 9, 9).crop(torch.zeros(3, 9, 9, dtype=torch.uint8))


def test_five_points_estimate_the_box_of_68_on_photographs(data_dir):
    root = data_dir / "photos"
    source = LandmarkSource(root)
    images = [row["image"] for row in csv.DictReader(open(root / "index.csv"))]
    faces = [face.points for image in images for face in source.find(root / image) if face.kind == "68"]
    points = torch.stack(faces)
    centre, size = landmark_boxes(points)
    estimate, estimated_size = landmark_boxes(five_points(points))
    distance = (estimate - centre).norm(dim=1) / size
    # the accuracy stated beside FIVE_POINT_SPREAD; a crop is 1.5 boxes wide, so nothing of the face is cut
    assert distance.mean() < 0.11 and distance.max() < 0.2
    assert (estimated_size / size - 1).abs().max() < 0.15
