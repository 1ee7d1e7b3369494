"""Faces of a whole picture: detected, cropped around, located."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from toy_perception import landmarks_of, picture, write_manifest, write_toy_manifests

from facecore.data import FaceCrop
from facecore.data.face_finder import FaceFinder, load_face_finder, load_segmenter, segment_face
from facecore.perception import FaceBoxes, LandmarkEstimate, PerceptionCache

# The networks look at 64 x 64 pixels: an edge is found to about a pixel of these.
SQUARES = [(30, 60, 80), (190, 20, 40), (250, 150, 30)]


@pytest.fixture
def finder(tmp_path):
    paths = write_toy_manifests(tmp_path)
    return load_face_finder(paths["detector"], paths["landmarks"])


def test_every_face_the_largest_first(finder):
    faces = finder.find(picture(200, 300, *SQUARES))
    assert [round(face.size / 10) * 10 for face in faces] == [80, 40, 30]
    for face, square in zip(faces, SQUARES):
        pixel = square[2] * 2.0 / 64 + 300 / 64 * 0.1
        torch.testing.assert_close(face.landmarks.points, landmarks_of(square), atol=2 * pixel, rtol=0)
        assert 0.97 < face.score <= 1
    assert finder.find(picture(200, 300)) == []


@pytest.mark.parametrize(("height", "width"), [(40, 400), (400, 40), (17, 23)])
def test_pictures_of_any_shape(finder, height, width):
    side = min(height, width) // 2
    square = ((width - side) // 2, (height - side) // 2, side)
    (face,) = finder.find(picture(height, width, square))
    limit = 2 * max(height, width) / 64
    torch.testing.assert_close(face.landmarks.points, landmarks_of(square), atol=limit, rtol=0)


@dataclasses.dataclass
class FixedDetector:
    boxes: list[list[float]]
    scores: list[float]
    identity: str = "fixed"
    input_size = None

    def detect(self, image):
        return FaceBoxes(torch.tensor(self.boxes).double().view(-1, 4), torch.tensor(self.scores).double())


@dataclasses.dataclass
class FixedLandmarks:
    """The same place of every crop, in its unit square."""

    box: tuple[float, float, float]
    found: bool = True
    identity: str = "fixed"
    input_size = (50, 50)
    crop_factor = 2.0

    def locate(self, image):
        left, top, side = (50 * value for value in self.box)
        return LandmarkEstimate(landmarks_of((left, top, side)), 0.5) if self.found else None


def test_what_disagrees_is_dropped():
    image = torch.rand(3, 100, 100)
    box = [[20.0, 20.0, 60.0, 60.0]]
    middle = (0.25, 0.25, 0.5)  # of a square twice the box: the box itself
    (face,) = FaceFinder(FixedDetector(box, [0.8]), FixedLandmarks(middle)).find(image)
    torch.testing.assert_close(face.landmarks.points, landmarks_of((20, 20, 40)))
    assert face.score == pytest.approx(0.4)
    for landmarks in (FixedLandmarks((0.9, 0.9, 0.1)), FixedLandmarks(middle, found=False)):
        assert FaceFinder(FixedDetector(box, [0.8]), landmarks).find(image) == []
    outside = [[-70.0, 20.0, -10.0, 80.0]]
    assert FaceFinder(FixedDetector(outside, [0.8]), FixedLandmarks(middle)).find(image) == []


def test_two_findings_of_one_face_are_one():
    boxes = [[20.0, 20.0, 60.0, 60.0], [22.0, 22.0, 62.0, 62.0], [60.0, 60.0, 90.0, 90.0]]
    finder = FaceFinder(FixedDetector(boxes, [0.6, 0.9, 0.5]), FixedLandmarks((0.25, 0.25, 0.5)))
    faces = finder.find(torch.rand(3, 100, 100))
    assert [round(face.score, 6) for face in faces] == [0.45, 0.25]  # of the first two, the better one


def test_results_come_from_the_cache(finder, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"picture")
    kept = FaceFinder(finder.detector, finder.landmarks, PerceptionCache(tmp_path / "cache"))
    first = kept.find(picture(200, 300, *SQUARES), path)
    again = kept.find(torch.zeros(3, 200, 300), path)  # the pixels are not looked at
    assert len(again) == 3
    assert all(torch.equal(a.landmarks.points, b.landmarks.points) for a, b in zip(first, again))


def test_not_a_picture(finder):
    for bad in (torch.zeros(1, 5, 5), torch.zeros(3, 0, 5), torch.zeros(3, 5)):
        with pytest.raises(ValueError, match=r"image must have shape \[3, H, W\]"):
            finder.find(bad)


def test_segmentation_in_pixels_of_the_picture(tmp_path):
    manifest = write_manifest(
        tmp_path / "s.json", "segmentation", "callable", "toy_perception:segment", crop_factor=1.5
    )
    square = (120, 50, 64)
    crop = FaceCrop.from_landmarks(landmarks_of(square), 10, 10)
    mask = segment_face(load_segmenter(manifest), picture(200, 300, square, (10, 10, 20)), crop)
    wanted = torch.zeros(200, 300)
    wanted[50:114, 120:184] = 1
    # 96 pixels are seen by 64: the edge is 1.5 pixels wide; the other square is not looked at
    assert mask.shape == (200, 300) and float((mask - wanted).abs().mean()) < 2 * 4 * 64 / (200 * 300)
    assert float(mask[:45].max()) == 0 and float(mask[60:104, 130:174].min()) == 1
