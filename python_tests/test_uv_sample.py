"""facecore.ops.uv_sample against its definition."""

from __future__ import annotations

import math

import pytest
import torch
from checks import added_and_gathered, check_matches_reference, check_registration
from hypothesis import given, settings
from hypothesis import strategies as st

from facecore import ops, reference

SHAPES = {  # texture, uv
    "vertices": ((2, 3, 16, 12), (50, 2)),
    "vertices_per_image": ((2, 3, 16, 12), (2, 50, 2)),
    "picture": ((3, 2, 7, 9), (3, 5, 4, 2)),
    "one_texel": ((1, 1, 1, 1), (1, 2)),
    "odd": ((3, 5, 3, 1), (3, 7, 2)),
    "empty_batch": ((0, 3, 4, 4), (0, 5, 2)),
    "empty_batch_shared": ((0, 3, 4, 4), (5, 2)),
    "no_points": ((2, 3, 4, 4), (2, 0, 3, 2)),
    "no_channels": ((2, 0, 4, 4), (6, 2)),
}


def make_inputs(device, dtype, texture, uv):
    """Some coordinates lie beyond the border."""
    generator = torch.Generator().manual_seed(3)
    colors = torch.randn(*texture, generator=generator, dtype=torch.float64)
    place = 1.4 * torch.rand(*uv, generator=generator, dtype=torch.float64) - 0.2
    return tuple(x.to(device, dtype).requires_grad_() for x in (colors, place))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_matches_reference(device, dtype, shape):
    # float32: a coordinate of 16 texels is known to 1e-6 texels, the gradient of uv is 16 times a difference of texels
    tolerance = (1e-5, 1e-5) if dtype == torch.float32 else None
    check_matches_reference(ops.uv_sample, reference.uv_sample, make_inputs(device, dtype, *shape), tolerance=tolerance)


def test_agrees_with_grid_sample(device):
    texture, uv = make_inputs(device, torch.float64, *SHAPES["picture"])
    grid = torch.stack((2 * uv[..., 0] - 1, 1 - 2 * uv[..., 1]), -1)
    want = torch.nn.functional.grid_sample(texture, grid, padding_mode="border", align_corners=False)
    torch.testing.assert_close(ops.uv_sample(texture, uv), want.permute(0, 2, 3, 1), rtol=1e-12, atol=1e-12)


def test_accepts_any_strides(device):
    texture, uv = make_inputs(device, torch.float64, *SHAPES["picture"])
    expected = ops.uv_sample(texture, uv)
    strided = [x.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_() for x in (texture, uv)]
    assert torch.equal(ops.uv_sample(*strided), expected)
    got = torch.autograd.grad(ops.uv_sample(*strided).sum(), strided)  # .sum() hands backward an expanded gradient
    want = torch.autograd.grad(reference.uv_sample(texture, uv).sum(), (texture, uv))
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_hand_computed(device):
    """Row 0 is v near 1; the centre of texel (i, j) is u = (j + 0.5) / 2, v = 1 - (i + 0.5) / 2; borders continue."""
    texture = torch.tensor([[[[1.0, 2.0], [10.0, 20.0]]]], device=device)
    places = {
        (0.25, 0.75): 1.0,
        (0.75, 0.75): 2.0,
        (0.25, 0.25): 10.0,
        (0.5, 0.75): 1.5,
        (0.25, 0.5): 5.5,
        (0.5, 0.5): 8.25,
        (0.0, 1.0): 1.0,
        (1.0, 0.0): 20.0,
        (-3.0, 7.0): 1.0,
        (0.5, -1.0): 15.0,
        (math.inf, -math.inf): 20.0,
        (1e30, 0.25): 20.0,
        (math.nan, 0.5): 0.0,
        (0.5, math.nan): 0.0,
    }
    out = ops.uv_sample(texture, torch.tensor(list(places), device=device))
    assert out.flatten().tolist() == list(places.values())


def test_one_set_of_points_serves_all_images(device):
    texture, uv = make_inputs(device, torch.float64, *SHAPES["vertices"])
    repeated = uv.detach().expand(2, -1, -1).contiguous().requires_grad_()
    assert torch.equal(ops.uv_sample(texture, uv), ops.uv_sample(texture, repeated))
    (got,) = torch.autograd.grad(ops.uv_sample(texture, uv).square().sum(), uv)
    (each,) = torch.autograd.grad(ops.uv_sample(texture, repeated).square().sum(), repeated)
    torch.testing.assert_close(got, each.sum(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", ["vertices", "picture", "odd"])
def test_gradients_are_exact(device, shape):
    nondet_tol = 1e-12 if device.type == "cuda" else 0.0  # atomics add in any order: 1e-16 of values of order 1
    inputs = make_inputs(device, torch.float64, *SHAPES[shape])
    assert torch.autograd.gradcheck(ops.uv_sample, inputs, nondet_tol=nondet_tol)


def test_second_derivatives_are_refused(device):
    inputs = make_inputs(device, torch.float64, *SHAPES["odd"])
    for leaf in inputs:
        (grad,) = torch.autograd.grad(ops.uv_sample(*inputs).square().sum(), leaf, create_graph=True)
        with pytest.raises(RuntimeError, match="facecore::uv_sample_backward has no derivative"):
            torch.autograd.grad(grad.square().sum(), inputs[0])


def test_nan_points_have_no_gradient(device):
    texture, uv = make_inputs(device, torch.float64, *SHAPES["vertices"])
    lost = uv.detach().clone()
    lost[3, 0] = lost[7, 1] = math.nan
    lost.requires_grad_()
    out = ops.uv_sample(texture, lost)
    grad_out = torch.ones_like(out)
    grad_out[:, [3, 7]] = math.nan  # reaches nothing
    grad_texture, grad_uv = torch.autograd.grad(out, (texture, lost), grad_out)
    kept = torch.ones(50, dtype=torch.bool)
    kept[[3, 7]] = False
    want = torch.autograd.grad(ops.uv_sample(texture, uv[kept]).sum(), (texture, uv))
    torch.testing.assert_close(grad_texture, want[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grad_uv, want[1], rtol=1e-12, atol=1e-12)
    assert (out[:, [3, 7]] == 0).all()


def test_nan_points_have_no_gradient_over_nan_texels(device):
    texture, uv = make_inputs(device, torch.float32, *SHAPES["vertices"])
    hollow, lost = torch.full_like(texture, math.nan).requires_grad_(), uv.detach().clone()
    lost[3, 0] = lost[7, 1] = math.nan
    lost.requires_grad_()
    grad_texture, grad_uv = torch.autograd.grad(ops.uv_sample(hollow, lost).sum(), (hollow, lost))
    assert (grad_uv[[3, 7]] == 0).all() and grad_uv.isnan().any()  # a point that is somewhere has the texel's NaN
    assert grad_texture.isfinite().all()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(width=32), min_size=2, max_size=20),  # all of them: NaN, infinities, denormals
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_hostile_coordinates_stay_between_the_texels(values, height, width):
    uv = torch.tensor(values[: len(values) // 2 * 2]).view(-1, 2).requires_grad_()
    texture = torch.rand(1, 2, height, width, generator=torch.Generator().manual_seed(1)).requires_grad_()
    out = ops.uv_sample(texture, uv)
    assert (out >= 0).all() and (out <= 1.0 + 1e-6).all()
    grads = torch.autograd.grad(out.sum(), (texture, uv))
    assert all(bool(torch.isfinite(g).all()) for g in grads)


@pytest.mark.parametrize("images", [1, 3])
def test_threads_change_no_bit(thread_count, images):
    inputs = make_inputs(torch.device("cpu"), torch.float32, (images, 3, 40, 30), (images, 5000, 2))
    results = []
    for count in (1, 2, 4):
        thread_count(count)
        out = ops.uv_sample(*inputs)
        results.append((out, *torch.autograd.grad(out.square().sum(), inputs)))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_gathered_gradient_is_the_same_gradient(cuda_kernels, shape):
    texture, uv = (x.detach() for x in make_inputs(cuda_kernels, torch.float64, *shape))
    points = uv.unsqueeze(0) if uv.ndim == 2 else uv.reshape(uv.shape[0], uv.shape[1:-1].numel(), 2)
    if points.numel():
        points[:, 0, 0] = math.nan
        points[:, -1] = points.new_tensor([-0.3, math.inf])
    n, c = texture.shape[:2]
    grad_out = torch.randn(n, points.shape[1], c, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    inputs = (grad_out.to(cuda_kernels), texture, points, True, True)
    added, gathered = added_and_gathered(lambda: torch.ops.facecore.uv_sample_backward(*inputs))
    torch.testing.assert_close(gathered, added, rtol=1e-12, atol=1e-12)


def test_is_registered_correctly(device):
    texture, uv = make_inputs(device, torch.float32, *SHAPES["vertices_per_image"])
    torch.library.opcheck(torch.ops.facecore.uv_sample.default, (texture, uv))
    check_registration(torch.ops.facecore.uv_sample.default, ops.uv_sample, (texture, uv))
    grad = torch.randn(2, 50, 3, device=device)
    for wanted in ((True, True), (True, False), (False, True)):
        torch.library.opcheck(
            torch.ops.facecore.uv_sample_backward.default, (grad, texture.detach(), uv.detach(), *wanted)
        )


def test_rejects_bad_inputs(device):
    texture = torch.zeros(2, 3, 4, 5, device=device)
    uv = torch.zeros(7, 2, device=device)
    cases = [
        ((texture[0], uv), r"texture must have shape \[N, C, Hu, Wu\], got \[3, 4, 5\]"),
        ((texture, uv[:, :1]), r"uv must have shape \[V, 2\], \[N, V, 2\] or \[N, H, W, 2\], got \[7, 1\]"),
        ((texture, uv[0]), r"uv must have shape"),
        ((texture, uv.expand(3, -1, -1)), r"uv must have 2 images like texture, got shape \[3, 7, 2\]"),
        ((texture, uv.expand(1, -1, -1)), r"uv must have 2 images like texture, got shape \[1, 7, 2\]"),
        ((texture, uv.double()), r"uv must have dtype torch.float32 like the first argument, got torch.float64"),
        ((texture.int(), uv), r"texture must have dtype float32 or float64, got int32"),
        ((texture[..., :0], uv), r"texture must have 1 to 16384 texels a side, got shape \[2, 3, 4, 0\]"),
        ((texture, None), r"uv must be a torch.Tensor, got NoneType"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            ops.uv_sample(*arguments)
