"""The definition of facecore.ops.rasterize in plain PyTorch: one triangle after the other, every pixel at once.

Which pixel sees which triangle is decided in float64 and 64-bit integers by single operations in a fixed order, so the
compiled kernels must agree bit for bit. The coverage rule:

1. A triangle is drawn when its indices are in range and its vertices are finite (at most 1e300) and not (0, 0, 0, 0).
2. When a vertex lies beyond a plane (|z| <= w, |x| <= 64 w, |y| <= 64 w), the triangle is clipped by all six planes in
   that order: near, far, left, right, bottom, top. A cut between an inner point a and an outer one b is
   a + (b - a) * d_a / (d_a - d_b), d = signed distance, on the weights of the points over the three corners.
   The polygon that is left is drawn as a fan around its first point.
3. A point is snapped to x = round(128 W (1 + x / w)), y = round(128 H (1 - y / w)), half to even; z = float32(z / w).
4. E_k = the edge function opposite to corner k, in integers, positive inside. A pixel centre (256 j + 128, 256 i + 128)
   is covered where all E_k > 0, or = 0 on a top edge or a left edge. Area 0 covers nothing.
5. The depth is float32(sum_k E_k (z_k / area)); the nearest wins, then the lowest triangle.
"""

from __future__ import annotations

import math

import torch

from facecore.structures import Fragments

_GUARD = 64.0
_SUBPIXEL, _HALF_PIXEL = 256, 128
_LARGEST = 1e300
_SMALLEST_S, _FARTHEST_FROM_HALF = 1e-9, 1.5

Point = list[float]  # four coordinates, or three weights


def rasterize(
    vertices_clip: torch.Tensor, triangles: torch.Tensor, height: int, width: int, *, cull_backfaces: bool = False
) -> Fragments:
    """Definition of facecore.ops.rasterize, differentiable in barycentric to any order through autograd."""
    image_list = vertices_clip.detach().double().cpu().tolist()
    ids, depths, snapped = [], [], []
    for image in image_list:
        target = _Target(height, width, cull_backfaces)
        for index, triangle in enumerate(triangles.cpu().tolist()):
            for piece in _pieces(image, triangle, height, width):
                target.draw(piece, index)
        ids.append(target.triangle_id)
        depths.append(target.z)
        snapped.append(target.barycentric)

    def stack(parts: list[torch.Tensor], shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        result = torch.stack(parts) if parts else torch.empty((0, *shape))
        return result.to(vertices_clip.device, dtype)

    triangle_id = stack(ids, (height, width), torch.int32)
    snapped_barycentric = stack(snapped, (height, width, 3), vertices_clip.dtype)
    z_ndc = stack(depths, (height, width), vertices_clip.dtype)
    return Fragments(triangle_id, barycentrics(vertices_clip, triangles, triangle_id, snapped_barycentric), z_ndc)


def barycentrics(
    vertices_clip: torch.Tensor,
    triangles: torch.Tensor,
    triangle_id: torch.Tensor,
    snapped: torch.Tensor | None = None,
) -> torch.Tensor:
    """Perspective-correct barycentrics [N, H, W, 3] of given triangles in closed form (METHODS 1.8), differentiable.

    M has the columns (x_k, y_k, w_k), p = (px, py, 1) is the pixel centre: b = adj(M) p over its sum. The vertices are
    moved by p first, which leaves adj(M) p as it is and avoids its cancellation. Zero where uncovered; `snapped`
    (default zero), without gradient, where |1/w| < 1e-9 or |b - 1/2| > 3/2: thinner than the snapping.
    """
    n, height, width = triangle_id.shape
    if triangles.shape[0] == 0 or triangle_id.numel() == 0 or vertices_clip.shape[1] == 0:
        return vertices_clip.new_zeros(n, height, width, 3) + 0.0 * vertices_clip.sum()
    corners = vertices_clip[
        torch.arange(n, device=triangle_id.device).view(n, 1, 1, 1), triangles.long()[triangle_id.clamp_min(0).long()]
    ]  # [N, H, W, 3, 4]
    column, row = (torch.arange(size, device=vertices_clip.device).to(vertices_clip.dtype) for size in (width, height))
    px = ((2 * column + 1 - width) / width).view(1, 1, width, 1)
    py = ((height - 1 - 2 * row) / height).view(1, height, 1, 1)
    x, y, w = corners[..., 0] - px * corners[..., 3], corners[..., 1] - py * corners[..., 3], corners[..., 3]
    edge = torch.stack([x[..., (k + 1) % 3] * y[..., (k + 2) % 3] - x[..., (k + 2) % 3] * y[..., (k + 1) % 3]
                        for k in range(3)], -1)  # fmt: skip
    total, determinant = edge.sum(-1, keepdim=True), (edge * w).sum(-1, keepdim=True)
    b = edge / torch.where(total == 0, torch.ones_like(total), total)
    regular = (total.abs() >= _SMALLEST_S * determinant.abs()) & (determinant != 0)
    regular = regular & ((b - 0.5).abs() <= _FARTHEST_FROM_HALF).all(-1, keepdim=True)
    covered = (triangle_id >= 0).unsqueeze(-1)
    fallback = torch.zeros_like(b) if snapped is None else snapped.detach()
    return torch.where(covered & regular, b, torch.where(covered, fallback, torch.zeros_like(b)))


def _distance(plane: int, point: Point) -> float:
    x, y, z, w = point
    return (w + z, w - z, _GUARD * w + x, _GUARD * w - x, _GUARD * w + y, _GUARD * w - y)[plane]


def _snap(point: Point, height: int, width: int) -> tuple[int, int, float] | None:
    if not point[3] > 0.0:
        return None
    inverse = 1.0 / point[3]
    x = (1.0 + point[0] * inverse) * (_HALF_PIXEL * width)
    y = (1.0 - point[1] * inverse) * (_HALF_PIXEL * height)
    z = point[2] * inverse
    if not (abs(x) <= 66.0 * _HALF_PIXEL * width and abs(y) <= 66.0 * _HALF_PIXEL * height and z == z):
        return None
    return round(x), round(y), torch.tensor(min(max(z, -1.0), 1.0), dtype=torch.float32).item()


def _clip(corners: list[Point]) -> list[Point]:
    """The convex polygon left by the planes, as weights over the corners; the corners when no plane cuts."""
    polygon = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    for plane in range(6):
        distances = [_distance(plane, _position(weight, corners)) for weight in polygon]
        kept: list[Point] = []
        for i, (current, distance) in enumerate(zip(polygon, distances)):
            previous, previous_distance = polygon[i - 1], distances[i - 1]
            if (distance >= 0) != (previous_distance >= 0):
                inner, outer = (current, previous) if distance >= 0 else (previous, current)
                d_in, d_out = max(distance, previous_distance), min(distance, previous_distance)
                t = d_in / (d_in - d_out)
                kept.append([a + t * (b - a) for a, b in zip(inner, outer)])
            if distance >= 0:
                kept.append(current)
        polygon = kept
    return polygon


def _position(weight: Point, corners: list[Point]) -> Point:
    return [weight[0] * a + weight[1] * b + weight[2] * c for a, b, c in zip(*corners)]


Piece = list[tuple[tuple[int, int, float], float, Point]]  # per point: snapped, w, weights over the corners


def _pieces(vertices: list[Point], triangle: list[int], height: int, width: int) -> list[Piece]:
    """The triangles that are drawn for one triangle: itself, the fan that clipping leaves, or nothing."""
    if min(triangle) < 0 or max(triangle) >= len(vertices):
        return []
    corners = [vertices[k] for k in triangle]
    if not all(math.isfinite(c) and abs(c) <= _LARGEST for corner in corners for c in corner):
        return []
    if [0.0] * 4 in corners:
        return []
    polygon = _clip(corners)
    points = []
    for weight in polygon:
        position = _position(weight, corners)
        points.append((_snap(position, height, width), position[3], weight))
    fan = [[points[0], points[i], points[i + 1]] for i in range(1, len(points) - 1)]
    return [piece for piece in fan if all(point[0] is not None for point in piece)]  # type: ignore[misc]


class _Target:
    """One picture being drawn."""

    def __init__(self, height: int, width: int, cull_backfaces: bool) -> None:
        self.cull_backfaces = cull_backfaces
        self.column = (torch.arange(width) * _SUBPIXEL + _HALF_PIXEL).view(1, width)
        self.row = (torch.arange(height) * _SUBPIXEL + _HALF_PIXEL).view(height, 1)
        self.triangle_id = torch.full((height, width), -1, dtype=torch.int32)
        self.z = torch.ones(height, width, dtype=torch.float32)
        self.barycentric = torch.zeros(height, width, 3, dtype=torch.float64)

    def draw(self, piece: Piece, index: int) -> None:
        (x, y, z), w, weights = zip(*[point[0] for point in piece]), [p[1] for p in piece], [p[2] for p in piece]
        doubled = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])
        if doubled == 0 or (self.cull_backfaces and doubled > 0):
            return
        sign = 1 if doubled > 0 else -1
        edges, covered = [], torch.ones_like(self.triangle_id, dtype=torch.bool)
        for k in range(3):
            a, b = (k + 1) % 3, (k + 2) % 3
            dx, dy = sign * (x[b] - x[a]), sign * (y[b] - y[a])
            edge = dx * (self.row - y[a]) - dy * (self.column - x[a])
            is_top_left = dy < 0 or (dy == 0 and dx > 0)
            covered &= edge >= (0 if is_top_left else 1)
            edges.append(edge.double())
        inverse = 1.0 / (sign * doubled)
        terms = [edges[k] * (z[k] * inverse) for k in range(3)]
        depth = ((terms[0] + terms[1]) + terms[2]).float()
        wins = covered & ((depth < self.z) | (self.triangle_id < 0))
        on_corner = sum(
            (edges[k] / w[k]).unsqueeze(-1) * torch.tensor(weights[k], dtype=torch.float64) for k in range(3)
        )
        assert isinstance(on_corner, torch.Tensor)
        self.barycentric[wins] = (on_corner / on_corner.sum(-1, keepdim=True))[wins]
        self.z[wins] = depth[wins]
        self.triangle_id[wins] = index
