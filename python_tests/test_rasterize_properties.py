"""facecore.ops.rasterize: properties that any mesh must have, for any number of threads."""

from __future__ import annotations

import importlib
import math

import pytest
import scipy.spatial
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scenes import coverage, dense_surface, from_pixels, indices, soup, star, winding

from facecore import ops
from facecore.ops._library import call

DTYPES = [torch.float32, torch.float64]
every_device = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])  # fixtures only set


TETRAHEDRON = indices((0, 1, 2), (0, 3, 1), (1, 3, 2), (0, 2, 3))
# Coordinates in half pixels hit pixel centres, edges through them and coincident vertices all the time.
half_pixels = st.integers(-8, 40).map(lambda k: k / 2)
pixels = st.one_of(half_pixels, st.floats(-1e4, 1e4), st.floats(-4, 20))


@given(st.lists(st.tuples(pixels, pixels), min_size=4, max_size=4), st.sampled_from(DTYPES))
@settings(every_device, max_examples=150)
def test_closed_meshes_cover_each_pixel_as_often_in_front_as_behind(device, points, dtype):
    # The winding number of a closed surface around a line of sight is 0: exactly, whatever the shape.
    vertices = from_pixels([(u, v, 0.0) for u, v in points], 16, 16, dtype).to(device)
    assert (winding(vertices, TETRAHEDRON.to(device), 16, 16) == 0).all()


@given(
    st.lists(st.tuples(*[st.floats(-3, 3)] * 3), min_size=4, max_size=4),
    st.sampled_from(DTYPES),
    st.sampled_from([1.0, 300.0]),
)
@settings(every_device, max_examples=150)
def test_closed_meshes_around_the_eye(device, points, dtype, scale):
    # What is behind the eye is cut off at infinity, so no picture shows the cut: the winding number of the whole is the
    # one around the eye, at every pixel. With a scale of 300 most corners lie beyond the guard band.
    volumes = torch.linalg.det(torch.tensor(points, dtype=torch.float64)[TETRAHEDRON.long()])
    assume((volumes.abs() > 1e-3).all())  # no face passes through the eye
    corners = torch.tensor([(scale * x, scale * y, 0.0, w) for x, y, w in points], dtype=dtype, device=device)
    count = winding(corners.unsqueeze(0), TETRAHEDRON.to(device), 16, 16)
    assert (count == count[0, 0]).all() and -1 <= int(count[0, 0]) <= 1


@given(st.integers(0, 10**6), st.integers(0, 2), st.sampled_from(DTYPES), st.sampled_from([1.0, 40.0]))
@settings(every_device, max_examples=40)
def test_bumpy_closed_meshes_cover_each_pixel_as_often_in_front_as_behind(device, seed, subdivisions, dtype, scale):
    vertices, triangles = star(seed, subdivisions, scale=scale)  # 40: a piece of the surface, corners far outside
    count = winding(vertices.to(device, dtype), triangles.to(device), 20, 20)
    assert (count == 0).all()


@given(
    st.lists(st.tuples(half_pixels, half_pixels), max_size=25, unique=True),
    st.sampled_from([4.0, 100.0, 5000.0]),
    st.integers(0, 10**6),
    st.sampled_from(DTYPES),
)
@settings(every_device, max_examples=100)
def test_a_triangulation_covers_each_pixel_once(device, points, margin, seed, dtype):
    """Neither a crack nor a double cover, on edges through pixel centres too, for depths and w of any kind."""
    generator = torch.Generator().manual_seed(seed)
    square = [(-margin, -margin), (16 + margin, -margin), (16 + margin, 16 + margin), (-margin, 16 + margin)]
    inner = [(u, v) for u, v in points if -4 < u < 20 and -4 < v < 20]
    triangles = torch.from_numpy(scipy.spatial.Delaunay(square + inner).simplices).int()
    for moved in (False, True):  # moved: between the places to which vertices are snapped, and some triangles fold
        z = 1.8 * torch.rand(4 + len(inner), generator=generator) - 0.9
        flat = [(u, v, float(d)) for (u, v), d in zip(square + inner, z)]
        vertices = from_pixels(flat, 16, 16)
        if moved:
            vertices[:, 4:, :2] += 0.01 * torch.randn(1, len(inner), 2, generator=generator, dtype=torch.float64)
            vertices *= 0.2 + 3 * torch.rand(1, 4 + len(inner), 1, generator=generator, dtype=torch.float64)
        vertices = vertices.to(device, dtype)
        count = winding(vertices, triangles.to(device), 16, 16)
        assert (count == count[0, 0]).all() and abs(int(count[0, 0])) == 1
        if not moved:
            assert (coverage(vertices, triangles.to(device), 16, 16) == 1).all()


@given(
    st.tuples(st.floats(4, 12), st.floats(4, 12)),
    st.lists(st.tuples(half_pixels, st.sampled_from("lrtb")), min_size=1, max_size=9),
)
@settings(every_device, max_examples=100)
def test_a_fan_covers_each_pixel_once(device, center, spokes):
    # A fan from any inner point to points on the border of a square that contains the picture.
    at = {"t": lambda s: (s, -4.0), "b": lambda s: (s, 20.0), "l": lambda s: (-4.0, s), "r": lambda s: (20.0, s)}
    rim = {(-4.0, -4.0), (20.0, -4.0), (20.0, 20.0), (-4.0, 20.0)} | {at[side](position) for position, side in spokes}
    ordered = sorted(rim, key=lambda p: math.atan2(p[1] - center[1], p[0] - center[0]))
    vertices = from_pixels([(*p, 0.0) for p in (center, *ordered)], 16, 16)
    count = len(ordered)
    triangles = indices(*[(0, 1 + i, 1 + (i + 1) % count) for i in range(count)])
    assert (coverage(vertices.to(device), triangles.to(device), 16, 16) == 1).all()


@given(st.integers(0, 10**6), st.sampled_from(["affine", "perspective", "any_w", "closed"]))
@settings(every_device, max_examples=40)
def test_the_order_of_triangles_only_renames_them(device, seed, kind):
    vertices, triangles = star(seed, 2) if kind == "closed" else soup(seed, n=1, t=16, kind=kind)
    vertices, triangles = vertices.to(device), triangles.to(device)
    order = torch.randperm(len(triangles), generator=torch.Generator().manual_seed(seed)).to(device)
    first = ops.rasterize(vertices, triangles, 19, 23)
    second = ops.rasterize(vertices, triangles[order], 19, 23)
    assert torch.equal(first.z_ndc, second.z_ndc)
    covered = second.triangle_id >= 0
    renamed = torch.where(covered, order.int()[second.triangle_id.clamp_min(0).long()], second.triangle_id)
    differ = renamed != first.triangle_id  # equal depths: the same triangle twice, or a centre on a silhouette
    assert differ.float().mean() < (0.002 if kind == "closed" else 1)
    pairs = triangles[renamed[differ].long()], triangles[first.triangle_id[differ].long()]
    shared = (pairs[0].unsqueeze(2) == pairs[1].unsqueeze(1)).any(2).sum(1)
    assert (shared >= (2 if kind == "closed" else 3)).all()
    assert torch.equal(first.barycentric[~differ], second.barycentric[~differ])


def signed_areas(pixel, triangles):
    """Twice the areas of triangles on the screen, positive in front: counter-clockwise with y up, so v down."""
    a, b, c = pixel[triangles.long()].unbind(1)
    return (c[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1]) - (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1])


@given(st.integers(0, 10**6), st.integers(1, 3), st.sampled_from([16, 48]), st.sampled_from(DTYPES))
@settings(every_device, max_examples=40)
def test_a_closed_mesh_shows_no_back_from_outside(device, seed, subdivisions, size, dtype):
    """But where snapping turns a sliver over, or a centre lies on the silhouette: front and back at equal depths."""
    vertices, triangles = star(seed, subdivisions)
    vertices = vertices.to(dtype)
    seen, front = (
        ops.rasterize(vertices.to(device), triangles.to(device), size, size, cull_backfaces=cull)
        for cull in (False, True)
    )
    ids = seen.triangle_id[0].cpu()
    assert 0.1 < float((ids >= 0).float().mean()) < 0.9
    exact = vertices[0].double()
    pixel = 0.5 * size * (1 + exact[:, :2] / exact[:, 3:] * torch.tensor([1.0, -1.0]))
    facing = signed_areas(pixel, triangles) > 0
    snapped = signed_areas((256 * pixel).round(), triangles) > 0
    covered = ids >= 0
    back = covered & ~facing[ids.clamp_min(0).long()]
    turned = facing != snapped
    tie = (seen.z_ndc - front.z_ndc)[0].cpu().abs() < 1e-6  # float32 of depths below 1
    assert not (back & ~turned[ids.clamp_min(0).long()] & ~tie).any()
    assert back.float().mean() < 0.01
    differ = covered & (front.triangle_id[0].cpu() != ids)  # without backs the same picture
    assert not (differ & ~turned[ids.clamp_min(0).long()] & ~tie).any()


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
