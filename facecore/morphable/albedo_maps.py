"""Where lips, brows, lids, beard, cheeks and so on lie on a face template: soft masks from its 68 landmarks."""

from __future__ import annotations

import dataclasses

import numpy as np

from facecore.morphable import landmarks as places

_IRIS_RADIUS_MM, _PUPIL_RADIUS_MM = 5.9, 1.9


@dataclasses.dataclass(frozen=True)
class FaceMaps:
    """Soft masks, each [V] in [0, 1], symmetric left to right as far as the landmarks are; and frontal coordinates.

    across: distance from the plane of symmetry, 0 there and 1 at the contour; along: height, 0 at the chin and 1 at
    the hairline. Both go on beyond 1.
    """

    lips: np.ndarray
    seam: np.ndarray
    brows: np.ndarray
    thick_brows: np.ndarray
    eyeball: np.ndarray
    iris: np.ndarray
    pupil: np.ndarray
    lid_margin: np.ndarray
    cheeks: np.ndarray
    nose: np.ndarray
    beard: np.ndarray
    moustache: np.ndarray
    under_eyes: np.ndarray
    eyelids: np.ndarray
    across: np.ndarray
    along: np.ndarray


def face_maps(vertices: np.ndarray, points: np.ndarray, eyes: np.ndarray | None) -> FaceMaps:
    """The maps for vertices [V, 3] mm with landmarks at points [68, 3]; eyes bool [V] says what is eyeball.

    eyes = None: whatever is seen between the lids is eyeball.
    """
    scale = places.face_scale(points)
    depth = places.eye_depth(vertices, points)
    between_lids = places.smooth_step(depth, 0.3 * scale, 1.3 * scale)
    eyeball = between_lids if eyes is None else between_lids * eyes
    lips = places.lip_mask(vertices, points)
    seam_curve = places.smooth_curve(points[list(places.INNER_LIPS)], closed=True, samples=160)
    margin = np.abs(np.where(np.isfinite(depth), depth, 1e3))
    iris, pupil = _iris(vertices, points, scale)
    centre = points[[27, 28, 29, 30, 33, 51, 57, 8], 0].mean()
    chin, nasion = points[8, 1], points[27, 1]
    return FaceMaps(
        lips=lips,
        seam=_near(vertices, seam_curve, 0.3 * scale, 1.6 * scale) * lips,
        brows=places.brow_mask(vertices, points, thickness=0.85),
        thick_brows=places.brow_mask(vertices, points, thickness=1.5),
        eyeball=eyeball,
        iris=iris * eyeball,
        pupil=pupil * eyeball,
        lid_margin=(1 - places.smooth_step(margin, 0.4 * scale, 2.2 * scale)) * (1 - eyeball),
        cheeks=_cheeks(vertices, points, scale),
        nose=_nose(vertices, points, scale),
        beard=_beard(vertices, points, scale) * (1 - lips),
        moustache=_moustache(vertices, points, scale) * (1 - lips),
        under_eyes=_lids(vertices, points, scale, upper=False),
        eyelids=_lids(vertices, points, scale, upper=True),
        across=np.abs(vertices[:, 0] - centre) / (0.53 * np.linalg.norm(points[0] - points[16])),
        along=(vertices[:, 1] - chin) / (1.72 * (nasion - chin)),
    )


def _near(vertices: np.ndarray, curve: np.ndarray, full: float, none: float) -> np.ndarray:
    """1 nearer than `full` mm to the curve, 0 beyond `none`."""
    return 1 - places.smooth_step(places.distance_to_curve(vertices, curve)[0], full, none)


def _iris(vertices: np.ndarray, points: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    iris, pupil = np.zeros(len(vertices)), np.zeros(len(vertices))
    for group in (places.EYE_RIGHT, places.EYE_LEFT):
        centre = points[[group[k] for k in (1, 2, 4, 5)], :2].mean(axis=0)
        radius = np.linalg.norm(vertices[:, :2] - centre, axis=1) / scale
        iris = np.maximum(iris, 1 - places.smooth_step(radius, _IRIS_RADIUS_MM - 0.6, _IRIS_RADIUS_MM + 0.4))
        pupil = np.maximum(pupil, 1 - places.smooth_step(radius, _PUPIL_RADIUS_MM - 0.5, _PUPIL_RADIUS_MM + 0.5))
    return iris, pupil


def _lids(vertices: np.ndarray, points: np.ndarray, scale: float, *, upper: bool) -> np.ndarray:
    if upper:
        groups, shift, full, none = (places.UPPER_LID_RIGHT, places.UPPER_LID_LEFT), 3.5, 1.5, 6.5
    else:
        groups, shift, full, none = (places.LOWER_LID_RIGHT, places.LOWER_LID_LEFT), -6.5, 1.5, 9.0
    masks = []
    for group in groups:
        curve = places.smooth_curve(points[list(group)], closed=False) + np.array([0.0, shift * scale, 0.0])
        masks.append(_near(vertices, curve, full * scale, none * scale))
    return np.maximum(*masks)


def _cheeks(vertices: np.ndarray, points: np.ndarray, scale: float) -> np.ndarray:
    result = np.zeros(len(vertices))
    for eye, lid, mouth, jaw in ((36, 41, 48, 3), (45, 46, 54, 13)):
        centre = 0.4 * (points[eye] + points[lid]) / 2 + 0.35 * points[mouth] + 0.25 * points[jaw]
        offset = (vertices - centre) / (scale * np.array([17.0, 14.0, 26.0]))
        result += np.exp(-0.5 * (offset**2).sum(axis=1))
    return np.minimum(result, 1.0)


def _nose(vertices: np.ndarray, points: np.ndarray, scale: float) -> np.ndarray:
    result = np.zeros(len(vertices))
    for point, radius in ((30, 9.0), (31, 6.0), (35, 6.0)):
        result += np.exp(-0.5 * ((vertices - points[point]) ** 2).sum(axis=1) / (radius * scale) ** 2)
    return np.minimum(result, 1.0)


def _beard(vertices: np.ndarray, points: np.ndarray, scale: float) -> np.ndarray:
    """Jaw, chin and the part of the cheeks below a line from the mouth to the ear."""
    jaw = places.smooth_curve(points[2:15], closed=False, samples=300)
    chin = places.smooth_curve(np.stack([points[8], (points[8] + 2 * points[57]) / 3]), closed=False)
    hair = np.maximum(_near(vertices, jaw, 12 * scale, 36 * scale), _near(vertices, chin, 10 * scale, 26 * scale))
    # The upper edge falls from the ear to the corner of the mouth and passes below the lower lip.
    corners = (points[48] + points[54]) / 2
    outer = np.abs(points[2, 0] - points[14, 0]) / 2
    sideways = np.clip(np.abs(vertices[:, 0] - corners[0]) / outer, 0.0, 1.0)
    edge = corners[1] + (points[1, 1] - corners[1]) * sideways**2.5
    return hair * places.smooth_step(edge - vertices[:, 1], -9 * scale, 9 * scale)


def _moustache(vertices: np.ndarray, points: np.ndarray, scale: float) -> np.ndarray:
    """Between nose and upper lip, out to the corners of the mouth."""
    down = np.array([0.0, -1.0, 0.0]) * scale
    knots = np.stack(
        [
            points[48] + 3 * down,
            (points[49] * 2 + points[31]) / 3,
            (points[50] + points[32]) / 2,
            (points[51] + points[33]) / 2,
            (points[52] + points[34]) / 2,
            (points[53] * 2 + points[35]) / 3,
            points[54] + 3 * down,
        ]
    )
    return _near(vertices, places.smooth_curve(knots, closed=False, samples=200), 4 * scale, 11 * scale)
