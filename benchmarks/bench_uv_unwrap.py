"""uv_unwrap: facecore, the plain PyTorch definition, and what people write: gather and grid_sample, eager and compiled.

"grid_sample" decides visibility as facecore does; "grid_sample, point depth" compares the texel's own depth with the
buffer, which is less work and rejects more texels.
"""

from __future__ import annotations

import functools

import torch
from eager import sample_bilinear
from grid import bent_grid, to_clip
from harness import Suite, compiled

from facecore import ops, reference, reference_uv
from facecore.mesh import build_uv_map
from facecore.structures import Fragments, UVMap

Unwrapped = tuple[torch.Tensor, torch.Tensor]


def with_grid_sample(
    image: torch.Tensor, vertices_clip: torch.Tensor, uv_map: UVMap, fragments: Fragments, *, planes: bool
) -> Unwrapped:
    n, height, width = fragments.z_ndc.shape
    corners = uv_map.corners.reshape(-1, 3).long().clamp_min(0)
    corner = vertices_clip[:, corners]  # [N, P, 3, 4]
    q = (uv_map.barycentric.reshape(-1, 3, 1) * corner).sum(2)
    in_table = (uv_map.triangle_id.flatten() >= 0).unsqueeze(-1)
    ndc = q[..., :3] / torch.where(in_table, q[..., 3:], 1.0)  # grid_sample's gradient crashes where the grid is NaN
    texels = (uv_map.height, uv_map.width)
    with torch.no_grad():
        x, y, z = ndc.unbind(-1)
        inside = in_table.squeeze(-1) & (ndc.abs() <= 1).all(-1)
        det, slope_x, slope_y = reference_uv._planes(corner)
        u, v = 0.5 * width * (1 + x), 0.5 * height * (1 - y)
        if planes:
            slopes = slope_x / det * (2 / width), slope_y / det * (-2 / height)
            u, v = torch.where(inside, u, 0.5), torch.where(inside, v, 0.5)
            seen = reference_uv._is_seen(fragments, vertices_clip, uv_map, corners, u, v, z, slopes)
        else:
            pixel = v.long().clamp(0, height - 1) * width + u.long().clamp(0, width - 1)
            depths = vertices_clip[..., 2] / vertices_clip[..., 3]
            tolerance = 0.005 * (depths.amax(1, keepdim=True) - depths.amin(1, keepdim=True))
            seen = z <= fragments.z_ndc.view(n, -1).gather(1, pixel) + tolerance
        valid = (inside & (det > 0) & seen).view(n, *texels)
    colors = sample_bilinear(image, ndc[..., :2].view(n, *texels, 2))
    return torch.where(valid.unsqueeze(1), colors, 0.0), valid


def agree(got: Unwrapped, expected: Unwrapped) -> torch.Tensor:
    """Colours agree where both see the texel; the rules differ in up to a fifth of the texels."""
    both = got[1] & expected[1]
    assert int(both.sum()) >= 0.8 * int(expected[1].sum()), "fewer than 80 % of the texels are seen by both"
    torch.testing.assert_close(got[0] * both.unsqueeze(1), expected[0] * both.unsqueeze(1), rtol=0, atol=1e-4)
    return both.unsqueeze(1)


def make_inputs(
    device: torch.device,
    generator: torch.Generator,
    *,
    images: int,
    rows: int,
    columns: int,
    size: int,
    texels: int,
) -> tuple[object, ...]:
    """A noisy picture of the grid, turned to either side."""
    mesh = bent_grid(rows, columns)
    vertices_clip = to_clip(mesh, images).to(device)
    fragments = ops.rasterize(vertices_clip, mesh.triangles.to(device), size, size)
    image = torch.rand(images, 3, size, size, generator=generator).to(device).requires_grad_()
    return image, vertices_clip.requires_grad_(), build_uv_map(mesh, texels, texels).to(device), fragments


planes = functools.partial(with_grid_sample, planes=True)
point_depth = functools.partial(with_grid_sample, planes=False)
FACE = {"rows": 193, "columns": 193, "size": 224, "texels": 256}  # 37,249 vertices
suite = Suite(
    op="uv_unwrap",
    providers={
        "facecore": ops.uv_unwrap,
        "reference": reference.uv_unwrap,
        "grid_sample": planes,
        "grid_sample, point depth": point_depth,
        "torch.compile": compiled(planes),
        "torch.compile, point depth": compiled(point_depth),
    },
    cases={
        **{f"face_37k_224_b{images}": dict(images=images, **FACE) for images in (1, 8, 32)},
        "face_37k_256_b8": dict(images=8, **FACE | {"size": 256}),
        "face_37k_512_b8": dict(images=8, **FACE | {"size": 512, "texels": 512}),
        "face_5k_224_b8": dict(images=8, **FACE | {"rows": 71, "columns": 71}),
    },
    make_inputs=make_inputs,
    # A sample that rounding puts on the other side of a pixel's centre has the slope of another pair of pixels. In
    # float32 one of the half million texels of eight pictures is such (in float64 none: 1e-11), of one picture none.
    check_sizes=dict(images=1, **FACE),
    agree=agree,
)
bench_uv_unwrap = suite.benchmark()
