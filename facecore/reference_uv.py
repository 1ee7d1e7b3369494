"""The definitions of facecore.ops.uv_sample and facecore.ops.uv_unwrap in plain PyTorch (METHODS 1.9)."""

from __future__ import annotations

import torch

from facecore.structures import Fragments, UVMap

_TOLERANCE = 0.005  # of the mesh's depth range
_SLOPE = 0.1  # of the depth range per pixel and axis: steeper planes are taken as this steep


def uv_sample(texture: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
    """Definition of facecore.ops.uv_sample: [N, V, C] or [N, H, W, C]."""
    n, c, height, width = texture.shape
    place = uv if uv.ndim > 2 else uv.unsqueeze(0)
    points = place.reshape(place.shape[0], place.shape[1:-1].numel(), 2).expand(n, -1, 2)
    known = ~points.isnan().any(-1)
    u, v = torch.where(known.unsqueeze(-1), points, 0.5).unbind(-1)
    colors = _bilinear(texture, u * width, (1 - v) * height)
    colors = torch.where(known.unsqueeze(1), colors, colors.new_zeros(()))
    return colors.transpose(1, 2).reshape(n, *place.shape[1:-1], c)


def uv_unwrap(
    image: torch.Tensor, vertices_clip: torch.Tensor, uv_map: UVMap, fragments: Fragments | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Definition of facecore.ops.uv_unwrap: texture [N, C, Hu, Wu], valid bool [N, Hu, Wu]."""
    n, c, height, width = image.shape
    texture_size = (uv_map.height, uv_map.width)
    if n * height * width * vertices_clip.shape[1] == 0:
        empty = torch.zeros(n, *texture_size, dtype=torch.bool, device=image.device)
        return image.new_zeros(n, c, *texture_size), empty
    in_table = (uv_map.triangle_id >= 0).flatten()  # [P]
    corners = uv_map.corners.reshape(-1, 3).long().clamp_min(0)  # [P, 3]
    corner = vertices_clip[:, corners]  # [N, P, 3, 4]
    q = (uv_map.barycentric.reshape(-1, 3, 1) * corner).sum(2)  # [N, P, 4]
    w = q[..., 3]
    in_front = in_table & (w > 0) & w.isfinite()  # x / inf would be the middle of the picture
    x, y, z = (q[..., k] / torch.where(in_front, w, 1.0) for k in range(3))
    u, v = 0.5 * width * (1 + x), 0.5 * height * (1 - y)
    inside = in_front & (z.abs() <= 1) & (u >= 0) & (u <= width) & (v >= 0) & (v <= height)
    u, v = torch.where(inside, u, 0.5), torch.where(inside, v, 0.5)
    with torch.no_grad():
        det, slope_x, slope_y = _planes(corner.detach())
        valid = inside & (det > 0)
        if fragments is not None:
            slopes = slope_x / det * (2 / width), slope_y / det * (-2 / height)  # of z_ndc, per pixel
            valid = valid & _is_seen(fragments, vertices_clip, uv_map, corners, u, v, z, slopes)
    colors = torch.where(valid.unsqueeze(1), _bilinear(image, u, v), image.new_zeros(()))
    return colors.reshape(n, c, *texture_size), valid.reshape(n, *texture_size)


def _planes(corner: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """det (x_k, y_k, w_k), > 0 for triangles that face the camera, and det times the slopes of z_ndc in NDC x and y."""
    first = corner[..., 0, :]
    a, b = corner[..., 1, :] - first, corner[..., 2, :] - first
    xyw = [0, 1, 3]
    normal = torch.linalg.cross(a[..., xyw], b[..., xyw])
    det = (first[..., xyw] * normal).sum(-1)
    slope = (
        first[..., 2:3] * normal
        + a[..., 2:3] * torch.linalg.cross(b[..., xyw], first[..., xyw])
        + b[..., 2:3] * torch.linalg.cross(first[..., xyw], a[..., xyw])
    )
    return det, slope[..., 0], slope[..., 1]


def _is_seen(
    fragments: Fragments,
    vertices_clip: torch.Tensor,
    uv_map: UVMap,
    corners: torch.Tensor,
    u: torch.Tensor,
    v: torch.Tensor,
    z: torch.Tensor,
    slopes: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Whether nothing nearer than the tolerance, and not a neighbour, is in the depth buffer at the texel's pixel."""
    n, height, width = fragments.z_ndc.shape
    column, row = u.floor().clamp_max(width - 1), v.floor().clamp_max(height - 1)
    pixel = (row * width + column).long()  # [N, P]
    depth_range = _depth_range(vertices_clip)
    slope_u, slope_v = (torch.minimum(torch.maximum(s, -_SLOPE * depth_range), _SLOPE * depth_range) for s in slopes)
    at_centre = z - slope_u * (u - column - 0.5) - slope_v * (v - row - 0.5)
    buffered = fragments.z_ndc.reshape(n, -1).gather(1, pixel)
    nearest = fragments.triangle_id.reshape(n, -1).gather(1, pixel)
    known = (nearest >= 0) & (nearest < uv_map.triangles.shape[0])
    there = uv_map.triangles[torch.where(known, nearest, 0).long()]  # [N, P, 3]
    touching = known & (there.unsqueeze(-1) == corners.unsqueeze(-2)).flatten(-2).any(-1)
    return (at_centre <= buffered + _TOLERANCE * depth_range) | touching


def _depth_range(vertices_clip: torch.Tensor) -> torch.Tensor:
    """[N, 1]: largest minus smallest z_ndc of the vertices in front of the camera and in [-1, 1]; 0 without any."""
    z, w = vertices_clip.detach()[..., 2], vertices_clip.detach()[..., 3]
    z = z / w
    counts = (w > 0) & (z >= -1) & (z <= 1)
    high = torch.where(counts, z, -2.0).amax(1, keepdim=True)
    low = torch.where(counts, z, 2.0).amin(1, keepdim=True)
    return (high - low).clamp_min(0)


def _bilinear(picture: torch.Tensor, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """picture [N, C, H, W] at positions u, v [N, P] in pixels, centres at + 0.5, the border continued: [N, C, P]."""
    n, c, height, width = picture.shape
    u, v = u.clamp(0.0, float(width)) - 0.5, v.clamp(0.0, float(height)) - 0.5
    left, top = u.detach().floor(), v.detach().floor()
    planes = picture.flatten(2)

    def pixels(row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        index = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
        return planes.gather(2, index.unsqueeze(1).expand(n, c, -1))

    along, down = (u - left).unsqueeze(1), (v - top).unsqueeze(1)
    upper = pixels(top, left) * (1 - along) + pixels(top, left + 1) * along
    lower = pixels(top + 1, left) * (1 - along) + pixels(top + 1, left + 1) * along
    return upper * (1 - down) + lower * down
