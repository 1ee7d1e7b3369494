"""facecore.ops.rasterize: pictures made by hand, and triangles that are clipped."""

from __future__ import annotations

import pytest
import torch
from scenes import coverage, from_pixels, indices, soup

from facecore import ops, reference

DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("winding", [(0, 1, 2), (2, 1, 0)])
def test_edge_through_pixel_centres_belongs_to_one_triangle(device, dtype, winding):
    # The diagonal from (4, 0) to (0, 4) passes through the centres with row + column = 3. It is the right edge of the
    # upper triangle and the left edge of the lower one.
    vertices = from_pixels([(0, 0, 0), (4, 0, 0), (0, 4, 0), (4, 4, 0)], 4, 4, dtype).to(device)
    upper, lower = indices((0, 1, 2))[:, winding], indices((1, 2, 3))[:, winding]
    fragments = ops.rasterize(vertices, torch.cat((upper, lower)).to(device), 4, 4)
    assert fragments.triangle_id[0].tolist() == [[0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1]]
    alone = ops.rasterize(vertices, upper.to(device), 4, 4).triangle_id[0]
    assert alone.tolist() == [[0, 0, 0, -1], [0, 0, -1, -1], [0, -1, -1, -1], [-1, -1, -1, -1]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_by_hand(device, dtype):
    # u, v from 0 to 4: at the centre (0.5, 0.5) the weights are (3/4, 1/8, 1/8), and z = -0.5 + 0.25 + 0.125.
    vertices = from_pixels([(0, 0, -0.5), (4, 0, 0.5), (0, 4, -0.5)], 4, 4, dtype).to(device)
    fragments = ops.rasterize(vertices, indices((0, 1, 2)).to(device), 4, 4)
    assert fragments.triangle_id.dtype == torch.int32
    assert fragments.barycentric.dtype == fragments.z_ndc.dtype == dtype
    assert fragments.barycentric[0, 0, 0].tolist() == [0.75, 0.125, 0.125]
    assert fragments.z_ndc[0, 0, 0].item() == -0.5 + 0.125
    assert fragments.z_ndc[0, 0, 2].item() == -0.5 + 0.625
    assert fragments.barycentric[0, 3, 3].tolist() == [0, 0, 0]
    assert fragments.z_ndc[0, 3, 3].item() == 1


def test_perspective_weights_by_hand(device):
    # Screen weights (1/2, 1/4, 1/4) over w = (1, 2, 4): proportional to (1/2, 1/8, 1/16).
    screen = from_pixels([(0, 0, 0), (2, 0, 0), (0, 2, 0)], 2, 2)
    vertices = screen * torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64).view(1, 3, 1)
    b = ops.rasterize(vertices.to(device), indices((0, 1, 2)).to(device), 2, 2).barycentric[0, 0, 0]
    assert b.tolist() == pytest.approx([8 / 11, 2 / 11, 1 / 11], abs=1e-15)


def test_one_triangle_by_hand(device):
    # From (1, 1) to (6, 1) and (1, 4): row i + 0.5 is covered from u = 1 to 6 - (i - 0.5) 5 / 3.
    vertices = from_pixels([(1, 1, 0), (6, 1, 0), (1, 4, 0)], 5, 7).to(device)
    expected = [
        [-1, -1, -1, -1, -1, -1, -1],
        [-1, 0, 0, 0, 0, -1, -1],  # to 5.17: the centre at 4.5, not 5.5
        [-1, 0, 0, -1, -1, -1, -1],  # to 3.5: a right edge through a centre does not count
        [-1, 0, -1, -1, -1, -1, -1],  # to 1.83
        [-1, -1, -1, -1, -1, -1, -1],
    ]
    for triangle in (indices((0, 1, 2)), indices((1, 0, 2))):
        assert ops.rasterize(vertices, triangle.to(device), 5, 7).triangle_id[0].tolist() == expected


@pytest.mark.parametrize("row, column", [(0, 0), (0, 6), (4, 0), (4, 6)])
def test_pixels_in_the_corners_of_the_picture(device, row, column):
    # A triangle around one centre, half of it out of the picture; and one that ends a 256th of a pixel beside it.
    u, v, step = column + 0.5, row + 0.5, 1 / 256
    around = [(u - 0.75, v - 0.75, 0), (u + 0.75, v - 0.75, 0), (u, v + 0.75, 0)]
    ids = ops.rasterize(from_pixels(around, 5, 7).to(device), indices((0, 1, 2)).to(device), 5, 7).triangle_id[0]
    assert (ids >= 0).nonzero().tolist() == [[row, column]]
    beside = [(u + step, v - 0.75, 0), (u + step, v + 0.75, 0), (u + 0.75, v, 0)]
    ids = ops.rasterize(from_pixels(beside, 5, 7).to(device), indices((0, 1, 2)).to(device), 5, 7).triangle_id[0]
    assert (ids == -1).all()
    touching = [(u, v - 0.75, 0), (u, v + 0.75, 0), (u + 0.75, v, 0)]  # a left edge through the centre
    ids = ops.rasterize(from_pixels(touching, 5, 7).to(device), indices((0, 1, 2)).to(device), 5, 7).triangle_id[0]
    assert (ids >= 0).nonzero().tolist() == [[row, column]]


def test_top_left_rule_on_the_border_of_the_picture(device):
    # A square whose sides pass through pixel centres 1 and 3: left and top sides count, right and bottom do not.
    vertices = from_pixels([(1.5, 1.5, 0), (3.5, 1.5, 0), (3.5, 3.5, 0), (1.5, 3.5, 0)], 5, 5).to(device)
    ids = ops.rasterize(vertices, indices((0, 1, 2), (0, 2, 3)).to(device), 5, 5).triangle_id[0]
    assert (ids >= 0).nonzero().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    whole = from_pixels([(-9, -9, 0), (99, -9, 0), (99, 99, 0), (-9, 99, 0)], 5, 5).to(device)
    assert (ops.rasterize(whole, indices((0, 1, 2), (0, 2, 3)).to(device), 5, 5).triangle_id >= 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_top_left_rule_of_clipped_triangles(device, dtype):
    # Strips between centres 1 and 3 that reach far beyond the guard band of 64 half pictures.
    for reach in (((-5000, 1.5), (5000, 3.5)), ((1.5, -5000), (3.5, 5000))):
        (left, top), (right, bottom) = reach
        corners = [(left, top, 0), (right, top, 0), (right, bottom, 0), (left, bottom, 0)]
        vertices, triangles = from_pixels(corners, 5, 5, dtype).to(device), indices((0, 1, 2), (0, 2, 3)).to(device)
        covered = (ops.rasterize(vertices, triangles, 5, 5).triangle_id[0] >= 0).cpu()
        inside = torch.tensor([False, True, True, False, False]).expand(5, 5)  # columns
        assert torch.equal(covered, inside.T if left < 0 else inside)
        assert (coverage(vertices, triangles, 5, 5).cpu() == covered.int()).all()


def test_nearest_wins_then_the_lowest_id(device):
    square = [(0, 0), (9, 0), (0, 9)]
    vertices = from_pixels([(u, v, z) for z in (0.5, 0.25, 0.25) for u, v in square], 2, 2).to(device)
    triangles = indices((0, 1, 2), (6, 7, 8), (3, 4, 5)).to(device)
    assert (ops.rasterize(vertices, triangles, 2, 2).triangle_id == 1).all()
    zeros = from_pixels([(u, v, z) for z in (0.0, -0.0) for u, v in square], 2, 2).to(device)  # -0 is not nearer than 0
    assert (ops.rasterize(zeros, indices((0, 1, 2), (3, 4, 5)).to(device), 2, 2).triangle_id == 0).all()


@pytest.mark.parametrize("front", [True, False])
def test_culls_back_faces_on_request(device, front):
    vertices = from_pixels([(0, 0, 0), (0, 9, 0), (9, 0, 0)], 2, 2).to(device)  # counter-clockwise with y up
    triangle = (indices((0, 1, 2)) if front else indices((0, 2, 1))).to(device)
    assert (ops.rasterize(vertices, triangle, 2, 2).triangle_id == 0).all()
    culled = ops.rasterize(vertices, triangle, 2, 2, cull_backfaces=True).triangle_id
    assert (culled == (0 if front else -1)).all()


def test_degenerate_triangles_cover_nothing(device):
    vertices = from_pixels([(0, 0, 0), (4, 4, 0), (8, 8, 0), (2, 2, 0)], 8, 8).to(device)
    triangles = indices((0, 1, 2), (3, 3, 3), (0, 1, 1)).to(device)
    assert (ops.rasterize(vertices, triangles, 8, 8).triangle_id == -1).all()


def test_depth_range(device):
    square = [(0, 0), (9, 0), (0, 9)]
    for z, seen in ((-1.0, True), (1.0, True), (-1.0000001, False), (1.0000001, False)):
        vertices = from_pixels([(u, v, z) for u, v in square], 2, 2).to(device)
        fragments = ops.rasterize(vertices, indices((0, 1, 2)).to(device), 2, 2)
        assert (fragments.triangle_id == 0).all().item() == seen
        assert (fragments.z_ndc == (z if seen else 1)).all()


def test_a_triangle_thinner_than_the_snapping(device):
    # The corners are 1e-6 pixel away from a line; snapping opens it to a triangle over the centre of pixel (2, 2).
    grid = 1 / 256
    points = [(0.5, 2.5 + 0.49 * grid, 0.0), (4.5, 2.5 + 0.51 * grid, 0.0), (2.5, 2.5 + 0.5 * grid - 1e-6, 0.0)]
    vertices = from_pixels(points, 5, 5).to(device).requires_grad_()
    fragments = ops.rasterize(vertices, indices((0, 1, 2)).to(device), 5, 5)
    want = reference.rasterize(vertices, indices((0, 1, 2)).to(device), 5, 5)
    assert torch.equal(fragments.triangle_id, want.triangle_id)
    thin = fragments.triangle_id >= 0
    assert thin.any()
    assert (fragments.barycentric[thin] >= 0).all()
    assert torch.allclose(fragments.barycentric[thin].sum(-1), torch.ones((), dtype=torch.float64, device=device))
    torch.testing.assert_close(fragments.barycentric, want.barycentric.detach(), rtol=1e-12, atol=1e-12)
    (grad,) = torch.autograd.grad(fragments.barycentric[..., 0].sum(), vertices)
    assert (grad == 0).all()


def homogeneous_inside(corners, height, width):
    """Signed margin by which each pixel centre lies in the part of a triangle in front of the eye and in |z| <= w."""
    px = (2 * torch.arange(width, dtype=torch.float64) + 1 - width).view(1, -1) / width
    py = (height - 1 - 2 * torch.arange(height, dtype=torch.float64)).view(-1, 1) / height
    p = torch.stack(torch.broadcast_tensors(px, py, torch.ones_like(px)), -1)
    weights = p @ torch.linalg.inv(corners[:, [0, 1, 3]])  # a of METHODS 1.8: the point of the triangle seen there
    point = weights @ corners
    w, z = point[..., 3], point[..., 2]
    total = weights.sum(-1, keepdim=True)
    return torch.cat((weights / total, ((w - z) / w).unsqueeze(-1), ((w + z) / w).unsqueeze(-1), total), -1).amin(-1)


@pytest.mark.parametrize("seed", range(6))
def test_clipped_triangles_cover_what_the_homogeneous_test_says(device, seed):
    # Snapping moves an edge by less than 1/256 pixel: only pixels within 2 % of an edge's weight may differ.
    vertices, triangles = soup(seed, n=1, t=20, v=30, kind="any_w")
    for triangle in triangles:
        margin = homogeneous_inside(vertices[0, triangle.long()], 32, 24)
        got = ops.rasterize(vertices.to(device), triangle.view(1, 3).to(device), 32, 24).triangle_id[0].cpu() >= 0
        sure = margin.abs() > 0.02
        assert torch.equal(got[sure], margin[sure] > 0)


def test_one_vertex_behind_the_eye(device):
    # A strip of the plane y = -1 from z_eye = -4 to +4 under a camera that looks along -z: it fills the lower half.
    def project(x, y, z, near=0.5, far=10.0):
        return (x, y, -(far + near) / (far - near) * z - 2 * far * near / (far - near), -z)

    vertices = torch.tensor([[project(-40, -1, -4), project(40, -1, -4), project(0, -1, 4)]], dtype=torch.float64)
    fragments = ops.rasterize(vertices.to(device), indices((0, 1, 2)).to(device), 16, 16)
    ids, b = fragments.triangle_id[0], fragments.barycentric[0, 10:].cpu()
    assert (ids[:10] == -1).all()  # the far edge, at y_ndc = -1/4, is between rows 9 and 10
    assert (ids[10:] == 0).all()
    # A ray (x, y, -1) meets the plane y = -1 at z_eye = 1 / y; z goes from -4 to 4 with b_2, x = 40 (b_1 - b_0).
    x = ((2 * torch.arange(16, dtype=torch.float64) + 1) / 16 - 1).view(1, -1)
    y = (1 - (2 * torch.arange(10, 16, dtype=torch.float64) + 1) / 16).view(-1, 1)
    torch.testing.assert_close(b[..., 2], ((4 + 1 / y) / 8).expand(6, 16), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(b[..., 1] - b[..., 0], x / -y / 40, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_camera_inside_a_box_sees_every_pixel(device, seed):
    generator = torch.Generator().manual_seed(seed)
    signs = torch.tensor([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    points = (signs + 0.3 * torch.rand(3, generator=generator, dtype=torch.float64)) @ rotation
    near, far = 0.01, 50.0
    w = -points[:, 2]
    clip = torch.stack(
        (points[:, 0], points[:, 1], w * (far + near) / (far - near) - 2 * far * near / (far - near), w), -1
    )
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    triangles = indices(*[t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    fragments = ops.rasterize(clip.unsqueeze(0).to(device), triangles.to(device), 64, 48)
    assert (fragments.triangle_id >= 0).all()
    assert (coverage(clip.unsqueeze(0), triangles, 64, 48) == 1).all()
    assert fragments.barycentric.min() > -1e-2  # the snapping allows 1/256 pixel


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e9])
def test_clipped_neighbours_neither_crack_nor_overlap(device, scale):
    # A triangulated floor that passes under the camera and far beyond the guard band.
    generator = torch.Generator().manual_seed(5)
    grid = torch.stack(torch.meshgrid(torch.linspace(-1, 1, 6), torch.linspace(-1, 1, 6), indexing="ij"), -1).double()
    grid = grid.reshape(-1, 2) + 0.1 * torch.rand(36, 2, generator=generator, dtype=torch.float64)
    x, z = grid.unbind(-1)
    x, z = x * 30 * scale, z * 20
    near, far = 0.3, 15.0
    clip = torch.stack(
        (x, torch.full_like(x, -1.0), -z * (far + near) / (far - near) - 2 * far * near / (far - near), -z), -1
    )
    cells = [(6 * i + j, 6 * i + j + 1, 6 * i + j + 6, 6 * i + j + 7) for i in range(5) for j in range(5)]
    triangles = indices(*[t for a, b, c, d in cells for t in ((a, b, c), (b, d, c))])
    count = coverage(clip.unsqueeze(0).to(device), triangles.to(device), 64, 64)
    y = 1 - 2 * (torch.arange(64) + 0.5) / 64
    on_floor = (-1 / y > near * 1.02) & (-1 / y < far * 0.98) & (y < 0)
    assert (count[on_floor] == 1).all()
    assert (count[y > 0] == 0).all()
