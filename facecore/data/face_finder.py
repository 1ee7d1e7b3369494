"""From a whole picture to its faces with 68 landmarks: detect, crop around each, locate, keep what agrees."""

from __future__ import annotations

import dataclasses
import os
import pathlib

import numpy as np
import torch

from facecore.data.crop import BOX_FACTOR, FaceCrop, landmark_boxes
from facecore.data.landmarks import Landmarks
from facecore.perception import (
    FaceBoxes,
    FaceDetector,
    FaceSegmenter,
    LandmarkDetector,
    NetworkDetector,
    NetworkLandmarks,
    NetworkSegmenter,
    PerceptionCache,
    read_manifest,
)
from facecore.perception.mediapipe_faces import MediapipeDetector, MediapipeLandmarks
from facecore.perception.offline import drop_overlaps, overlap
from facecore.render.affine import warp

AGREEMENT = 0.2  # least intersection over union of the detected box and the landmarks' box of one face
MEDIAPIPE = "mediapipe"


@dataclasses.dataclass(frozen=True, eq=False)
class DetectedFace:
    """landmarks: 68 points in pixels of the picture; score in [0, 1]: of the detector, times that of the landmarks."""

    landmarks: Landmarks
    score: float

    @property
    def size(self) -> float:
        """Mean of width and height of the landmarks' box, in pixels."""
        return float(landmark_boxes(self.landmarks.points[None])[1][0])


class FaceFinder:
    """Finds every face of a picture.

    Args:
        detector, landmarks: the two networks.
        cache: where results are kept; None = nowhere.
    """

    def __init__(
        self, detector: FaceDetector, landmarks: LandmarkDetector, cache: PerceptionCache | None = None
    ) -> None:
        self.detector, self.landmarks, self.cache = detector, landmarks, cache
        self.identity = f"faces-{detector.identity}-{landmarks.identity}"

    def find(self, image: torch.Tensor, path: str | os.PathLike[str] | None = None) -> list[DetectedFace]:
        """The faces of a picture float32 [3, H, W] in [0, 1], the largest first; empty where there is none.

        path: the file that the picture came from, by whose content results are kept. A face is kept where landmarks
        lie where it was detected, mostly inside the picture; of two on top of each other the better one.
        """
        if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
            raise ValueError(f"image must have shape [3, H, W], got {list(image.shape)}")
        if self.cache is None or path is None:
            arrays = self._arrays(image)
        else:
            arrays = self.cache.get(self.identity, path, lambda: self._arrays(image))
        points, scores = torch.from_numpy(arrays["points"]), arrays["scores"]
        faces = [DetectedFace(Landmarks(p), float(s)) for p, s in zip(points, scores)]
        return sorted(faces, key=lambda face: -face.size)

    def _arrays(self, image: torch.Tensor) -> dict[str, np.ndarray]:
        height, width = image.shape[1:]
        points, scores = [], []
        detected = self._detect(image)
        for box, score in zip(detected.boxes, detected.scores.tolist()):
            side = float((box[2:] - box[:2]).mean()) * self.landmarks.crop_factor
            centre = ((box[:2] + box[2:]) / 2).tolist()
            crop = FaceCrop((centre[0], centre[1]), side, *self.landmarks.input_size)
            estimate = self.landmarks.locate(crop.crop(image).clamp(0, 1))
            if estimate is None:
                continue
            found = crop.to_image(estimate.points)
            inside = (found >= 0).all(1) & (found <= found.new_tensor([width, height])).all(1)
            if overlap(_bounds(found), box) >= AGREEMENT and 2 * int(inside.sum()) >= len(found):
                points.append(found)
                scores.append(score * estimate.score)
        if not points:
            return {"points": np.zeros((0, 68, 2)), "scores": np.zeros(0)}
        stacked = torch.stack(points)
        marked = FaceBoxes(_bounds(stacked), torch.tensor(scores, dtype=torch.float64), stacked)
        kept = drop_overlaps(marked)
        assert kept.points is not None
        return {"points": kept.points.numpy(), "scores": kept.scores.numpy()}

    def _detect(self, image: torch.Tensor) -> FaceBoxes:
        if self.detector.input_size is None:
            return self.detector.detect(image)
        whole = FaceCrop.whole(image.shape[1], image.shape[2], *self.detector.input_size)
        found = self.detector.detect(whole.crop(image).clamp(0, 1))
        return FaceBoxes(whole.to_image(found.boxes.view(-1, 2, 2)).view(-1, 4), found.scores)


def load_face_finder(
    detector: str | os.PathLike[str] = MEDIAPIPE,
    landmarks: str | os.PathLike[str] = MEDIAPIPE,
    cache: str | os.PathLike[str] | None = None,
) -> FaceFinder:
    """A finder from two manifests, or from "mediapipe" for either.

    Raises ImportError with a remedy where MediaPipe is asked for and absent, ValueError for a manifest that is refused.
    """
    return join_networks(*own_networks(detector, landmarks), cache)


def own_networks(
    detector: str | os.PathLike[str], landmarks: str | os.PathLike[str]
) -> tuple[NetworkDetector | None, NetworkLandmarks | None]:
    """The networks of two manifests, None for "mediapipe". Raises ValueError for a manifest that is refused."""
    first = None if detector == MEDIAPIPE else NetworkDetector(read_manifest(detector))
    return first, None if landmarks == MEDIAPIPE else NetworkLandmarks(read_manifest(landmarks))


def join_networks(
    detector: FaceDetector | None, landmarks: LandmarkDetector | None, cache: str | os.PathLike[str] | None = None
) -> FaceFinder:
    """A finder from two networks, MediaPipe for None. Raises ImportError with a remedy where that is absent."""
    first = MediapipeDetector() if detector is None else detector
    second = MediapipeLandmarks() if landmarks is None else landmarks
    return FaceFinder(first, second, None if cache is None else PerceptionCache(cache))


def load_segmenter(manifest: str | os.PathLike[str]) -> FaceSegmenter:
    """The segmentation network of a manifest. Raises ValueError for one that is refused."""
    return NetworkSegmenter(read_manifest(manifest))


def segment_face(
    segmenter: FaceSegmenter,
    image: torch.Tensor,
    face: FaceCrop,
    path: pathlib.Path | None = None,
    cache: PerceptionCache | None = None,
) -> torch.Tensor:
    """Where a face is seen, float32 [H, W] in [0, 1] of the picture [3, H, W]; 0 beyond what the network looked at.

    face: its crop, BOX_FACTOR times as large as the box of its landmarks, whatever its size in pixels.
    """
    crop = face.resized(*segmenter.input_size, segmenter.crop_factor / BOX_FACTOR)

    def compute() -> dict[str, np.ndarray]:
        probability = segmenter.segment(crop.crop(image).clamp(0, 1))
        return {"mask": (probability * 255).round().to(torch.uint8).numpy()}

    if cache is None or path is None:
        mask = compute()["mask"]
    else:
        place = "-".join(f"{value:.2f}" for value in (*crop.centre, crop.side))
        mask = cache.get(f"{segmenter.identity}-{place}", path, compute)["mask"]
    small = torch.from_numpy(mask).float()[None, None] / 255
    return warp(small, crop.inverse()[None], *image.shape[1:], padding_mode="zeros")[0, 0]


def _bounds(points: torch.Tensor) -> torch.Tensor:
    """Boxes [..., 4] of points [..., P, 2]."""
    return torch.cat((points.amin(-2), points.amax(-2)), -1)
