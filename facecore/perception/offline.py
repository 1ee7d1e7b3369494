"""The three roles that run once per picture, without gradient: face detector, landmarks, segmentation (METHODS 7)."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import torch

from facecore.perception.checks import check_network, run_checked
from facecore.perception.manifest import Manifest
from facecore.perception.networks import Network, load_network


@dataclasses.dataclass(frozen=True, eq=False)
class FaceBoxes:
    """The faces of a picture: boxes float64 [F, 4] (u0, v0, u1, v1 in continuous pixels), scores float64 [F]; best
    first. points: [F, 5, 2] in the order of `facecore.data.five_points`, or None."""

    boxes: torch.Tensor
    scores: torch.Tensor
    points: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: torch.Tensor) -> FaceBoxes:
        return FaceBoxes(self.boxes[index], self.scores[index], None if self.points is None else self.points[index])


@dataclasses.dataclass(frozen=True, eq=False)
class LandmarkEstimate:
    """points: float64 [68, 2], iBUG order, continuous pixels of what was looked at; score in [0, 1]."""

    points: torch.Tensor
    score: float


class FaceDetector(Protocol):
    """Finds faces. identity: changes when results may. input_size: (height, width) of the pictures, None = any."""

    @property
    def identity(self) -> str: ...
    @property
    def input_size(self) -> tuple[int, int] | None: ...

    def detect(self, image: torch.Tensor) -> FaceBoxes:
        """The faces of a picture float32 [3, H, W] in [0, 1], in its pixels."""
        ...


class LandmarkDetector(Protocol):
    """Finds 68 points in a square around a face, `crop_factor` times the detected box's mean side."""

    @property
    def identity(self) -> str: ...
    @property
    def input_size(self) -> tuple[int, int]: ...
    @property
    def crop_factor(self) -> float: ...

    def locate(self, image: torch.Tensor) -> LandmarkEstimate | None:
        """The points in a crop float32 [3, *input_size] in [0, 1], in its pixels; None where it sees no face."""
        ...


class FaceSegmenter(Protocol):
    """Says where a face is seen, in a square of `crop_factor` times the mean side of its landmarks' box."""

    @property
    def identity(self) -> str: ...
    @property
    def input_size(self) -> tuple[int, int]: ...
    @property
    def crop_factor(self) -> float: ...

    def segment(self, image: torch.Tensor) -> torch.Tensor:
        """Probability of visible face, float32 [*input_size], in a crop float32 [3, *input_size] in [0, 1]."""
        ...


class _NetworkRole:
    def __init__(self, manifest: Manifest, role: str) -> None:
        if manifest.role != role:
            raise ValueError(f"{manifest.path} describes a network for {manifest.role}; one for {role} is needed here")
        self._network: Network = load_network(manifest)
        check_network(self._network)
        self.manifest = manifest
        self.identity = f"{role}-{manifest.digest}"
        self.input_size = manifest.input_size
        self.crop_factor = manifest.crop_factor

    @torch.no_grad()
    def _run(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return run_checked(self._network, image[None].float())


class NetworkDetector(_NetworkRole):
    """A `FaceDetector` from a manifest; overlapping boxes of one face are dropped. Raises ValueError, see checks."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__(manifest, "detector")

    def detect(self, image: torch.Tensor) -> FaceBoxes:
        outputs = self._run(image)
        scores = outputs["scores"].double().flatten()
        boxes = outputs["boxes"].double().reshape(-1, 4)
        if len(boxes) != len(scores):
            raise ValueError(f"{self.manifest.path}: {len(boxes)} boxes came with {len(scores)} scores")
        height, width = self.input_size
        boxes = to_pixels(boxes.view(-1, 2, 2), self.manifest.coordinates, height, width).view(-1, 4)
        points = None
        if "points" in outputs:
            points = outputs["points"].double().reshape(-1, 5, 2)
            points = to_pixels(points, self.manifest.coordinates, height, width)
        keep = (scores >= self.manifest.min_score) & (boxes[:, 2:] > boxes[:, :2]).all(1)
        return drop_overlaps(FaceBoxes(boxes, scores, points)[keep.nonzero()[:, 0]])


class NetworkLandmarks(_NetworkRole):
    """A `LandmarkDetector` from a manifest. Raises ValueError, see checks."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__(manifest, "landmarks")

    def locate(self, image: torch.Tensor) -> LandmarkEstimate:
        outputs = self._run(image)
        points = outputs["points"].double().reshape(68, -1)[:, :2]
        score = float(outputs["score"].flatten()[0]) if "score" in outputs else 1.0
        return LandmarkEstimate(to_pixels(points, self.manifest.coordinates, *self.input_size), score)


class NetworkSegmenter(_NetworkRole):
    """A `FaceSegmenter` from a manifest. Raises ValueError, see checks."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__(manifest, "segmentation")

    def segment(self, image: torch.Tensor) -> torch.Tensor:
        mask = self._run(image)["mask"].float()
        mask = mask[:, None] if mask.ndim == 3 else mask
        if self.manifest.activation == "softmax":
            mask = mask.softmax(1)
        elif self.manifest.activation == "sigmoid":
            mask = mask.sigmoid()
        if self.manifest.face_classes:
            mask = mask[:, list(self.manifest.face_classes)].sum(1, keepdim=True)
        if tuple(mask.shape[2:]) != self.input_size:
            mask = torch.nn.functional.interpolate(mask, self.input_size, mode="bilinear")
        return mask[0, 0].clamp(0, 1)


def to_pixels(points: torch.Tensor, coordinates: str, height: int, width: int) -> torch.Tensor:
    """Points [..., 2] of a picture in continuous pixels; coordinates: see `Manifest`."""
    size = points.new_tensor([width, height])
    if coordinates == "unit":
        return points * size
    if coordinates == "ndc":
        return (points + 1) / 2 * size
    return points + 0.5 if coordinates == "indices" else points


def drop_overlaps(faces: FaceBoxes, limit: float = 0.4) -> FaceBoxes:
    """The faces, best score first, without boxes that share more than `limit` of their union with a better one."""
    order = faces.scores.argsort(descending=True, stable=True)
    kept: list[int] = []
    for candidate in order.tolist():
        box = faces.boxes[candidate]
        if all(overlap(box, faces.boxes[other]) <= limit for other in kept):
            kept.append(candidate)
    return faces[torch.tensor(kept, dtype=torch.int64)]


def overlap(one: torch.Tensor, other: torch.Tensor) -> float:
    """Intersection over union of two boxes [4]."""
    low, high = torch.maximum(one[:2], other[:2]), torch.minimum(one[2:], other[2:])
    shared = (high - low).clamp_min(0).prod()
    union = (one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - shared
    return float(shared / union) if float(union) > 0 else 0.0
