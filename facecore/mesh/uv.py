"""Texture layouts: a cylinder's, a mesh's own with seams, and the table from texels to the mesh (METHODS 1.9)."""

from __future__ import annotations

import torch

from facecore import ops
from facecore.mesh.mesh import Mesh
from facecore.ops.rasterize import MAX_SIZE
from facecore.structures import UVMap


def cylindrical_uv(mesh: Mesh) -> torch.Tensor:
    """Cylindrical texture coordinates of a face region in the object frame: float32 [V, 2] in [0, 1], v upwards.

    theta = atan2(x, z - min z), u = 1/2 + theta / (2 max|theta|), v = (y - min y) / (max y - min y). The axis is
    vertical through x = 0, the plane of symmetry, at the depth of the rearmost vertex; mirrored vertices have
    mirrored u. A whole head would fold over itself: crop it first. Deterministic. Raises ValueError for a mesh
    without height or width.
    """
    x, y, z = mesh.vertices.double().unbind(1)
    angle = torch.atan2(x, z - z.min())
    widest, height = angle.abs().max(), y.max() - y.min()
    if widest == 0 or height == 0:
        raise ValueError("mesh must extend in x and y to be unwrapped on a cylinder; check its axes (y up, z forward)")
    return torch.stack([0.5 + angle / (2.0 * widest), (y - y.min()) / height], dim=1).float()


def build_uv_map(
    mesh: Mesh,
    height: int = 256,
    width: int = 256,
    *,
    uv: torch.Tensor | None = None,
    uv_triangles: torch.Tensor | None = None,
) -> UVMap:
    """The triangle and the barycentrics at each texel of a texture, for facecore.ops.uv_unwrap; computed once.

    Args:
        mesh: gives the triangles, and the vertices that decide overlaps.
        height, width: of the texture, 1 to 16384 texels.
        uv: texture coordinates, floating point [M, 2], v upwards. None: mesh.uv, or without that cylindrical_uv(mesh).
        uv_triangles: rows of uv at each corner, any integer type [T, 3], for layouts with seams, in which a vertex has
            several places (the `f v/vt` of an OBJ file). None: uv has one row per vertex, M = V.

    Where the layout lies over itself (nostrils, mouth) a texel shows the point farthest from the cylinder's axis
    (x = 0, z = min z), then the lowest triangle. Parts outside of [0, 1] and triangles without area in the layout have
    no texel. Computed in float64, kept in float32 (UVMap.to changes that), on the mesh's device. Not differentiable.
    Deterministic, the same on every device. Raises ValueError for a wrong size, shape, dtype or device, an index out of
    range, NaN or infinity, and a layout without any texel. METHODS 1.9.
    """
    for name, size in (("height", height), ("width", width)):
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_SIZE:
            raise ValueError(f"{name} must be an int from 1 to {MAX_SIZE}, got {size!r}")
    if height * width >= 2**31 // 3:  # UVMap.vertex_texels counts to 3 * texels in int32
        raise ValueError(f"height * width must be below {2**31 // 3} texels, got {height} x {width}")
    uv, uv_triangles = _checked_layout(mesh, uv, uv_triangles)
    on_texture = _layout_in_clip_space(mesh, uv.double(), uv_triangles)
    corner_triangles = torch.arange(3 * mesh.num_triangles, dtype=torch.int32, device=mesh.device).view(-1, 3)
    fragments = ops.rasterize(on_texture, corner_triangles, height, width)
    triangle_id = fragments.triangle_id[0]
    filled = triangle_id >= 0
    if not bool(filled.any()):
        raise ValueError(f"uv must cover the centre of a texel, but none of {height} x {width} is covered")
    corners = torch.where(filled[..., None], mesh.triangles[triangle_id.clamp_min(0).long()], -1)
    vertex_start, vertex_texels = _texels_of_vertices(corners, mesh.num_vertices)
    return UVMap(
        triangle_id,
        _as_planes(fragments.barycentric[0].float()),
        mesh.triangles,
        uv,
        uv_triangles,
        _as_planes(corners),
        vertex_start,
        vertex_texels,
    )


def mirror_texture(texture: torch.Tensor) -> torch.Tensor:
    """The texture of the mirrored face, [..., Hu, Wu]: left and right exchanged, A(Wu - 1 - x, y) (METHODS 1.9).

    Exact for layouts symmetric about u = 1/2, as cylindrical_uv is on a symmetric mesh; another layout would show other
    points. Differentiable. Deterministic. Raises ValueError for fewer than two dimensions.
    """
    if texture.ndim < 2:
        raise ValueError(f"texture must have shape [..., Hu, Wu], got {list(texture.shape)}")
    return texture.flip(-1)


def _checked_layout(
    mesh: Mesh, uv: torch.Tensor | None, uv_triangles: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """uv as float32 [M, 2] and uv_triangles as int32 [T, 3], in range."""
    if uv is None:
        if uv_triangles is not None:
            raise ValueError("uv_triangles must come with the uv that it indexes, got uv=None")
        uv = cylindrical_uv(mesh) if mesh.uv is None else mesh.uv
    uv = torch.as_tensor(uv)
    if uv.ndim != 2 or uv.shape[1] != 2 or not uv.is_floating_point():
        raise ValueError(f"uv must be floating point [M, 2], got {uv.dtype} {list(uv.shape)}")
    uv = uv.detach().float().contiguous()
    if not bool(torch.isfinite(uv).all()):
        raise ValueError("uv must be finite, got NaN or infinity")
    if uv_triangles is None and uv.shape[0] != mesh.num_vertices:
        raise ValueError(
            f"uv must have one row per vertex, [{mesh.num_vertices}, 2], got {list(uv.shape)}; a layout with seams "
            "needs uv_triangles"
        )
    uv_triangles = mesh.triangles if uv_triangles is None else torch.as_tensor(uv_triangles)
    if uv_triangles.shape != mesh.triangles.shape or uv_triangles.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            f"uv_triangles must be integers {list(mesh.triangles.shape)}, one row per triangle, got "
            f"{uv_triangles.dtype} {list(uv_triangles.shape)}"
        )
    for name, tensor in (("uv", uv), ("uv_triangles", uv_triangles)):
        if tensor.device != mesh.device:
            raise ValueError(f"{name} must be on {mesh.device} like the mesh, got {tensor.device}")
    low, high = int(uv_triangles.min()), int(uv_triangles.max())
    if low < 0 or high >= uv.shape[0]:
        raise ValueError(f"uv_triangles must index rows 0 to {uv.shape[0] - 1} of uv, got {low} to {high}")
    return uv, uv_triangles.int().contiguous()


def _layout_in_clip_space(mesh: Mesh, uv: torch.Tensor, uv_triangles: torch.Tensor) -> torch.Tensor:
    """The corners of every triangle laid out on the texture, float64 [1, 3 T, 4]; nearer = farther from the axis."""
    x, _, z = mesh.vertices.double().unbind(1)
    radius = torch.hypot(x, z - z.min())
    depth = -radius / radius.max().clamp_min(1e-30)  # 0 on the axis, -1 at the largest radius
    corner_uv = uv[uv_triangles.flatten().long()]
    corner_depth = depth[mesh.triangles.flatten().long()]
    return torch.stack(
        [2 * corner_uv[:, 0] - 1, 2 * corner_uv[:, 1] - 1, corner_depth, torch.ones_like(corner_depth)], dim=1
    ).unsqueeze(0)


def _texels_of_vertices(corners: torch.Tensor, num_vertices: int) -> tuple[torch.Tensor, torch.Tensor]:
    """vertex_start and vertex_texels of UVMap from its corners."""
    vertices = corners.flatten()
    entries = torch.nonzero(vertices >= 0).flatten()
    vertex, order = torch.sort(vertices[entries], stable=True)
    bounds = torch.arange(num_vertices + 1, dtype=torch.int32, device=corners.device)
    return torch.searchsorted(vertex, bounds).int(), entries[order].int()


def _as_planes(table: torch.Tensor) -> torch.Tensor:
    """The same [Hu, Wu, 3] with the last dimension slowest in memory."""
    return table.permute(2, 0, 1).contiguous().permute(1, 2, 0)
