"""Weak-perspective pose from corresponding points (METHODS 3, step 1)."""

from __future__ import annotations

import torch

from facecore.ops._library import check_tensor
from facecore.render.cameras import MEAN_SCALE, MM_PER_UNIT
from facecore.render.rotation import matrix_to_euler

MIN_AFFINE_POINTS = 6  # below, the affine fit has too few residuals to tell a turn of the head from noise
_RIDGE = 1e-9


def fit_weak_perspective(
    points_mm: torch.Tensor, points_ndc: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Returns pose codes [N, 6] that project points_mm near points_ndc.

    Args:
        points_mm: float [N, P, 3], object frame. points_ndc: [N, P, 2], q of METHODS 1.3. weight: [N, P], 0 = unknown.

    With at least six weighted points: least-squares affine camera, then the nearest rotation. With fewer: scale,
    in-plane rotation and offset of a frontal face. Computed in float64, no gradient. Raises ValueError for wrong
    shapes and for fewer than two weighted points.
    """
    sizes = check_tensor("points_mm", points_mm, ("N", "P", 3))
    check_tensor("points_ndc", points_ndc, ("N", "P", 2), like=points_mm, sizes=sizes)
    weight = torch.ones_like(points_mm[..., 0]) if weight is None else weight
    check_tensor("weight", weight, ("N", "P"), like=points_mm, sizes=sizes)
    if bool(((weight > 0).sum(1) < 2).any()):
        raise ValueError("a pose needs at least two points with a weight above 0")
    poses = [_fit_one(*(t.detach().double() for t in row)) for row in zip(points_mm / MM_PER_UNIT, points_ndc, weight)]
    return torch.stack(poses).to(points_mm) if poses else points_mm.new_zeros(0, 6)


def _fit_one(points: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    share = (weight / weight.sum())[:, None]
    centre, target_centre = (share * points).sum(0), (share * target).sum(0)
    x, q = points - centre, target - target_centre
    if int((weight > 0).sum()) >= MIN_AFFINE_POINTS:
        normal = x.T @ (share * x)
        affine = torch.linalg.solve(
            normal + _RIDGE * normal.diagonal().sum() * torch.eye(3).to(normal), x.T @ (share * q)
        )
        rows = affine.T  # [2, 3]
        scale = rows.norm(dim=1).mean()
        first, second = (row / row.norm().clamp_min(1e-12) for row in rows)
        u, _, vt = torch.linalg.svd(torch.stack([first, second, torch.linalg.cross(first, second)]))
        one = torch.ones_like(scale)
        rotation = u @ torch.diag(torch.stack([one, one, torch.det(u @ vt)])) @ vt
    else:  # complex ratio of the two planar patterns
        z, w = torch.complex(x[:, 0], x[:, 1]), torch.complex(q[:, 0], q[:, 1])
        ratio = (share[:, 0] * w * z.conj()).sum() / (share[:, 0] * z.abs().square()).sum().clamp_min(1e-12)
        scale, angle = ratio.abs(), ratio.angle()
        cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
        rotation = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one]).view(3, 3)
    scale = scale.clamp_min(1e-6)
    offset = target_centre - scale * (rotation @ centre)[:2]
    return torch.cat([matrix_to_euler(rotation[None])[0], (scale / MEAN_SCALE).log()[None], offset])
