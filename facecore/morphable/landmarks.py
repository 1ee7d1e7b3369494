"""Where things are on a face template, from its 68 landmarks: curves, distances and vertex regions, for any mesh."""

from __future__ import annotations

import numpy as np
import scipy.interpolate
import scipy.spatial
import torch

# Index groups of the 68 iBUG points, 0-based (METHODS 1.10); "right" is the subject's, at image left.
CONTOUR = tuple(range(17))
BROW_RIGHT, BROW_LEFT = (17, 18, 19, 20, 21), (26, 25, 24, 23, 22)  # from the temple inwards
NOSE_BRIDGE, NOSE_BASE = (27, 28, 29, 30), (31, 32, 33, 34, 35)
EYE_RIGHT, EYE_LEFT = (36, 37, 38, 39, 40, 41), (42, 43, 44, 45, 46, 47)
UPPER_LID_RIGHT, UPPER_LID_LEFT = (36, 37, 38, 39), (42, 43, 44, 45)
LOWER_LID_RIGHT, LOWER_LID_LEFT = (36, 41, 40, 39), (42, 47, 46, 45)
OUTER_LIPS, INNER_LIPS = tuple(range(48, 60)), tuple(range(60, 68))

_OUTER_EYE_CORNERS_MM = 89.0  # of an average adult (ICT neutral face); lengths below are for this size
_LIP_DEPTH_MM = 18.0  # how far behind its outline a lip or lid may roll inwards


def face_scale(points: np.ndarray) -> float:
    """Size of the face relative to an average adult, from the outer eye corners of points [68, 3] in mm."""
    return float(np.linalg.norm(points[36] - points[45])) / _OUTER_EYE_CORNERS_MM


def smooth_curve(points: np.ndarray, *, closed: bool, samples: int = 96) -> np.ndarray:
    """A cubic spline through the points [P, D], parameterised by chord length, as a polyline [samples, D]."""
    knots = np.concatenate([points, points[:1]]) if closed else points
    lengths = np.linalg.norm(np.diff(knots, axis=0), axis=1)
    if not (lengths > 0).all():
        raise ValueError("landmarks of one curve must lie on different vertices")
    position = np.concatenate([[0.0], np.cumsum(lengths)])
    spline = scipy.interpolate.CubicSpline(position, knots, bc_type="periodic" if closed else "natural")
    return np.asarray(spline(np.linspace(0.0, position[-1], samples)))


def distance_to_curve(vertices: np.ndarray, curve: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of vertices [V, D] to a polyline [S, D] sampled finely, and the place on it from 0 to 1, both [V]."""
    distance, index = scipy.spatial.cKDTree(curve).query(vertices)
    return distance, index / max(len(curve) - 1, 1)


def depth_inside_outline(vertices: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """How far inside a closed outline each vertex lies, seen from the front, [V] in mm; negative outside.

    vertices [V, 3] and outline [S, 3]. Vertices far behind the outline count as outside (the back of a head).
    """
    distance, index = scipy.spatial.cKDTree(outline[:, :2]).query(vertices[:, :2])
    inside = np.zeros(len(vertices), dtype=bool)
    near = ((vertices[:, :2] >= outline[:, :2].min(0)) & (vertices[:, :2] <= outline[:, :2].max(0))).all(axis=1)
    inside[near] = _inside_polygon(vertices[near, :2], outline[:, :2])
    behind = outline[index, 2] - vertices[:, 2] > _LIP_DEPTH_MM
    return np.where(inside & ~behind, distance, -np.where(behind, np.inf, distance))


def _inside_polygon(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Whether points [P, 2] lie in the polygon [S, 2], by the number of its edges that a ray to +x meets; bool [P]."""
    start, end = polygon, np.roll(polygon, -1, axis=0)
    x, y = points[:, :1], points[:, 1:2]
    spans = (start[:, 1] > y) != (end[:, 1] > y)
    height = np.where(end[:, 1] == start[:, 1], 1.0, end[:, 1] - start[:, 1])
    crossing = start[:, 0] + (y - start[:, 1]) / height * (end[:, 0] - start[:, 0])
    return np.asarray((spans & (x < crossing)).sum(axis=1) % 2 == 1)


def smooth_step(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below low, 1 above high, cubic between."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def brow_mask(vertices: np.ndarray, points: np.ndarray, *, thickness: float = 1.0) -> np.ndarray:
    """How much each vertex belongs to the eyebrows, [V] in [0, 1]; full in the middle, thin at the temple."""
    scale = face_scale(points)
    result = np.zeros(len(vertices))
    for group in (BROW_RIGHT, BROW_LEFT):
        # Annotators put the brow points near the upper edge of the hair, so its middle lies a little lower.
        curve = smooth_curve(points[list(group)], closed=False) - np.array([0.0, 1.5 * scale, 0.0])
        distance, place = distance_to_curve(vertices, curve)
        half = scale * thickness * (2.2 + 2.6 * smooth_step(place, 0.0, 0.55))
        result = np.maximum(result, 1 - smooth_step(distance / half, 0.45, 1.35))
    return result


def lip_mask(vertices: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How much each vertex belongs to the red of the lips, [V] in [0, 1]."""
    scale = face_scale(points)
    outline = smooth_curve(points[list(OUTER_LIPS)], closed=True, samples=240)
    return smooth_step(depth_inside_outline(vertices, outline), -0.8 * scale, 0.8 * scale)


def eye_depth(vertices: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How far inside the opening between the lids each vertex lies, [V] in mm; negative outside."""
    outlines = [smooth_curve(points[list(group)], closed=True, samples=160) for group in (EYE_RIGHT, EYE_LEFT)]
    return np.maximum(*(depth_inside_outline(vertices, outline) for outline in outlines))


def landmark_regions(
    template: torch.Tensor, landmarks68: torch.Tensor, *, eyes: bool = True
) -> dict[str, torch.Tensor]:
    """Regions "lips", "brows", "eyes" (between the lids) and "skin" (the rest) of a template [V, 3], bool [V] each.

    eyes=False: the mesh has no eyeballs, so the region "eyes" is left out.
    """
    vertices = template.detach().cpu().double().numpy()
    points = vertices[landmarks68.cpu().numpy()]
    masks = {
        "lips": lip_mask(vertices, points) > 0.5,
        "brows": brow_mask(vertices, points) > 0.5,
    }
    if eyes:
        masks["eyes"] = eye_depth(vertices, points) > 0
    masks["skin"] = ~np.logical_or.reduce(list(masks.values()))
    return {name: torch.from_numpy(mask).to(template.device) for name, mask in masks.items()}
