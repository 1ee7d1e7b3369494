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
class IcpAlignmentSettings:
    """What part of the truth counts, and how a prediction comes to lie on it. Raises ValueError for a crop that is not
    positive."""

    crop_mm: float = 95.0
    """Radius of the part of the scan around its nose tip that counts."""
    alignment: Alignment = "similarity"
    """By ICP; none leaves both faces where they are."""
    start: Literal["landmarks", "as-is"] = "landmarks"
    """What ICP starts from: a fit of seven landmarks, or the faces as they lie."""
    icp: IcpSettings = dataclasses.field(default_factory=IcpSettings)

    def __post_init__(self) -> None:
        if not self.crop_mm > 0:
            raise ValueError(f"crop_mm must be positive, got {self.crop_mm}")


@dataclasses.dataclass(frozen=True)
class PointToPlaneSettings(IcpAlignmentSettings):
    """Of one comparison."""

    direction: Direction = "symmetric"
    """Of the distances; symmetric is the mean of both."""
    statistic: Literal["mean", "rms"] = "mean"
    """Over the points of a face."""


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
    prediction: Face, scan: Face, target: Surface, settings: IcpAlignmentSettings
) -> tuple[Surface, Registration | None]:
    """The prediction moved onto `target`, the part of the scan that counts."""
    if settings.alignment == "none":
        return prediction.surface, None
    if settings.start == "landmarks":
        start = _fit(prediction.seven("the prediction"), scan.seven("the scan"), settings.alignment)
    else:
        start = identity_similarity()
    with_scale = settings.alignment == "similarity"
    registration = register(prediction.surface, target, start, settings.icp, with_scale=with_scale)
    return prediction.surface.moved(registration.similarity), registration


def procrustes_rmse(prediction: Face, truth: Face, crop_mm: float = 95.0) -> float:
    """S1's RMSE in mm: root of the mean square of `procrustes_distances` (METHODS 8.1)."""
    distance, inside = procrustes_distances(prediction, truth, crop_mm)
    return float(np.sqrt((distance[inside] ** 2).mean()))


def procrustes_distances(prediction: Face, truth: Face, crop_mm: float = 95.0) -> tuple[np.ndarray, np.ndarray]:
    """Distances of the truth's vertices [V] in mm after S1's alignment, and which of them count, bool [V].

    Similarity by the 68 landmarks; vertices within `crop_mm` of the truth's nose tip count. The distance is that to the
    corresponding vertex of the prediction where both have the same triangles, otherwise to the closest point of its
    surface. Raises ValueError when a face lacks the 68 landmarks, or nothing counts.
    """
    points68 = truth.all_68("the truth")
    moved = prediction.surface.moved(_fit(prediction.all_68("the prediction"), points68, "similarity"))
    inside = np.linalg.norm(truth.surface.vertices - points68[NOSE_TIP], axis=1) <= crop_mm
    if not inside.any():
        raise ValueError(f"the truth has no vertex within {crop_mm:g} mm of its nose tip; check its unit and landmarks")
    points = truth.surface.vertices
    if same_topology(moved, truth.surface):
        return np.linalg.norm(moved.vertices - points, axis=1), inside
    distance = np.zeros(len(points))
    distance[inside] = closest_points(points[inside], moved.vertices, moved.triangles).distance
    return distance, inside


@dataclasses.dataclass(frozen=True, eq=False)
class DenseDistances:
    """Distances in mm of some vertices (their numbers) of the truth from the prediction."""

    vertices: np.ndarray
    distance: np.ndarray
    interocular_mm: float

    @property
    def nme(self) -> float:
        """In percent of the outer interocular distance."""
        return float(100 * self.distance.mean() / self.interocular_mm)


def dense_distances(
    prediction: Face, truth: Face, settings: IcpAlignmentSettings, region: np.ndarray | None = None
) -> DenseDistances:
    """S3's dense NME: METHODS 8.1.

    After ICP (`align`, onto the cropped truth) the 3-D distances of the truth's vertices from the closest points of the
    prediction, and the truth's outer interocular distance (landmarks 36, 45).

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
    eyes = float(np.linalg.norm(points68[OUTER_EYE_CORNERS[0]] - points68[OUTER_EYE_CORNERS[1]]))
    if not eyes > 0:
        raise ValueError("the truth's outer eye corners fall together")
    return DenseDistances(chosen, distance, eyes)


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
