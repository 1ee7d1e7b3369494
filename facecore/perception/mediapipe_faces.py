"""MediaPipe as face detector and landmark detector: its models come with its package, no licence form (optional)."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from facecore.perception.face_mesh_points import landmarks_from_mesh
from facecore.perception.offline import FaceBoxes, LandmarkEstimate, drop_overlaps

INSTALL = (
    "pip install 'facecore[landmarks]' (MediaPipe 0.10.21, for Python 3.12 or older, without constraints.txt; beside "
    "numpy 2: see docs/perception.md)"
)
DETECTION_SCORE = 0.5  # of MediaPipe's face detectors
MESH_SCORE = 0.3  # of the face mesh's own detection inside a crop that is known to hold a face
LARGEST = 1024  # pixels: longer pictures are made smaller for detection
CROP_SIZE, CROP_FACTOR = 384, 2.0
_BLANK = np.zeros((64, 64, 3), dtype=np.uint8)


def missing() -> str:
    """Why MediaPipe cannot be used, with a remedy; empty if it can. The package is not imported."""
    try:
        version = importlib.metadata.version("mediapipe")
    except importlib.metadata.PackageNotFoundError:
        return f"MediaPipe is not installed: {INSTALL}"
    if not version.startswith("0.10."):
        return f"MediaPipe {version} carries no models: {INSTALL}"
    return ""


class MediapipeDetector:
    """A `FaceDetector`: MediaPipe's short-range and full-range detectors together.

    The first finds faces from a fifth of the picture up, the second small ones; a face that fills the picture is found
    once more room is around it. Raises ImportError with a remedy where MediaPipe is absent.
    """

    input_size: tuple[int, int] | None = None

    def __init__(self) -> None:
        detection = _solutions().face_detection.FaceDetection
        self.identity = f"mediapipe-detector-{_version()}-{DETECTION_SCORE}"
        self._detectors = [
            _started(functools.partial(detection, model_selection=number, min_detection_confidence=DETECTION_SCORE))
            for number in (0, 1)
        ]

    def detect(self, image: torch.Tensor) -> FaceBoxes:
        """The faces of a picture float32 [3, H, W] in [0, 1]. Deterministic on one machine."""
        height, width = image.shape[1:]
        scale = min(1.0, LARGEST / max(height, width))  # the models look at 128 or 192 pixels
        if scale < 1:
            size = (max(1, round(height * scale)), max(1, round(width * scale)))
            small = torch.nn.functional.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
            faces, ratio = self.detect(small), torch.tensor([width / size[1], height / size[0]], dtype=torch.float64)
            return FaceBoxes(faces.boxes * ratio.repeat(2), faces.scores)
        faces = self._detect(image, 0)
        return faces if len(faces) else self._detect(image, max(image.shape[1:]) // 2)

    def _detect(self, image: torch.Tensor, margin: int) -> FaceBoxes:
        """With `margin` grey pixels on each side."""
        pixels = _bytes(image)
        if margin:
            pixels = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), constant_values=128)
        size = np.array([pixels.shape[1], pixels.shape[0]])
        boxes, scores = [], []
        with _silence():
            found = [d for detector in self._detectors for d in detector.process(pixels).detections or ()]
        for detection in found:
            box = detection.location_data.relative_bounding_box
            low = np.array([box.xmin, box.ymin]) * size
            boxes.append(np.concatenate((low, low + np.array([box.width, box.height]) * size)) - margin)
            scores.append(float(detection.score[0]))
        if not boxes:
            return FaceBoxes(torch.zeros(0, 4, dtype=torch.float64), torch.zeros(0, dtype=torch.float64))
        return drop_overlaps(FaceBoxes(torch.tensor(np.array(boxes)), torch.tensor(scores, dtype=torch.float64)))


class MediapipeLandmarks:
    """A `LandmarkDetector`: MediaPipe's face mesh, 478 points, as the 68 (`landmarks_from_mesh`)."""

    input_size, crop_factor = (CROP_SIZE, CROP_SIZE), CROP_FACTOR

    def __init__(self) -> None:
        mesh = _solutions().face_mesh.FaceMesh
        self.identity = f"mediapipe-landmarks-{_version()}-{MESH_SCORE}"
        options = {"static_image_mode": True, "max_num_faces": 1, "refine_landmarks": True}
        self._mesh = _started(functools.partial(mesh, **options, min_detection_confidence=MESH_SCORE))

    def locate(self, image: torch.Tensor) -> LandmarkEstimate | None:
        """See `LandmarkDetector`. MediaPipe gives no score for its mesh: it is 1. Deterministic on one machine."""
        height, width = image.shape[1:]
        with _silence():
            faces = self._mesh.process(_bytes(image)).multi_face_landmarks
        if not faces:
            return None
        relative = torch.tensor([[point.x, point.y] for point in faces[0].landmark], dtype=torch.float64)
        return LandmarkEstimate(landmarks_from_mesh(relative * relative.new_tensor([width, height])), 1.0)


@functools.cache
def _solutions() -> Any:
    if reason := missing():
        raise ImportError(reason)
    with _silence():
        try:
            return importlib.import_module("mediapipe").solutions
        except (ImportError, AttributeError, TypeError) as error:
            raise ImportError(f"MediaPipe does not load ({error}): {INSTALL}") from error


def _started(build: Callable[[], Any]) -> Any:
    """One of MediaPipe's solutions, which has run once: its threads print when they first do."""
    with _silence():
        try:
            solution = build()
            solution.process(_BLANK)
        except (AttributeError, TypeError, RuntimeError, OSError) as error:  # what versions that do not fit give
            raise ImportError(f"MediaPipe does not start here ({error}): {INSTALL}") from error
    return solution


def _version() -> str:
    return importlib.metadata.version("mediapipe")


def _bytes(image: torch.Tensor) -> np.ndarray:
    pixels = image.detach().cpu().clamp(0, 1).mul_(255).round_().to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Drops what MediaPipe's C++ prints on the error stream whatever its log level; exceptions are not touched."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
