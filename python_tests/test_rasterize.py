"""facecore.ops.rasterize against its definition, its registration and its arguments."""

from __future__ import annotations

import pytest
import torch
from checks import check_registration
from scenes import from_pixels, indices, soup

from facecore import ops, reference

DTYPES = [torch.float32, torch.float64]
NAN, INF = float("nan"), float("inf")


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


def test_is_registered_correctly(device):
    vertices, triangles = soup(6, torch.float64)
    vertices, triangles = vertices.to(device).requires_grad_(), triangles.to(device)

    def public(v, t, height, width, cull_backfaces):
        return ops.rasterize(v, t, height, width, cull_backfaces=cull_backfaces)

    check_registration(torch.ops.facecore.rasterize.default, public, (vertices, triangles, 9, 7, False))
    triangle_id = ops.rasterize(vertices, triangles, 9, 7).triangle_id
    grad = torch.randn(2, 9, 7, 3, dtype=torch.float64, device=device, requires_grad=True)
    torch.library.opcheck(torch.ops.facecore.rasterize_backward.default, (grad, vertices, triangles, triangle_id))


@pytest.mark.parametrize("bad", [NAN, INF, -INF, 1e301])
@pytest.mark.parametrize("coordinate", range(4))
def test_a_vertex_that_is_nowhere_hides_its_triangles_only(device, bad, coordinate):
    vertices, triangles = soup(8, n=1, t=10, v=12)
    clean = ops.rasterize(vertices, triangles, 20, 20)
    hidden = (triangles == 4).any(-1)
    assert hidden.any() and not hidden.all()
    vertices[0, 4, coordinate] = bad
    leaf = vertices.to(device).requires_grad_()
    got = ops.rasterize(leaf, triangles.to(device), 20, 20)
    kept = torch.arange(10)[~hidden].int()
    intact = soup(8, n=1, t=10, v=12)[0].requires_grad_()
    want = ops.rasterize(intact, triangles[~hidden], 20, 20)
    renamed = torch.where(want.triangle_id >= 0, kept[want.triangle_id.clamp_min(0).long()], -1)
    assert torch.equal(got.triangle_id.cpu(), renamed)
    assert got.barycentric.isfinite().all()
    assert not torch.equal(got.triangle_id.cpu(), clean.triangle_id)
    weight = torch.randn(want.barycentric.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (expected,) = torch.autograd.grad(want.barycentric, intact, weight)
    (grad,) = torch.autograd.grad(got.barycentric, leaf, weight.to(device))
    assert (grad[0, 4] == 0).all()
    torch.testing.assert_close(grad.cpu(), expected, rtol=1e-9, atol=1e-9)  # atomics on CUDA, on values up to 1e3


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
