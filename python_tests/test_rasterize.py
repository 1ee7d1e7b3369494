"""facecore.ops.rasterize against its definition, drawings made by hand, and properties that any mesh must have."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from checks import check_registration
from hypothesis import given, settings
from hypothesis import strategies as st

from facecore import ops, reference
from facecore.ops._library import call
from facecore.ops.rasterize import _backward_by_index

DTYPES = [torch.float32, torch.float64]
NAN, INF = float("nan"), float("inf")


def from_pixels(points, height, width, dtype=torch.float64):
    """[V, 3] points (u, v, z_ndc) in pixels, v down: clip coordinates [1, V, 4] with w = 1."""
    u, v, z = torch.tensor(points, dtype=torch.float64).reshape(-1, 3).unbind(-1)
    clip = torch.stack((2 * u / width - 1, 1 - 2 * v / height, z, torch.ones_like(z)), -1)
    return clip.to(dtype).unsqueeze(0)


def indices(*triangles):
    return torch.tensor(triangles, dtype=torch.int32).reshape(-1, 3)


def soup(seed, dtype=torch.float64, *, n=2, t=12, v=20, kind="perspective"):
    """Random triangles: w = 1, w > 0, or w of both signs (then many are clipped)."""
    generator = torch.Generator().manual_seed(seed)
    vertices = torch.randn(n, v, 4, generator=generator, dtype=torch.float64) * 0.8
    w = torch.rand(n, v, generator=generator, dtype=torch.float64)
    vertices[..., 3] = {"affine": torch.ones_like(w), "perspective": 0.5 + w, "any_w": 3 * w - 1}[kind]
    if kind != "any_w":
        vertices[..., 2] = vertices[..., 3] * (1.8 * torch.rand(n, v, generator=generator, dtype=torch.float64) - 0.9)
    triangles = torch.stack([torch.randperm(v, generator=generator)[:3] for _ in range(t)]).int()
    return vertices.to(dtype), triangles


def coverage(vertices, triangles, height, width, **options):
    """How many triangles, each drawn alone, cover each pixel [H, W]."""
    count = torch.zeros(height, width, dtype=torch.int64, device=vertices.device)
    for triangle in triangles:
        count += ops.rasterize(vertices, triangle.unsqueeze(0), height, width, **options).triangle_id[0] >= 0
    return count


# --- drawings made by hand -------------------------------------------------------------------------------------------


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


def test_top_left_rule_on_the_border_of_the_picture(device):
    # A square whose sides pass through pixel centres 1 and 3: left and top sides count, right and bottom do not.
    vertices = from_pixels([(1.5, 1.5, 0), (3.5, 1.5, 0), (3.5, 3.5, 0), (1.5, 3.5, 0)], 5, 5).to(device)
    ids = ops.rasterize(vertices, indices((0, 1, 2), (0, 2, 3)).to(device), 5, 5).triangle_id[0]
    assert (ids >= 0).nonzero().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    whole = from_pixels([(-9, -9, 0), (99, -9, 0), (99, 99, 0), (-9, 99, 0)], 5, 5).to(device)
    assert (ops.rasterize(whole, indices((0, 1, 2), (0, 2, 3)).to(device), 5, 5).triangle_id >= 0).all()


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


# --- clipping --------------------------------------------------------------------------------------------------------


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
    ids = ops.rasterize(vertices.to(device), indices((0, 1, 2)).to(device), 16, 16).triangle_id[0]
    assert (ids[:10] == -1).all()  # the far edge, at y_ndc = -1/4, is between rows 9 and 10
    assert (ids[10:] == 0).all()


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


# --- properties ------------------------------------------------------------------------------------------------------

# Coordinates in half pixels hit pixel centres, edges through them and coincident vertices all the time.
half_pixels = st.integers(-8, 40).map(lambda k: k / 2)
pixels = st.one_of(half_pixels, st.floats(-1e4, 1e4), st.floats(-4, 20))


@given(st.lists(st.tuples(pixels, pixels), min_size=4, max_size=4), st.sampled_from(DTYPES))
@settings(max_examples=150, deadline=None)
def test_closed_meshes_cover_each_pixel_as_often_in_front_as_behind(points, dtype):
    # The winding number of a closed surface around a line of sight is 0: exactly, whatever the shape.
    vertices = from_pixels([(u, v, 0.0) for u, v in points], 16, 16, dtype)
    tetrahedron = indices((0, 1, 2), (0, 3, 1), (1, 3, 2), (0, 2, 3))
    total = coverage(vertices, tetrahedron, 16, 16)
    front = coverage(vertices, tetrahedron, 16, 16, cull_backfaces=True)
    assert torch.equal(2 * front, total)


@given(
    st.tuples(st.floats(4, 12), st.floats(4, 12)),
    st.lists(st.tuples(half_pixels, st.sampled_from("lrtb")), min_size=1, max_size=9),
)
@settings(max_examples=100, deadline=None)
def test_a_fan_covers_each_pixel_once(center, spokes):
    # A fan from any inner point to points on the border of a square that contains the picture.
    at = {"t": lambda s: (s, -4.0), "b": lambda s: (s, 20.0), "l": lambda s: (-4.0, s), "r": lambda s: (20.0, s)}
    rim = {(-4.0, -4.0), (20.0, -4.0), (20.0, 20.0), (-4.0, 20.0)} | {at[side](position) for position, side in spokes}
    ordered = sorted(rim, key=lambda p: math.atan2(p[1] - center[1], p[0] - center[0]))
    vertices = from_pixels([(*p, 0.0) for p in (center, *ordered)], 16, 16)
    count = len(ordered)
    triangles = indices(*[(0, 1 + i, 1 + (i + 1) % count) for i in range(count)])
    assert (coverage(vertices, triangles, 16, 16) == 1).all()


@given(st.integers(0, 10**6), st.sampled_from(["affine", "perspective", "any_w"]))
@settings(max_examples=30, deadline=None)
def test_the_order_of_triangles_only_renames_them(seed, kind):
    vertices, triangles = soup(seed, n=1, t=16, kind=kind)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(seed))
    first = ops.rasterize(vertices, triangles, 19, 23)
    second = ops.rasterize(vertices, triangles[order], 19, 23)
    assert torch.equal(first.z_ndc, second.z_ndc)
    covered = second.triangle_id >= 0
    renamed = torch.where(covered, order.int()[second.triangle_id.clamp_min(0).long()], second.triangle_id)
    differ = renamed != first.triangle_id
    assert torch.equal(
        triangles[renamed[differ].long()].sort(-1)[0], triangles[first.triangle_id[differ].long()].sort(-1)[0]
    )
    assert torch.equal(first.barycentric[~differ], second.barycentric[~differ])


# --- the definition --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["affine", "perspective", "any_w"])
@pytest.mark.parametrize("cull_backfaces", [False, True])
def test_matches_reference(device, dtype, kind, cull_backfaces):
    vertices, triangles = soup(11, dtype, kind=kind)
    for height, width in ((1, 1), (3, 5), (33, 20)):
        mine, theirs = (vertices.to(device).requires_grad_() for _ in range(2))
        got = ops.rasterize(mine, triangles.to(device), height, width, cull_backfaces=cull_backfaces)
        want = reference.rasterize(theirs, triangles.to(device), height, width, cull_backfaces=cull_backfaces)
        assert torch.equal(got.triangle_id, want.triangle_id)
        assert torch.equal(got.z_ndc, want.z_ndc)
        # Rounding in b is amplified by the ratio of the picture to the triangle, up to 100 for these.
        rtol, atol = {torch.float64: (1e-12, 1e-12), torch.float32: (1e-4, 1e-4)}[dtype]
        torch.testing.assert_close(got.barycentric, want.barycentric, rtol=rtol, atol=atol)
        projection = torch.randn(want.barycentric.shape, generator=torch.Generator().manual_seed(7)).to(vertices)
        grads = [
            torch.autograd.grad((f.barycentric * projection.to(device)).sum(), v)[0]
            for f, v in ((got, mine), (want, theirs))
        ]
        scale = max(1.0, grads[1].abs().max().item())
        torch.testing.assert_close(grads[0] / scale, grads[1] / scale, rtol=rtol, atol=10 * atol)


@pytest.mark.parametrize("seed", range(8))
def test_matches_reference_where_almost_everything_is_clipped(device, seed):
    vertices, triangles = soup(seed, n=1, t=40, kind="any_w")
    vertices[..., :2] *= 10 ** (seed % 4)
    got = ops.rasterize(vertices.to(device), triangles.to(device), 17, 31)
    want = reference.rasterize(vertices, triangles, 17, 31)
    assert torch.equal(got.triangle_id.cpu(), want.triangle_id)
    assert torch.equal(got.z_ndc.cpu(), want.z_ndc)
    torch.testing.assert_close(got.barycentric.cpu(), want.barycentric, rtol=1e-9, atol=1e-9)


def dense_surface(n=1, rows=90, columns=90, dtype=torch.float32):
    """A bent sheet of 15,842 triangles, more than one pixel wide each, over the whole picture."""
    v, u = torch.meshgrid(torch.linspace(-0.97, 0.97, rows), torch.linspace(-0.9, 0.9, columns), indexing="ij")
    vertices = torch.stack((u, v, 0.4 * torch.sin(5 * u) * torch.cos(4 * v), torch.ones_like(u)), -1).reshape(1, -1, 4)
    vertices = vertices.repeat(n, 1, 1) * torch.linspace(1, 0.7, n).view(n, 1, 1)
    vertices[..., 3] = 1
    i = torch.arange(rows - 1).view(-1, 1) * columns + torch.arange(columns - 1)
    cells = torch.stack((i, i + columns, i + 1, i + 1, i + columns, i + columns + 1), -1).reshape(-1, 3)
    return vertices.to(dtype), cells.int()


@pytest.fixture
def thread_count():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("n", [1, 4])
def test_the_number_of_threads_changes_nothing(thread_count, n):
    vertices, triangles = dense_surface(n)
    results = []
    for threads in (1, 2, 3, 5):
        thread_count(threads)
        leaf = vertices.clone().requires_grad_()
        fragments = ops.rasterize(leaf, triangles, 150, 170)
        (grad,) = torch.autograd.grad((fragments.barycentric * torch.linspace(0, 1, 3)).square().sum(), leaf)
        results.append((*fragments, grad))
    assert (results[0][0] >= 0).float().mean() > 0.5
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


@pytest.mark.parametrize("n", [1, 2, 4])
def test_memory_for_keys_limits_the_threads_and_nothing_else(thread_count, monkeypatch, n):
    module = importlib.import_module("facecore.ops.rasterize")
    vertices, triangles = dense_surface(n)
    thread_count(4)
    seen = []
    monkeypatch.setattr(
        module, "call", lambda name, like, sizes, *rest: seen.append(sizes[-1]) or call(name, like, sizes, *rest)
    )
    results = []
    for budget in (0, 8 * 150 * 170, 3 * 8 * 150 * 170 + 1, 1 << 30):
        monkeypatch.setattr(module, "_KEY_BYTES", budget)
        results.append(ops.rasterize(vertices, triangles, 150, 170))
    assert seen == [1, 1, 3, 4]
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_the_number_of_threads_changes_no_second_derivative(thread_count):
    vertices, triangles = dense_surface()
    results = []
    for threads in (1, 4, 4, 4):
        thread_count(threads)
        leaf = vertices.clone().requires_grad_()
        barycentric = ops.rasterize(leaf, triangles, 150, 170).barycentric
        (grad,) = torch.autograd.grad((barycentric * torch.linspace(0, 1, 3)).square().sum(), leaf, create_graph=True)
        results.append(torch.autograd.grad(grad.square().sum(), leaf)[0])
    assert results[0].abs().max() > 0
    assert all(torch.equal(result, results[0]) for result in results[1:])


@pytest.mark.parametrize("kind", ["affine", "perspective", "any_w"])
def test_both_dtypes_and_devices_decide_alike(device, kind):
    vertices, triangles = soup(2, torch.float32, kind=kind)
    single = ops.rasterize(vertices, triangles, 40, 50)
    double = ops.rasterize(vertices.double().to(device), triangles.to(device), 40, 50)
    assert torch.equal(single.triangle_id, double.triangle_id.cpu())
    assert torch.equal(single.z_ndc.double(), double.z_ndc.cpu())


def test_every_image_of_a_batch_is_drawn_alone(device):
    vertices, triangles = (x.to(device) for x in soup(4, n=5))
    together = ops.rasterize(vertices, triangles, 21, 13)
    for n in range(5):
        alone = ops.rasterize(vertices[n : n + 1], triangles, 21, 13)
        assert all(torch.equal(a[n : n + 1], b) for a, b in zip(together, alone))


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


# --- derivatives -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["affine", "perspective", "any_w"])
def test_gradients_are_exact(device, kind):
    vertices, triangles = soup(3, n=2, t=4, v=9, kind=kind)
    vertices, triangles = vertices.to(device).requires_grad_(), triangles.to(device)
    assert (ops.rasterize(vertices, triangles, 5, 6).triangle_id >= 0).sum() > 8

    def barycentric(v):
        return ops.rasterize(v, triangles, 5, 6).barycentric

    # atomics on CUDA add in any order: 1e-16 of values up to 30 here
    nondet_tol = 1e-12 if device.type == "cuda" else 0.0
    assert torch.autograd.gradcheck(barycentric, (vertices,), check_forward_ad=True, nondet_tol=nondet_tol)
    assert torch.autograd.gradgradcheck(barycentric, (vertices,), nondet_tol=nondet_tol)


def test_function_transforms(device):
    vertices, triangles = (x.to(device) for x in soup(3, n=2, t=4, v=9))

    def loss(v):
        fragments = ops.rasterize(v, triangles, 5, 6)
        return (fragments.barycentric * torch.arange(1.0, 4.0, dtype=torch.float64, device=device)).square().sum()

    leaf = vertices.clone().requires_grad_()
    (want,) = torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(loss)(vertices), want, rtol=1e-12, atol=1e-12)
    scales = torch.tensor([1.0, 0.8, 1.1], dtype=torch.float64, device=device)
    mapped = torch.func.vmap(lambda s: tuple(ops.rasterize(vertices * s, triangles, 5, 6)))(scales)
    grads = torch.func.vmap(torch.func.grad(lambda s: loss(vertices * torch.stack((s, s, s, s / s)))))(scales)
    for k, scale in enumerate(scales):
        assert all(torch.equal(x[k], y) for x, y in zip(mapped, ops.rasterize(vertices * scale, triangles, 5, 6)))
        alone = torch.func.grad(lambda s: loss(vertices * torch.stack((s, s, s, s / s))))(scale)
        torch.testing.assert_close(grads[k], alone, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="triangles cannot be mapped by vmap"):
        torch.func.vmap(lambda t: ops.rasterize(vertices, t, 5, 6).barycentric)(triangles.expand(2, -1, -1))


def test_closed_form_reference_is_differentiable():
    vertices, triangles = soup(3, n=1, t=4, v=9)
    triangle_id = ops.rasterize(vertices, triangles, 4, 4).triangle_id
    vertices.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: reference.barycentrics(v, triangles, triangle_id), (vertices,))


def test_gradient_accepts_any_strides(device):
    vertices, triangles = (x.to(device) for x in soup(6))
    dense = vertices.clone().requires_grad_()
    strided = vertices.transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    grads = []
    for leaf in (dense, strided):
        fragments = ops.rasterize(leaf, triangles.flip(0).flip(0), 9, 7)
        weight = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64, device=device).expand_as(fragments.barycentric)
        grads.append(torch.autograd.grad(fragments.barycentric, leaf, weight)[0])
    assert grads[0].abs().max() > 0
    torch.testing.assert_close(grads[0], grads[1], rtol=0, atol=1e-12)


def test_gradient_by_index_is_the_same_gradient(device):
    """The form that CUDA takes under torch.use_deterministic_algorithms(True)."""
    vertices, triangles = (x.to(device) for x in soup(6, kind="any_w"))
    triangle_id = ops.rasterize(vertices, triangles, 25, 31).triangle_id
    grad = torch.randn(2, 25, 31, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(device)
    want = torch.ops.facecore.rasterize_backward(grad, vertices, triangles, triangle_id)
    got = _backward_by_index(grad, vertices, triangles, triangle_id)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10 * want.abs().max().item())


def test_a_nan_at_an_uncovered_pixel_reaches_no_vertex(device):
    vertices, triangles = (x.to(device) for x in soup(6, t=5))
    triangle_id = ops.rasterize(vertices, triangles, 25, 31).triangle_id
    uncovered = (triangle_id < 0).unsqueeze(-1)
    assert uncovered.any() and not uncovered.all()
    grad = torch.randn(2, 25, 31, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(device)
    with_nan = torch.where(uncovered, NAN, grad)
    assert torch.equal(
        _backward_by_index(with_nan, vertices, triangles, triangle_id),
        _backward_by_index(grad, vertices, triangles, triangle_id),
    )

    def derivatives(grad):
        leaves = grad.clone().requires_grad_(), vertices.clone().requires_grad_()
        first = torch.ops.facecore.rasterize_backward(*leaves, triangles, triangle_id)
        second = torch.autograd.grad(first.square().sum(), leaves, create_graph=True)
        return first, *second, torch.autograd.grad(second[1].square().sum(), leaves[1])[0]

    for got, want in zip(derivatives(with_nan), derivatives(grad)):
        # atomics on CUDA, on values up to 1e3
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9 * want.abs().max().item())


def test_a_nan_tangent_of_an_unseen_vertex_reaches_no_pixel(device):
    vertices, triangles = (x.to(device) for x in soup(6, n=1, t=5))
    unseen = torch.ones(20, dtype=torch.bool, device=device)
    unseen[triangles.flatten().long()] = False
    assert unseen.any()
    tangent = torch.where(unseen.view(1, -1, 1), NAN, torch.ones_like(vertices))
    _, along = torch.func.jvp(lambda v: ops.rasterize(v, triangles, 9, 7).barycentric, (vertices,), (tangent,))
    assert along.isfinite().all()


def test_depth_and_ids_have_no_gradient(device):
    vertices, triangles = soup(6)
    fragments = ops.rasterize(vertices.to(device).requires_grad_(), triangles.to(device), 9, 7)
    assert fragments.barycentric.requires_grad
    assert not fragments.z_ndc.requires_grad
    assert not fragments.triangle_id.requires_grad


# --- registration and arguments --------------------------------------------------------------------------------------


def test_is_registered_correctly(device):
    vertices, triangles = soup(6, torch.float64)
    vertices, triangles = vertices.to(device).requires_grad_(), triangles.to(device)

    def public(v, t, height, width, cull_backfaces):
        return ops.rasterize(v, t, height, width, cull_backfaces=cull_backfaces)

    check_registration(torch.ops.facecore.rasterize.default, public, (vertices, triangles, 9, 7, False))
    triangle_id = ops.rasterize(vertices, triangles, 9, 7).triangle_id
    grad = torch.randn(2, 9, 7, 3, dtype=torch.float64, device=device, requires_grad=True)
    torch.library.opcheck(torch.ops.facecore.rasterize_backward.default, (grad, vertices, triangles, triangle_id))


def test_compiled_gradient_is_the_eager_one(device):
    vertices, triangles = (x.to(device) for x in soup(6))

    def loss(v, height, width):
        fragments = ops.rasterize(v, triangles, height, width)
        return ops.interpolate(v.square(), triangles, fragments.triangle_id, fragments.barycentric).square().sum()

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for height, width in ((9, 7), (12, 20), (14, 3)):  # from the second size on, the sizes are symbols
        grads = []
        for function in (loss, compiled):
            leaf = vertices.clone().requires_grad_()
            grads.append(torch.autograd.grad(function(leaf, height, width), leaf)[0])
        torch.testing.assert_close(grads[0], grads[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bad", [NAN, INF, -INF, 1e301])
@pytest.mark.parametrize("coordinate", range(4))
def test_a_vertex_that_is_nowhere_hides_its_triangles_only(device, bad, coordinate):
    vertices, triangles = soup(8, n=1, t=10, v=12)
    clean = ops.rasterize(vertices, triangles, 20, 20)
    hidden = (triangles == 4).any(-1)
    assert hidden.any() and not hidden.all()
    vertices[0, 4, coordinate] = bad
    got = ops.rasterize(vertices.to(device), triangles.to(device), 20, 20)
    kept = torch.arange(10)[~hidden].int()
    want = ops.rasterize(vertices, triangles[~hidden], 20, 20)
    renamed = torch.where(want.triangle_id >= 0, kept[want.triangle_id.clamp_min(0).long()], -1)
    assert torch.equal(got.triangle_id.cpu(), renamed)
    assert got.barycentric.isfinite().all()
    assert not torch.equal(got.triangle_id.cpu(), clean.triangle_id)


def test_the_point_zero_is_nowhere(device):
    vertices = torch.tensor([[[0, 0, 0, 0], [1, 0, 0, 1], [0, 1, 0, 1]]], dtype=torch.float64, device=device)
    assert (ops.rasterize(vertices, indices((0, 1, 2)).to(device), 8, 8).triangle_id == -1).all()


@pytest.mark.parametrize("bad", [-1, 3, 2**31 - 1, -(2**31)])
def test_an_index_out_of_range_is_never_read(device, bad):
    vertices = from_pixels([(0, 0, 0), (9, 0, 0), (0, 9, 0)], 2, 2).to(device)
    triangles = indices((0, 1, bad), (0, 1, 2)).to(device)
    assert (ops.rasterize(vertices, triangles, 2, 2).triangle_id == 1).all()
    before = ops.set_debug(True)
    try:
        with pytest.raises(ValueError, match=r"triangles must index 3 vertices, 0 to 2, got values from"):
            ops.rasterize(vertices, triangles, 2, 2)
    finally:
        ops.set_debug(before)


@pytest.mark.parametrize(
    ("n", "v", "t", "height", "width"),
    [(0, 9, 5, 4, 3), (2, 0, 0, 4, 3), (2, 9, 0, 4, 3), (2, 9, 5, 0, 3), (2, 9, 5, 4, 0), (2, 0, 5, 4, 3)],
)
def test_empty_sizes(device, n, v, t, height, width):
    vertices = torch.zeros(n, v, 4, dtype=torch.float64, device=device, requires_grad=True)
    triangles = torch.zeros(t, 3, dtype=torch.int32, device=device)
    fragments = ops.rasterize(vertices, triangles, height, width)
    assert fragments.triangle_id.shape == fragments.z_ndc.shape == (n, height, width)
    assert (fragments.triangle_id == -1).all() and (fragments.z_ndc == 1).all() and (fragments.barycentric == 0).all()
    (grad,) = torch.autograd.grad(fragments.barycentric.sum(), vertices)
    assert grad.shape == vertices.shape and (grad == 0).all()


GOOD = (torch.zeros(2, 7, 4), torch.zeros(5, 3, dtype=torch.int32), 8, 8)


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, torch.zeros(7, 4), r"vertices_clip must have shape \[N, V, 4\], got \[7, 4\]"),
        (0, torch.zeros(2, 7, 3), r"vertices_clip must have shape \[N, V, 4\], got \[2, 7, 3\]"),
        (
            0,
            torch.zeros(2, 7, 4, dtype=torch.float16),
            r"vertices_clip must have dtype float32 or float64, got float16",
        ),
        (1, torch.zeros(5, 3, dtype=torch.int64), r"triangles must have dtype int32, got int64"),
        (1, [[0, 1, 2]], r"triangles must be a torch.Tensor, got list"),
        (2, -1, r"height must be from 0 to 16384, got -1"),
        (3, 16385, r"width must be from 0 to 16384, got 16385"),
        (3, 8.0, r"width must be an int, got float"),
        (2, True, r"height must be an int, got bool"),
    ],
)
def test_rejects_bad_arguments(position, value, message):
    arguments = list(GOOD)
    arguments[position] = value
    with pytest.raises(ValueError, match=message):
        ops.rasterize(*arguments)
