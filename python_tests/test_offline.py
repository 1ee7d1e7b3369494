"""Detector, landmark and segmentation networks."""

from __future__ import annotations

import pytest
import torch
from toy_perception import SIZE, landmarks_of, picture, write_manifest, write_toy_manifests

from facecore.perception import FaceBoxes, NetworkDetector, NetworkLandmarks, NetworkSegmenter, read_manifest
from facecore.perception.offline import drop_overlaps, overlap, to_pixels


@pytest.fixture
def manifests(tmp_path):
    return write_toy_manifests(tmp_path)


def test_detector(manifests):
    detector = NetworkDetector(read_manifest(manifests["detector"]))
    faces = detector.detect(picture(*SIZE, (5, 7, 20), (40, 30, 10)))
    assert faces.boxes.tolist() == [[5, 7, 25, 27], [40, 30, 50, 40]] and faces.points is None
    torch.testing.assert_close(faces.scores, torch.tensor([1.0, 0.99], dtype=torch.float64), atol=1e-6, rtol=0)
    assert len(detector.detect(picture(*SIZE))) == 0


def test_boxes_of_a_low_score_are_dropped(manifests, tmp_path):
    strict = write_manifest(tmp_path / "s.json", "detector", "callable", "toy_perception:detect", min_score=0.995)
    assert len(NetworkDetector(read_manifest(strict)).detect(picture(*SIZE, (5, 7, 20), (40, 30, 10)))) == 1


def test_landmarks(manifests):
    found = NetworkLandmarks(read_manifest(manifests["landmarks"])).locate(picture(*SIZE, (20, 22, 30)))
    torch.testing.assert_close(found.points, landmarks_of((20, 22, 30)), atol=1e-4, rtol=0)  # float32 in the network
    assert found.score == 1.0


def test_segmentation(manifests):
    mask = NetworkSegmenter(read_manifest(manifests["segmentation"])).segment(picture(*SIZE, (20, 22, 30)))
    assert mask.shape == (64, 64) and float(mask.sum()) == 900 and float(mask[22:52, 20:50].min()) == 1


def logits(images: torch.Tensor) -> torch.Tensor:
    """Three classes: certainly the second on the left half, the third on the right; coarser than the picture."""
    left = torch.zeros(len(images), 3, 32, 32)
    left[:, 1, :, :16], left[:, 2, :, 16:] = 30.0, 30.0
    return left


def test_classes_and_activations(tmp_path):
    from pathlib import Path

    from facecore.perception.manifest import file_hash

    def segment(**changes):
        changes["sha256"] = file_hash(Path(__file__))
        path = write_manifest(tmp_path / "m.json", "segmentation", "callable", "test_offline:logits", **changes)
        return NetworkSegmenter(read_manifest(path)).segment(torch.rand(3, *SIZE))

    second = segment(face_classes=[1], activation="softmax")
    assert second.shape == (64, 64) and float(second[:, :30].min()) > 0.999 and float(second[:, 34:].max()) < 0.001
    torch.testing.assert_close(segment(face_classes=[1, 2], activation="softmax"), torch.ones(64, 64))
    # sigmoid of 0 and of 30: half a point from the other class, and the sum is held to 1
    assert float(segment(face_classes=[1], activation="sigmoid")[:, 40:].max()) == 0.5
    assert float(segment(face_classes=[0, 1], activation="sigmoid").max()) == 1.0


@pytest.mark.parametrize(
    ("coordinates", "point"), [("pixels", (10, 6)), ("indices", (9.5, 5.5)), ("unit", (0.5, 0.6)), ("ndc", (0.0, 0.2))]
)
def test_coordinates(coordinates, point):
    found = to_pixels(torch.tensor([point], dtype=torch.float64), coordinates, height=10, width=20)
    torch.testing.assert_close(found, torch.tensor([[10.0, 6.0]], dtype=torch.float64))


def test_overlaps():
    boxes = torch.tensor([[0, 0, 10, 10], [0, 5, 10, 15], [1, 1, 10, 10], [30, 0, 40, 10]], dtype=torch.float64)
    assert overlap(boxes[0], boxes[1]) == pytest.approx(1 / 3) and overlap(boxes[0], boxes[3]) == 0
    assert overlap(boxes[0], boxes[0]) == 1
    kept = drop_overlaps(FaceBoxes(boxes, torch.tensor([0.5, 0.6, 0.9, 0.1], dtype=torch.float64)))
    assert kept.scores.tolist() == [0.9, 0.6, 0.1]  # best first; the first box is the third one again
