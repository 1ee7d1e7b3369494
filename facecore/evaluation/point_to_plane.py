"""MICC point-to-plane and S1's RMSE: one predicted face against one scan (METHODS 8.1)."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import torch

from facecore.evaluation.alignment import Alignment, Similarity, fit_similarity
from facecore.evaluation.surfaces import IcpSettings, Registration, Surface, plane_distances, register
from facecore.mesh import closest_points

Direction = Literal["symmetric", "scan-to-prediction", "prediction-to-scan"]
SEVEN = (36, 39, 42, 45, 30, 48, 54)  # eye corners, nose tip, mouth corners, of the 68 (METHODS 8.1)
NOSE_TIP_OF_SEVEN, NOSE_TIP = 4, 30
OUTER_EYE_CORNERS = (36, 45)


@dataclasses.dataclass(frozen=True, eq=False)
class Face:
    """A face as a surface, with landmarks float64 [68, 3] or [7, 3] (the points `SEVEN`) in mm, or None."""

    surface: Surface
    landmarks: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.landmarks is not None and self.landmarks.shape not in ((68, 3), (7, 3)):
            raise ValueError(f"landmarks must be [68, 3] or [7, 3], got {list(self.landmarks.shape)}")

    def seven(self, whose: str) -> np.ndarray:
        """The seven landmarks [7, 3]. Raises ValueError, naming `whose` they are, where there are none."""
        if self.landmarks is None:
            raise ValueError(f"{whose} has no landmarks; give a file of 68 or 7 points")
        return self.landmarks[list(SEVEN)] if len(self.landmarks) == 68 else self.landmarks

    def all_68(self, whose: str) -> np.ndarray:
        if self.landmarks is None or len(self.landmarks) != 68:
            raise ValueError(f"{whose} needs 68 landmarks, it has {0 if self.landmarks is None else 7}")
        return self.landmarks


@dataclasses.dataclass(frozen=True)
class PointToPlaneSettings:
    """crop_mm: radius around the scan's nose tip. alignment: "similarity" and "rigid" start from the seven landmarks
    and go on by ICP, "none" leaves both where they are. start: "landmarks", or "as-is" for faces that are nearly
    aligned. direction: of the distances; symmetric = mean of both. statistic: over points."""

    crop_mm: float = 95.0
    alignment: Alignment = "similarity"
    start: Literal["landmarks", "as-is"] = "landmarks"
    direction: Direction = "symmetric"
    statistic: Literal["mean", "rms"] = "mean"
    icp: IcpSettings = dataclasses.field(default_factory=IcpSettings)

    def __post_init__(self) -> None:
        if not self.crop_mm > 0:
            raise ValueError(f"crop_mm must be positive, got {self.crop_mm}")


@dataclasses.dataclass(frozen=True, eq=False)
class PointToPlane:
    """Of one pair. error_mm: by the settings; the shares say how much of each surface counted.

    scan: the cropped scan, scan_distance [V] mm and scan_counted [V] at its vertices, for pictures. registration: None
    where nothing was aligned.
    """

    error_mm: float
    prediction_to_scan_mm: float
    scan_to_prediction_mm: float
    prediction_share: float
    scan_share: float
    scan: Surface
    scan_distance: np.ndarray
    scan_counted: np.ndarray
    registration: Registration | None


def point_to_plane(prediction: Face, scan: Face, settings: PointToPlaneSettings) -> PointToPlane:
    """Crops the scan, aligns the prediction with it, and measures (`plane_distances`). Deterministic.

    Raises ValueError when landmarks are missing or the two do not overlap.
    """
    target, _ = scan.surface.cropped(_nose_tip(scan, "the scan"), settings.crop_mm)
    moved, registration = align(prediction, scan, target, settings)
    angle = settings.icp.max_angle_degrees
    forth, back = plane_distances(moved, target, angle), plane_distances(target, moved, angle)
    values = [side.mean() if settings.statistic == "mean" else side.root_mean_square() for side in (forth, back)]
    errors = {
        "symmetric": (values[0] + values[1]) / 2,
        "prediction-to-scan": values[0],
        "scan-to-prediction": values[1],
    }
    return PointToPlane(
        error_mm=errors[settings.direction],
        prediction_to_scan_mm=values[0],
        scan_to_prediction_mm=values[1],
        prediction_share=forth.share,
        scan_share=back.share,
        scan=target,
        scan_distance=back.distance,
        scan_counted=back.counted,
        registration=registration,
    )


def align(
    prediction: Face, scan: Face, target: Surface, settings: PointToPlaneSettings
) -> tuple[Surface, Registration | None]:
    """The prediction moved onto `target`, the part of the scan that counts."""
    if settings.alignment == "none":
        return prediction.surface, None
    if settings.start == "landmarks":
        start = _fit(prediction.seven("the prediction"), scan.seven("the scan"), settings.alignment)
    else:
        start = identity_similarity()
    icp = dataclasses.replace(settings.icp, scale=settings.alignment == "similarity" and settings.icp.scale)
    registration = register(prediction.surface, target, start, icp)
    return prediction.surface.moved(registration.similarity), registration


def procrustes_rmse(prediction: Face, truth: Face, crop_mm: float = 95.0) -> float:
    """S1's RMSE in mm: METHODS 8.1.

    Similarity by the 68 landmarks; root of the mean squared distance over the truth's vertices within `crop_mm` of its
    nose tip, to the corresponding vertices of the prediction where both have the same triangles, otherwise to the
    closest points of its surface. Raises ValueError when a face lacks the 68 landmarks.
    """
    points68 = truth.all_68("the truth")
    moved = prediction.surface.moved(_fit(prediction.all_68("the prediction"), points68, "similarity"))
    inside = np.linalg.norm(truth.surface.vertices - points68[NOSE_TIP], axis=1) <= crop_mm
    if not inside.any():
        raise ValueError(f"the truth has no vertex within {crop_mm:g} mm of its nose tip; check its unit and landmarks")
    points = truth.surface.vertices[inside]
    if same_topology(moved, truth.surface):
        distance = np.linalg.norm(moved.vertices[inside] - points, axis=1)
    else:
        distance = closest_points(points, moved.vertices, moved.triangles).distance
    return float(np.sqrt((distance**2).mean()))


def dense_nme(prediction: Face, truth: Face, settings: PointToPlaneSettings, region: np.ndarray | None = None) -> float:
    """S3's dense NME in percent: METHODS 8.1.

    After ICP (`align`, onto the cropped truth) the mean 3-D distance of the truth's vertices from the closest points of
    the prediction, over the truth's outer interocular distance (landmarks 36, 45), times 100.

    region: int64 [P], the truth's vertices that count; None = those of the crop. Raises ValueError when the truth lacks
    68 landmarks, or a vertex of the region does not exist.
    """
    points68 = truth.all_68("the truth")
    target, kept = truth.surface.cropped(points68[NOSE_TIP], settings.crop_mm)
    moved, _ = align(prediction, truth, target, settings)
    chosen = kept if region is None else region
    if chosen.min() < 0 or chosen.max() >= len(truth.surface.vertices):
        raise ValueError(
            f"region must index the truth's {len(truth.surface.vertices)} vertices from 0, got "
            f"{chosen.min()} to {chosen.max()}"
        )
    distance = closest_points(truth.surface.vertices[chosen], moved.vertices, moved.triangles).distance
    eyes = np.linalg.norm(points68[OUTER_EYE_CORNERS[0]] - points68[OUTER_EYE_CORNERS[1]])
    return float(100 * distance.mean() / eyes)


def same_topology(one: Surface, other: Surface) -> bool:
    return len(one.vertices) == len(other.vertices) and np.array_equal(one.triangles, other.triangles)


def _fit(points: np.ndarray, target: np.ndarray, alignment: Alignment) -> Similarity:
    return fit_similarity(torch.from_numpy(points)[None], torch.from_numpy(target)[None], alignment)


def _nose_tip(face: Face, whose: str) -> np.ndarray:
    return face.seven(whose)[NOSE_TIP_OF_SEVEN]


def identity_similarity() -> Similarity:
    """Moves nothing, N = 1."""
    points = torch.eye(3).double()[None]
    return fit_similarity(points, points, "none")
