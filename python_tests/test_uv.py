"""UV layouts and tables, and textures to pictures and back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from meshes import grid, sphere

from facecore import ops
from facecore.mesh import Mesh, build_uv_map, cylindrical_uv, mirror_texture
from facecore.morphable import load
from facecore.render import WeakPerspectiveCamera
from facecore.structures import Fragments, UVMap

SIZE = 224  # of the pictures, pixels


def unit_square():
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    return Mesh(vertices, torch.tensor([[0, 1, 2], [0, 2, 3]]), uv=vertices[:, :2])


def test_table_by_hand():
    """Rows go down from v = 1; (u, v) of the centres are the square's own x and y."""
    table = build_uv_map(unit_square(), 3, 4)
    assert (table.height, table.width, table.num_vertices, table.dtype) == (3, 4, 4, torch.float32)
    u = (torch.arange(4) + 0.5) / 4
    v = 1 - (torch.arange(3) + 0.5) / 3
    expected_id = (u.view(1, 4) < v.view(3, 1)).int()
    off_diagonal = (u.view(1, 4) - v.view(3, 1)).abs() > 1e-6
    assert torch.equal(table.triangle_id[off_diagonal], expected_id[off_diagonal])
    place = (table.barycentric.unsqueeze(-1) * unit_square().vertices[table.corners.long()]).sum(2)
    torch.testing.assert_close(place[..., 0], u.view(1, 4).expand(3, 4), rtol=0, atol=1e-6)
    torch.testing.assert_close(place[..., 1], v.view(3, 1).expand(3, 4), rtol=0, atol=1e-6)


def test_tables_fit_together():
    mesh = sphere(2)
    front = Mesh(mesh.vertices, mesh.triangles[(mesh.vertices[:, 2] > -20)[mesh.triangles.long()].all(1)])
    table = build_uv_map(front, 31, 45)
    filled = table.triangle_id >= 0
    assert 0.2 < float(filled.float().mean()) < 0.9
    assert torch.equal(table.corners[filled], front.triangles[table.triangle_id[filled].long()])
    assert (table.corners[~filled] == -1).all() and (table.barycentric[~filled] == 0).all()
    torch.testing.assert_close(table.barycentric.sum(-1), filled.float(), rtol=0, atol=1e-6)
    assert table.vertex_start[-1] == 3 * filled.sum() == len(table.vertex_texels)
    flat = table.corners.flatten()
    for vertex in (0, 40, 100, 161):
        entries = table.vertex_texels[table.vertex_start[vertex] : table.vertex_start[vertex + 1]]
        assert entries.tolist() == torch.nonzero(flat == vertex).flatten().tolist()
    moved = table.to(dtype=torch.float64)
    assert moved.dtype == torch.float64 and moved.triangle_id.dtype == torch.int32
    assert moved.barycentric.stride() == table.barycentric.stride() == (45, 1, 31 * 45)


def test_overlaps_show_the_largest_radius():
    """Two sheets over one another in the layout: 5 and 7 from the axis, in either order."""
    for order in (1, -1):
        low, high = [5.0, 7.0][::order]
        base = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]])
        points = torch.cat([torch.cat((base, torch.full((4, 1), z)), 1) for z in (low, high)])
        axis = torch.tensor([[0.0, 0, 0], [0, 1, 0], [0.1, 0, 0]])  # z = 0 is the smallest; a triangle of no UV area
        triangles = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7], [8, 9, 10]])
        uv = torch.cat((base, base, torch.zeros(3, 2)))
        mesh = Mesh(torch.cat((points, axis)), triangles, fix_winding=False)
        table = build_uv_map(mesh, 8, 8, uv=uv)
        shown = {0, 1} if low > high else {2, 3}
        assert set(table.triangle_id.unique().tolist()) == shown


def test_seams():
    """A closed strip: its first edge lies at u = 0 and again at u = 1, so it has two rows of uv."""
    sides = 6
    angle = torch.arange(sides) * (2 * math.pi / sides)
    ring = torch.stack((angle.sin(), torch.zeros(sides), angle.cos()), 1)
    vertices = torch.cat((ring, ring + torch.tensor([0.0, 1.0, 0.0])))
    uv = torch.cat([torch.stack((torch.arange(sides + 1) / sides, torch.full((sides + 1,), v)), 1) for v in (0.0, 1.0)])
    corners, uv_corners = [], []
    for k in range(sides):
        n = (k + 1) % sides
        corners += [[k, n, sides + n], [k, sides + n, sides + k]]
        uv_corners += [[k, k + 1, sides + 2 + k], [k, sides + 2 + k, sides + 1 + k]]
    mesh = Mesh(vertices, torch.tensor(corners))
    table = build_uv_map(mesh, 4, 60, uv=uv, uv_triangles=torch.tensor(uv_corners))
    assert (table.triangle_id >= 0).all()
    place = (table.barycentric.unsqueeze(-1) * mesh.vertices[table.corners.long()]).sum(2)
    column = torch.arange(60)
    middle = column % 10  # along a side; the ends of a side lie on the circle of radius 1
    start, end = ring[column // 10], ring[(column // 10 + 1) % sides]
    expected = start + ((middle + 0.5) / 10).unsqueeze(1) * (end - start)
    torch.testing.assert_close(place[0][:, [0, 2]], expected[:, [0, 2]], rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"uv must have one row per vertex, \[12, 2\], got \[14, 2\]"):
        build_uv_map(mesh, uv=uv)


def test_layout_of_the_mesh_or_the_cylinder():
    mesh = sphere(2)
    front = Mesh(mesh.vertices, mesh.triangles[(mesh.vertices[:, 2] > 0)[mesh.triangles.long()].all(1)])
    by_default = build_uv_map(front, 16, 16)
    assert torch.equal(by_default.uv, cylindrical_uv(front))
    own = Mesh(front.vertices, front.triangles, uv=0.5 * cylindrical_uv(front))
    assert not (build_uv_map(own, 16, 16).triangle_id[:8] >= 0).any()  # v below 1/2: the lower half only
    beyond = build_uv_map(own, 16, 16, uv=3 * cylindrical_uv(front) - 1)  # what lies outside has no texel
    assert (beyond.triangle_id >= 0).all()


def test_bad_layouts_are_refused():
    mesh = grid(2, 2)
    uv = mesh.vertices[:, :2] / 2
    triangles = mesh.triangles
    cases = [
        ({"height": 0}, "height must be an int from 1 to 16384, got 0"),
        ({"width": 2.5}, "width must be an int from 1 to 16384, got 2.5"),
        ({"uv": uv[:, :1]}, r"uv must be floating point \[M, 2\], got torch.float32 \[9, 1\]"),
        ({"uv": uv.int()}, r"uv must be floating point \[M, 2\], got torch.int32"),
        ({"uv": uv * math.nan}, "uv must be finite"),
        ({"uv_triangles": triangles}, "uv_triangles must come with the uv that it indexes"),
        (
            {"uv": uv, "uv_triangles": triangles[1:]},
            r"uv_triangles must be integers \[8, 3\], one row per triangle, got",
        ),
        ({"uv": uv, "uv_triangles": triangles.float()}, r"uv_triangles must be integers .* got torch.float32"),
        ({"uv": uv, "uv_triangles": triangles + 1}, "uv_triangles must index rows 0 to 8 of uv, got 1 to 9"),
        ({"uv": uv + 5}, "uv must cover the centre of a texel, but none of 256 x 256 is covered"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            build_uv_map(mesh, **options)


def test_mirror_texture():
    """The mirror image of a symmetric view of a symmetric mesh unwraps to the mirrored texture."""
    flat = grid(4, 4)
    uv = flat.vertices[:, :2] / 4
    vertices_clip = torch.cat((2 * uv - 1, torch.zeros(25, 1), torch.ones(25, 1)), 1).unsqueeze(0)
    uv_map = build_uv_map(flat, 10, 14, uv=uv)
    image = torch.rand(1, 3, 16, 12, generator=torch.Generator().manual_seed(1))
    (front, valid), (mirrored, _) = (ops.uv_unwrap(x, vertices_clip, uv_map) for x in (image, image.flip(-1)))
    assert valid.all()
    torch.testing.assert_close(mirrored, mirror_texture(front), rtol=0, atol=1e-5)  # places to 1e-6 of 12 pixels
    texture = torch.arange(6.0).view(1, 2, 3)
    assert mirror_texture(texture).tolist() == [[[2, 1, 0], [5, 4, 3]]]
    assert torch.equal(mirror_texture(mirror_texture(texture)), texture)
    with pytest.raises(ValueError, match=r"texture must have shape \[..., Hu, Wu\], got \[4\]"):
        mirror_texture(torch.zeros(4))


# -- Round trips -------------------------------------------------------------------------------------------------------


def smooth_texture(texels):
    """[1, 3, texels, texels] in [0, 1], waves a fifth of the texture long."""
    v, u = torch.meshgrid(torch.linspace(0, 1, texels), torch.linspace(0, 1, texels), indexing="ij")
    waves = [torch.sin(30 * u + k) * torch.cos(26 * v - k) for k in range(3)]
    return 0.5 + 0.4 * torch.stack(waves).unsqueeze(0)


def render(texture: torch.Tensor, uv_map: UVMap, fragments: Fragments) -> torch.Tensor:
    """[1, 3, H, W] in texture mode: uv interpolated per pixel, and the texture sampled there (METHODS 1.9)."""
    uv = ops.interpolate(uv_map.uv.unsqueeze(0), uv_map.uv_triangles, fragments.triangle_id, fragments.barycentric)
    covered = (fragments.triangle_id >= 0).unsqueeze(-1)
    return torch.where(covered, ops.uv_sample(texture, uv), 0.0).permute(0, 3, 1, 2)


def view(mesh: Mesh, yaw_degrees: float) -> tuple[torch.Tensor, Fragments]:
    pose = torch.tensor([[0.05, math.radians(yaw_degrees), 0.0, 0.0, 0.0, 0.0]])
    vertices_clip = WeakPerspectiveCamera.from_pose(pose, SIZE, SIZE).to_clip(mesh.vertices.unsqueeze(0))
    return vertices_clip, ops.rasterize(vertices_clip, mesh.triangles, SIZE, SIZE)


def truly_visible(vertices_clip: np.ndarray, triangles: np.ndarray, points: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Whether the ray along z to each of `points` [P, 3] (w = 1) meets no triangle but its own [P] before the point.

    Exact up to 1e-5 of the depth, in float64; rays in order of x, so that a block of them meets few triangles.
    """
    corners = vertices_clip[triangles][..., :3]
    low, high = corners[..., 0].min(1), corners[..., 0].max(1)
    visible = np.empty(len(points), dtype=bool)
    for block in np.array_split(np.argsort(points[:, 0]), max(1, len(points) // 64)):
        x, y, z = points[block].T[:, :, None]
        near = np.nonzero((high >= x.min()) & (low <= x.max()))[0]
        a, b, c = corners[near].transpose(1, 0, 2)

        def edge(p: np.ndarray, q: np.ndarray) -> np.ndarray:
            return (q[:, 0] - p[:, 0]) * (y - p[:, 1]) - (q[:, 1] - p[:, 1]) * (x - p[:, 0])  # noqa: B023

        weights = edge(b, c), edge(c, a), edge(a, b)
        total = sum(weights)
        inside = np.logical_or(
            np.logical_and.reduce([w >= 0 for w in weights]), np.logical_and.reduce([w <= 0 for w in weights])
        ) & (total != 0)
        depth = sum(w * corner[:, 2] for w, corner in zip(weights, (a, b, c))) / np.where(total == 0, 1, total)
        hidden = inside & (depth < z - 1e-5) & (near != own[block, None])
        visible[block] = ~hidden.any(1)
    return visible


@pytest.fixture(scope="module")
def ict(data_dir) -> Mesh:
    return load(data_dir / "ict_facekit.npz", albedo=None).mesh


@pytest.fixture(scope="module", params=["cylinder", "own"])
def ict_map(ict, request) -> UVMap:
    return build_uv_map(ict, uv=cylindrical_uv(ict) if request.param == "cylinder" else None)


@pytest.mark.parametrize("yaw", [0, 30, 60])
def test_round_trip_on_the_ict_face(ict, ict_map, yaw):
    """A picture in texture mode, unwrapped, drawn again: the picture and the texture come back (issue 3)."""
    texture = smooth_texture(256)
    vertices_clip, fragments = view(ict, yaw)
    picture = render(texture, ict_map, fragments)
    unwrapped, valid = ops.uv_unwrap(picture, vertices_clip, ict_map, fragments)
    assert int(valid.sum()) > 15_000
    again = render(unwrapped, ict_map, fragments)
    covered = fragments.triangle_id >= 0  # every pixel, those beside invalid texels too; measured 1.1 to 1.6 / 255
    assert float((again - picture).abs().mean(1)[covered].mean()) < 2 / 255
    # 5 to 7 % of the visible texels lie within half a pixel of the outline, where bilinear samples mix in background
    alpha, _ = ops.uv_unwrap(covered.float().unsqueeze(1), vertices_clip, ict_map, fragments)
    on_the_face = valid & (alpha[:, 0] > 0.999)
    assert float(on_the_face.sum() / valid.sum()) > 0.92
    assert float((unwrapped - texture).abs().mean(1)[on_the_face].mean()) < 2 / 255  # measured 0.4 to 1.4 / 255


@pytest.mark.parametrize("yaw", [0, 30, 60])
def test_visibility_on_the_ict_face_by_ray_casting(ict, ict_map, yaw):
    """At least 97 % of what rays see is valid (issue 3), and little that they do not see."""
    vertices_clip, fragments = view(ict, yaw)
    _, valid = ops.uv_unwrap(torch.zeros(1, 1, SIZE, SIZE), vertices_clip, ict_map, fragments)
    filled = torch.nonzero(ict_map.triangle_id.flatten() >= 0).flatten()
    some = filled[torch.randperm(len(filled), generator=torch.Generator().manual_seed(yaw))[:2000]]
    corners = vertices_clip[0][ict_map.corners.reshape(-1, 3)[some].long()].double()  # [P, 3, 4]
    points = (ict_map.barycentric.reshape(-1, 3, 1)[some].double() * corners).sum(1)
    a, b, c = corners[..., :2].unbind(1)
    facing = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0] > 0
    own = ict_map.triangle_id.flatten()[some]
    seen = truly_visible(
        vertices_clip[0].double().numpy(), ict.triangles.numpy(), points[:, :3].numpy(), own.long().numpy()
    )
    seen = torch.from_numpy(seen) & facing & (points[:, :2].abs() <= 1).all(1)
    marked = valid.flatten()[some]
    assert int(seen.sum()) > 800
    assert float((marked & seen).sum() / seen.sum()) >= 0.97
    assert float((marked & ~seen).sum() / marked.sum()) <= 0.01  # measured: at most 0.4 %


def test_round_trip_to_vertices(ict, ict_map):
    """Psi of METHODS 1.9: per-vertex colours sampled at the vertices' own places give the picture of texture mode."""
    if not torch.equal(ict_map.uv_triangles, ict.triangles):
        pytest.skip("a layout with seams has several places per vertex")
    texture = smooth_texture(256)
    _, fragments = view(ict, 20)
    colors = ops.uv_sample(texture, ict_map.uv)
    by_vertices = ops.interpolate(colors, ict.triangles, fragments.triangle_id, fragments.barycentric)
    difference = by_vertices.permute(0, 3, 1, 2) - render(texture, ict_map, fragments)
    covered = (fragments.triangle_id >= 0).unsqueeze(1).expand_as(difference)
    assert float(difference[covered].abs().mean()) < 2 / 255


def test_the_round_trip_learns_a_texture():
    """Gradients run from a picture to the texture: gradient descent recovers what the picture shows."""
    mesh = sphere(2)
    front = Mesh(mesh.vertices, mesh.triangles[(mesh.vertices[:, 2] > -20)[mesh.triangles.long()].all(1)])
    uv_map = build_uv_map(front, 24, 24)
    points = front.vertices / 110
    vertices_clip = torch.cat((points[:, :2], -points[:, 2:], torch.ones(len(points), 1)), 1).unsqueeze(0)
    fragments = ops.rasterize(vertices_clip, front.triangles, 64, 64)
    picture = render(smooth_texture(24), uv_map, fragments)
    texture = torch.full((1, 3, 24, 24), 0.5, requires_grad=True)
    optimizer = torch.optim.Adam([texture], lr=0.05)
    losses = []
    for _ in range(60):
        loss = (render(texture, uv_map, fragments) - picture).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.01 * losses[0]
