"""rasterize's SIMD kernels: every instruction set draws the reference's picture, whatever the sizes and triangles."""

from __future__ import annotations

import importlib

import pytest
import torch
from checks import at_level
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scenes import dense_surface, soup, star

from facecore import ops, reference
from facecore.ops.rasterize import _PixelTriangles, _rasterize_backward

# Widths around the 64 pixels of a tile and the 4, 8 and 16 of a vector; a picture of one pixel.
SIZES = [(1, 1), (3, 15), (17, 16), (9, 63), (8, 64), (5, 65), (30, 130)]


def mixed_scene(seed: int, triangles: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Triangles of all sizes: many smaller than a pixel, some over the whole picture, clipped, flat, of bad indices."""
    generator = torch.Generator().manual_seed(seed)
    center = 2.4 * torch.rand(triangles, 1, 2, generator=generator) - 1.2
    size = 10 ** (4 * torch.rand(triangles, 1, 1, generator=generator) - 3.3)
    corners = torch.randn(triangles, 3, 2, generator=generator) * size + center
    w = 0.5 + torch.rand(triangles, 3, 1, generator=generator)
    w[::37] -= 1.2  # some behind the eye, some across
    z = w * (2.2 * torch.rand(triangles, 3, 1, generator=generator) - 1.1)
    vertices = torch.cat((corners * w, z, w), -1).reshape(1, -1, 4)
    vertices[0, ::101, 1] = float("nan")
    vertices[0, ::103, 0] = float("inf")
    index = torch.arange(3 * triangles, dtype=torch.int32).reshape(-1, 3)
    index[::29, 2] = index[::29, 1]  # no area
    index[::31, 0] = 3 * triangles  # no vertex
    index[::33, 0] = -1
    return vertices, index


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("height,width", SIZES)
def test_draws_the_reference(simd_level, dtype, height, width):
    for seed, kind in enumerate(("affine", "perspective", "any_w")):
        vertices, triangles = soup(seed, dtype, n=2, t=14, kind=kind)
        for cull in (False, True):
            got = ops.rasterize(vertices, triangles, height, width, cull_backfaces=cull)
            expected = reference.rasterize(vertices, triangles, height, width, cull_backfaces=cull)
            assert torch.equal(got.triangle_id, expected.triangle_id)
            assert torch.equal(got.z_ndc, expected.z_ndc)
            tolerance = 1e-4 if dtype == torch.float32 else 1e-9  # b of slivers amplifies the rounding of coordinates
            torch.testing.assert_close(got.barycentric, expected.barycentric, rtol=0, atol=tolerance)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 63, 64, 65, 4095, 4096, 4097, 9000])
def test_any_number_of_triangles_of_any_size(simd_level, count):
    """Bit-equal to the float64 path, which projects vertex by vertex, and to every triangle drawn in another order."""
    vertices, triangles = mixed_scene(count, count)
    got = ops.rasterize(vertices, triangles, 61, 77)
    same = ops.rasterize(vertices.double(), triangles, 61, 77)
    assert torch.equal(got.triangle_id, same.triangle_id)
    assert torch.equal(got.z_ndc.double(), same.z_ndc)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(1))
    other = ops.rasterize(vertices, triangles[order], 61, 77)
    renamed = torch.where(other.triangle_id >= 0, order.int()[other.triangle_id.clamp_min(0).long()], -1)
    tie = (got.triangle_id != renamed) & (got.z_ndc == other.z_ndc)  # equal depths go to the lower number
    assert torch.equal(torch.where(tie, got.triangle_id, renamed), got.triangle_id)
    assert int(tie.sum()) <= 1 + count // 1000
    valid = got.triangle_id[got.triangle_id >= 0].long()
    assert not bool(((triangles[valid] < 0) | (triangles[valid] >= vertices.shape[1])).any())


def test_levels_agree_bit_for_bit(simd_level):
    """Against the plainest one: ids and depths by bits, barycentrics and gradients to rounding (one fuses, one not)."""
    vertices, triangles = dense_surface(n=2)
    vertices = vertices.requires_grad_()

    def run():
        fragments = ops.rasterize(vertices, triangles, 75, 93)
        weight = torch.randn(fragments.barycentric.shape, generator=torch.Generator().manual_seed(4))
        return fragments, torch.autograd.grad(fragments.barycentric, vertices, weight)[0]

    got, gradient = run()
    with at_level(0):
        base, base_gradient = run()
    assert torch.equal(got.triangle_id, base.triangle_id) and torch.equal(got.z_ndc, base.z_ndc)
    torch.testing.assert_close(got.barycentric, base.barycentric, rtol=0, atol=1e-4)
    scale = float(base_gradient.abs().max())
    torch.testing.assert_close(gradient / scale, base_gradient / scale, rtol=0, atol=1e-4)


def rounding(vertices, triangles, triangle_id):
    """A bound of float32's error in the barycentrics of each pixel [N, H, W, 1].

    db = -c . dq (METHODS 1.8), and q = (x - px w, y - py w) is known to a few units in the last place of |x| + |w|.
    """
    exact = vertices.double()
    c = _PixelTriangles(exact, triangles, triangle_id).c.abs().sum((1, 2))
    size = exact[..., [0, 1, 3]].abs().amax(-1)  # [N, V]
    corner = triangles[triangle_id.clamp_min(0).long()].long()  # [N, H, W, 3]
    largest = torch.stack([size[n, corner[n]].amax(-1) for n in range(len(size))])
    return 8 * torch.finfo(torch.float32).eps * (1 + c.view(triangle_id.shape) * largest).unsqueeze(-1)


@given(st.integers(0, 10**6), st.sampled_from(["affine", "perspective", "any_w", "closed"]), st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_threads_and_levels_decide_alike(simd_level, thread_count, monkeypatch, seed, kind, batch):
    """Of random soups and closed meshes: ids and depths by bits, barycentrics and gradients by bits between threads."""
    monkeypatch.setattr(importlib.import_module("facecore.ops.rasterize"), "_SERIAL_WORK", 0)
    vertices, triangles = star(seed, 2) if kind == "closed" else soup(seed, n=1, t=20, kind=kind)
    vertices = vertices.float().repeat(5 if batch else 1, 1, 1)  # more images than threads, or one shared by them
    vertices[1:, :, 0] *= 0.9
    weight = torch.randn(3, generator=torch.Generator().manual_seed(seed))

    def run(threads):
        thread_count(threads)
        leaf = vertices.clone().requires_grad_()
        fragments = ops.rasterize(leaf, triangles, 37, 70)
        return *fragments, torch.autograd.grad((fragments.barycentric * weight).square().sum(), leaf)[0]

    one = run(1)
    for threads in (2, 4):
        assert all(torch.equal(a, b) for a, b in zip(run(threads), one))
    with at_level(0):
        base = run(1)
    assert torch.equal(one[0], base[0]) and torch.equal(one[2], base[2])
    assert ((one[1] - base[1]).abs() <= rounding(vertices, triangles, one[0])).all()


def test_gradient_ignores_ids_that_are_no_triangles(simd_level):
    """The registered operator takes any tensor: pixels of foreign ids add nothing, and nothing foreign is read."""
    vertices, triangles = dense_surface(n=1, rows=12, columns=12)
    fragments = ops.rasterize(vertices, triangles, 20, 35)
    grad = torch.randn(fragments.barycentric.shape, generator=torch.Generator().manual_seed(2))
    foreign = fragments.triangle_id.clone()
    foreign[:, ::3] = triangles.shape[0]
    foreign[:, 1::3, ::2] = 2**31 - 1
    foreign[:, 2::3, ::5] = -(2**31)
    seen = torch.where(foreign == fragments.triangle_id, foreign, -1)
    got = _rasterize_backward(grad, vertices, triangles, foreign)
    assert torch.equal(got, _rasterize_backward(grad, vertices, triangles, seen))
    assert torch.isfinite(got).all() and float(got.abs().max()) > 0


def test_gradient_ignores_triangles_with_an_index_that_is_no_vertex(simd_level):
    """All but their pixels count, those of the triangles around them included; 2**30 times four is 0 in 32 bits."""
    vertices, triangles = dense_surface(n=1, rows=12, columns=12)
    fragments = ops.rasterize(vertices, triangles, 20, 35)
    grad = torch.randn(fragments.barycentric.shape, generator=torch.Generator().manual_seed(2))
    broken = triangles.clone()
    for place, index in enumerate((vertices.shape[1], -1, 2**30, -(2**31))):
        broken[place::17, place % 3] = index
    lost = (broken != triangles).any(1)[fragments.triangle_id.long()] & (fragments.triangle_id >= 0)
    assert 20 < int(lost.sum()) < int((fragments.triangle_id >= 0).sum()) - 20
    seen = torch.where(lost, -1, fragments.triangle_id)
    got = _rasterize_backward(grad, vertices, broken, fragments.triangle_id)
    assert torch.equal(got, _rasterize_backward(grad, vertices, triangles, seen))
    assert torch.isfinite(got).all() and float(got.abs().max()) > 0


def test_slivers_have_the_snapped_barycentrics(simd_level):
    """Triangles thinner than the snapping are left to the scalar code: finite, summing to one, without a gradient."""
    generator = torch.Generator().manual_seed(8)
    count = 4000
    start = 1.6 * torch.rand(count, 1, 2, generator=generator) - 0.8
    along = torch.randn(count, 1, 2, generator=generator) * 0.5
    points = torch.cat((start, start + along, start + 0.5 * along + 2e-8), 1)
    vertices = torch.cat((points, torch.zeros(count, 3, 1), torch.ones(count, 3, 1)), -1).reshape(1, -1, 4)
    triangles = torch.arange(3 * count, dtype=torch.int32).reshape(-1, 3)
    got = ops.rasterize(vertices, triangles, 64, 64)
    covered = got.triangle_id >= 0
    assert int(covered.sum()) > 20
    assert torch.isfinite(got.barycentric).all()
    torch.testing.assert_close(got.barycentric.sum(-1)[covered], torch.ones(int(covered.sum())), rtol=0, atol=1e-4)
    assert float((got.barycentric[covered] - 0.5).abs().max()) <= 1.5 + 1e-4
