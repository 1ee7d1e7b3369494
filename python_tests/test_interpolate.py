"""facecore.ops.interpolate against its definition."""

from __future__ import annotations

import pytest
import torch
from checks import added_and_gathered, check_matches_reference, check_registration

from facecore import ops, reference

SHAPES = {  # images, vertices, triangles, height, width, channels
    "typical": (2, 50, 90, 24, 20, 3),
    "one_pixel": (1, 3, 1, 1, 1, 1),
    "odd": (3, 7, 5, 3, 5, 2),
    "empty_batch": (0, 7, 5, 3, 5, 2),
    "empty_picture": (2, 7, 5, 0, 5, 2),
    "no_channels": (2, 7, 5, 3, 5, 0),
    "no_triangles": (2, 7, 0, 3, 5, 2),
}
CHANNELS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 31, 32, 33, 64)


def make_inputs(device, dtype, n, v, t, h, w, c):
    generator = torch.Generator().manual_seed(3)
    attributes = torch.randn(n, v, c, generator=generator, dtype=torch.float64)
    triangles = torch.randint(0, v, (t, 3), generator=generator, dtype=torch.int32)
    triangle_id = torch.randint(-1, t, (n, h, w), generator=generator, dtype=torch.int32)
    barycentric = torch.randn(n, h, w, 3, generator=generator, dtype=torch.float64)
    floats = [x.to(device, dtype).requires_grad_() for x in (attributes, barycentric)]
    return floats[0], triangles.to(device), triangle_id.to(device), floats[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_matches_reference(device, dtype, shape):
    check_matches_reference(ops.interpolate, reference.interpolate, make_inputs(device, dtype, *shape))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", CHANNELS)
def test_every_channel_count(device, dtype, channels):
    # float32: each gradient of a barycentric adds up to 64 products, each of an attribute about 90 pixels
    tolerance = (1e-5, 3e-5) if dtype == torch.float32 else None
    inputs = make_inputs(device, dtype, 2, 50, 90, 24, 60, channels)
    inputs[2][:, :9] = -1  # more uncovered pixels in a row than are looked at together
    inputs[2][:, 10:12, 3:50] = -1
    check_matches_reference(ops.interpolate, reference.interpolate, inputs, tolerance=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_simd_level(simd_level, dtype):
    tolerance = (1e-5, 3e-5) if dtype == torch.float32 else None  # as above
    for channels in CHANNELS:
        inputs = make_inputs("cpu", dtype, 2, 50, 90, 11, 13, channels)
        check_matches_reference(ops.interpolate, reference.interpolate, inputs, tolerance=tolerance)


@pytest.mark.parametrize("channels", [1, 3, 5, 16, 33])
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("picture", ["neighbours_close", "neighbours_anywhere"])
def test_threads_give_the_same_bits(thread_count, images, channels, picture):
    attributes, triangles, triangle_id, barycentric = make_inputs(
        "cpu", torch.float32, images, 400, 700, 64, 61, channels
    )
    if picture == "neighbours_close":  # most vertices are seen in one part of the picture, as those of a mesh are
        triangles = (torch.arange(700).view(-1, 1) // 2 + torch.tensor([0, 1, 20])).to(torch.int32)
        triangle_id = torch.where(triangle_id < 0, -1, triangle_id.flatten(1).sort(1).values.view_as(triangle_id))
    results = []
    for count in (1, 2, 3, 4):
        thread_count(count)
        out = ops.interpolate(attributes, triangles, triangle_id, barycentric)
        results.append((out, *torch.autograd.grad(out.square().sum(), (attributes, barycentric))))
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0]))


@pytest.mark.parametrize("bad", [-1, -(2**31), 7, 2**31 - 1])
@pytest.mark.parametrize("size", [1, 40])  # a picture for one thread, and for several
def test_a_triangle_with_a_vertex_that_is_none_covers_nothing(thread_count, device, bad, size):
    attributes, triangles, triangle_id, barycentric = make_inputs(device, torch.float64, 1, 7, 5, size, 61 * size, 2)
    triangle_id[..., 0, 0] = 2
    uncovered = torch.where(triangle_id == 2, -1, triangle_id)
    want = ops.interpolate(attributes, triangles, uncovered, barycentric)
    want_grads = torch.autograd.grad(want.square().sum(), (attributes, barycentric))
    triangles[2, 1] = bad
    for count in (1, 2):
        thread_count(count)
        out = ops.interpolate(attributes, triangles, triangle_id, barycentric)
        grads = torch.autograd.grad(out.square().sum(), (attributes, barycentric))
        assert torch.equal(out, want)
        torch.testing.assert_close(grads, want_grads, rtol=1e-12, atol=1e-12)  # CUDA adds in any order


def test_accepts_any_strides(device):
    attributes, triangles, triangle_id, barycentric = make_inputs(device, torch.float64, *SHAPES["odd"])
    expected = ops.interpolate(attributes, triangles, triangle_id, barycentric)
    strided = [x.detach().transpose(0, 1).contiguous().transpose(0, 1) for x in (attributes, barycentric)]
    got = ops.interpolate(strided[0], triangles.flip(0).flip(0), triangle_id, strided[1])
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
    (grad,) = torch.autograd.grad(expected.sum(), attributes)  # .sum() hands backward an expanded gradient
    (want,) = torch.autograd.grad(
        reference.interpolate(attributes, triangles, triangle_id, barycentric).sum(), attributes
    )
    torch.testing.assert_close(grad, want, rtol=1e-12, atol=1e-12)


def test_hand_computed(device):
    attributes = torch.tensor([[[1.0], [10.0], [100.0]]], device=device)
    triangles = torch.tensor([[2, 0, 1]], dtype=torch.int32, device=device)
    triangle_id = torch.tensor([[[0, -1]]], dtype=torch.int32, device=device)
    barycentric = torch.tensor([[[[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]]], device=device)
    out = ops.interpolate(attributes, triangles, triangle_id, barycentric)
    assert out.flatten().tolist() == [50.0 + 0.25 + 2.5, 0.0]


def test_gradients_are_exact(device):
    inputs = make_inputs(device, torch.float64, *SHAPES["odd"])
    nondet_tol = 1e-12 if device.type == "cuda" else 0.0  # atomics add in any order: 1e-16 of values of order 1
    assert torch.autograd.gradcheck(ops.interpolate, inputs, nondet_tol=nondet_tol)
    assert torch.autograd.gradgradcheck(ops.interpolate, inputs, nondet_tol=nondet_tol)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_gathered_gradient_is_the_same_gradient(cuda_kernels, shape):
    device = cuda_kernels
    attributes, triangles, triangle_id, barycentric = (x.detach() for x in make_inputs(device, torch.float64, *shape))
    triangle_id[:, :1] = triangles.shape[0]  # of another mesh
    if shape == SHAPES["typical"]:
        triangles[3, 1] = 50  # no vertex
    out = ops.interpolate(attributes, triangles, triangle_id, barycentric)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(device)
    grad = torch.where((triangle_id == triangles.shape[0]).unsqueeze(-1), float("nan"), grad)
    inputs = (grad, attributes, triangles, triangle_id, barycentric, True, True)
    added, gathered = added_and_gathered(lambda: torch.ops.facecore.interpolate_backward_v2(*inputs))
    assert added[0].isfinite().all()
    torch.testing.assert_close(gathered, added, rtol=1e-12, atol=1e-12)


def test_is_registered_correctly(device):
    inputs = make_inputs(device, torch.float32, *SHAPES["odd"])
    check_registration(torch.ops.facecore.interpolate.default, ops.interpolate, inputs)
    grad = torch.randn(3, 3, 5, 2, device=device)
    arguments = grad, *(x.detach() for x in inputs)
    for wanted in ((True, True), (True, False), (False, True)):
        torch.library.opcheck(torch.ops.facecore.interpolate_backward_v2.default, (*arguments, *wanted))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threads", [1, 3])
def test_one_gradient_alone_is_the_same_gradient(device, dtype, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        inputs = make_inputs(device, dtype, *SHAPES["typical"])
        out = ops.interpolate(*inputs)
        weight = torch.rand(out.shape, generator=torch.Generator().manual_seed(2), dtype=dtype).to(device)
        both = torch.autograd.grad((out * weight).sum(), (inputs[0], inputs[3]))
        for place, want in zip((0, 3), both):
            only = [x.detach() for x in inputs]
            only[place].requires_grad_()
            loss = (ops.interpolate(*only) * weight).sum()
            (got,) = torch.autograd.grad(loss, only[place])
            assert want.abs().max() > 0
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)  # the order of two roundings at most
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("place", [0, 3])
def test_second_derivative_with_one_constant(device, place):
    inputs = [x.detach() for x in make_inputs(device, torch.float64, *SHAPES["odd"])]
    inputs[place].requires_grad_()
    weight = torch.ones((), dtype=torch.float64, device=device, requires_grad=True)

    def function(leaf: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return weight.square() * ops.interpolate(*inputs[:place], leaf, *inputs[place + 1 :])

    assert torch.autograd.gradgradcheck(function, (inputs[place], weight), nondet_tol=1e-12)


@pytest.mark.parametrize("bad", [-2, -(2**31), 5, 2**31 - 1])
def test_a_triangle_of_another_mesh_covers_nothing(device, bad):
    attributes, triangles, triangle_id, barycentric = make_inputs(device, torch.float64, *SHAPES["odd"])
    triangle_id[:, 1] = bad
    uncovered = torch.where(triangle_id == bad, -1, triangle_id)
    out = ops.interpolate(attributes, triangles, triangle_id, barycentric)
    assert (out[:, 1] == 0).all()
    assert torch.equal(out, ops.interpolate(attributes, triangles, uncovered, barycentric))
    torch.testing.assert_close(
        out, reference.interpolate(attributes, triangles, triangle_id, barycentric), rtol=1e-12, atol=1e-12
    )
    got = torch.autograd.grad(out.square().sum(), (attributes, barycentric))
    want = torch.autograd.grad(
        reference.interpolate(attributes, triangles, uncovered, barycentric).square().sum(), (attributes, barycentric)
    )
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_debug_mode_refuses_indices_out_of_range(device, debug):
    attributes, triangles, triangle_id, barycentric = (
        x.detach() for x in make_inputs(device, torch.float64, *SHAPES["odd"])
    )
    ops.interpolate(attributes, triangles, triangle_id, barycentric)  # -1 is allowed
    grad = torch.ones(3, 3, 5, 2, dtype=torch.float64, device=device)
    for bad_triangle, bad_id, message in (
        (7, 0, r"triangles must index 7 vertices, 0 to 6, got values from \d to 7"),
        (0, 5, r"triangle_id must index 5 triangles, 0 to 4 or -1, got values from -1 to 5"),
        (0, -2, r"triangle_id must index 5 triangles, 0 to 4 or -1, got values from -2 to \d"),
    ):
        triangles[0, 0], triangle_id[0, 0, 0] = bad_triangle, bad_id
        with pytest.raises(ValueError, match=message):
            ops.interpolate(attributes, triangles, triangle_id, barycentric)
        with pytest.raises(ValueError, match=message):
            torch.ops.facecore.interpolate_backward_v2(
                grad, attributes, triangles, triangle_id, barycentric, True, True
            )


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, torch.zeros(3, 7), r"attributes must have shape \[N, V, C\], got \[3, 7\]"),
        (1, torch.zeros(5, 3), r"triangles must have dtype int32, got float32"),
        (2, torch.zeros(2, 3, 5, dtype=torch.int32), r"triangle_id must have shape \[3, H, W\], got \[2, 3, 5\]"),
        (3, torch.zeros(3, 3, 5, 2), r"barycentric must have shape \[3, 3, 5, 3\], got \[3, 3, 5, 2\]"),
        (3, torch.zeros(3, 3, 5, 3, dtype=torch.float64), r"barycentric must have dtype torch.float32"),
        (0, None, r"attributes must be a torch.Tensor, got NoneType"),
    ],
)
def test_rejects_bad_arguments(position, value, message):
    inputs = [x.detach() for x in make_inputs("cpu", torch.float32, *SHAPES["odd"])]
    inputs[position] = value
    with pytest.raises(ValueError, match=message):
        ops.interpolate(*inputs)
