"""Weak-perspective pose from corresponding points (METHODS 3, step 1)."""

from __future__ import annotations

import torch
from torch.nn import functional

from facecore.ops._library import check_tensor
from facecore.render.cameras import MEAN_SCALE, MM_PER_UNIT
from facecore.render.rotation import matrix_to_euler

MIN_AFFINE_POINTS = 5  # eyes, nose and mouth corners: ten numbers for the eight of an affine camera
_RIDGE = 1e-9
_TINY = 1e-12  # of lengths that are divided by


@torch.no_grad()
def fit_weak_perspective(
    points_mm: torch.Tensor, points_ndc: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Returns pose codes [N, 6] that project points_mm near points_ndc.

    Args:
        points_mm: float [N, P, 3], object frame. points_ndc: [N, P, 2], q of METHODS 1.3. weight: [N, P], 0 = unknown,
            whatever is there.

    With at least five weighted points: least-squares affine camera, then the nearest rotation. With fewer: scale,
    in-plane rotation and offset of a frontal face. Computed in float64, no gradient. Raises ValueError for wrong
    shapes, for negative weights and for fewer than two weighted points.
    """
    sizes = check_tensor("points_mm", points_mm, ("N", "P", 3))
    check_tensor("points_ndc", points_ndc, ("N", "P", 2), like=points_mm, sizes=sizes)
    weight = torch.ones_like(points_mm[..., 0]) if weight is None else weight
    check_tensor("weight", weight, ("N", "P"), like=points_mm, sizes=sizes)
    if bool((weight < 0).any()):
        raise ValueError("weight must not be negative")
    if bool(((weight > 0).sum(1) < 2).any()):
        raise ValueError("a pose needs at least two points with a weight above 0")
    known = (weight > 0)[..., None]
    points, target = torch.where(known, points_mm / MM_PER_UNIT, 0.0), torch.where(known, points_ndc, 0.0)
    rotation, scale, offset = nearest_pose(points.double(), target.double(), weight.double())
    return torch.cat([matrix_to_euler(rotation), (scale / MEAN_SCALE).log()[:, None], offset], 1).to(points_mm)


def nearest_pose(
    points: torch.Tensor, target: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same in any unit, unchecked: rotation [N, 3, 3], scale [N] (target units per point unit), offset [N, 2]."""
    share = weight / weight.sum(1, keepdim=True)
    centre, target_centre = _mean(points, share), _mean(target, share)
    x, q = points - centre[:, None], target - target_centre[:, None]
    enough = (weight > 0).sum(1) >= MIN_AFFINE_POINTS
    if bool(enough.all()):
        rotation, scale = _fit_affine(x, q, share)
    else:
        rotation, scale = _fit_in_plane(x, q, share)
        rotation[enough], scale[enough] = _fit_affine(x[enough], q[enough], share[enough])
    scale = scale.clamp_min(1e-6)
    return rotation, scale, target_centre - scale[:, None] * (rotation @ centre[..., None])[:, :2, 0]


def _mean(points: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    return torch.einsum("np,npc->nc", share, points)


def _fit_affine(x: torch.Tensor, q: torch.Tensor, share: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotation [N, 3, 3] and scale [N] next to the affine maps of centred points [N, P, 3] to [N, P, 2]."""
    weighted = (share[..., None] * x).mT
    normal = weighted @ x
    ridge = _RIDGE * normal.diagonal(dim1=1, dim2=2).sum(1)
    normal.diagonal(dim1=1, dim2=2).add_(ridge[:, None])
    rows = torch.linalg.solve(normal, weighted @ q).mT  # [N, 2, 3]
    length = rows.norm(dim=2)
    return _nearest_rotation(rows / length.clamp_min(_TINY)[..., None]), length.mean(1)


def _nearest_rotation(rows: torch.Tensor) -> torch.Tensor:
    """The rotations [N, 3, 3] nearest to two rows of length 1, [N, 2, 3], and their cross product.

    The polar factor in closed form: the sum and the difference of the rows are perpendicular.
    """
    first, second = rows.unbind(1)
    total = _direction(first + second, torch.eye(3).to(rows)[0].expand_as(first))
    least = functional.one_hot(total.abs().argmin(1), 3).to(rows)
    other = functional.normalize(least - (least * total).sum(1, keepdim=True) * total, dim=1)
    difference = first - second
    difference = _direction(difference - (difference * total).sum(1, keepdim=True) * total, other)
    first, second = (total + difference) * 0.5**0.5, (total - difference) * 0.5**0.5
    return torch.stack([first, second, torch.linalg.cross(first, second)], 1)


def _direction(vector: torch.Tensor, otherwise: torch.Tensor) -> torch.Tensor:
    """Vectors [N, 3] of length 1; `otherwise` where there is no direction: points on a line leave a turn open."""
    length = vector.norm(dim=1, keepdim=True)
    return torch.where(length > 1e-6, vector / length.clamp_min(_TINY), otherwise)


def _fit_in_plane(x: torch.Tensor, q: torch.Tensor, share: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same for a frontal face: the complex ratio of the two planar patterns."""
    z, w = torch.complex(x[..., 0], x[..., 1]), torch.complex(q[..., 0], q[..., 1])
    ratio = (share * w * z.conj()).sum(1) / (share * z.abs().square()).sum(1).clamp_min(_TINY)
    cos, sin = ratio.angle().cos(), ratio.angle().sin()
    rotation = torch.eye(3).to(x).repeat(len(x), 1, 1)
    rotation[:, 0, 0], rotation[:, 0, 1], rotation[:, 1, 0], rotation[:, 1, 1] = cos, -sin, sin, cos
    return rotation, ratio.abs()
