"""facecore.ops.uv_unwrap against its definition, its gradients, its registration and its arguments."""

from __future__ import annotations

import math

import pytest
import torch
from checks import added_and_gathered, check_matches_reference
from uv_scenes import SHAPES, make_inputs

from facecore import _C, ops, reference, reference_uv
from facecore.structures import Fragments


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("occlusion", [True, False])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_matches_reference(device, dtype, shape, occlusion):
    image, vertices, uv_map, fragments = make_inputs(device, dtype, *shape)
    inputs = (image, vertices, uv_map, fragments if occlusion else None)
    got, want = ops.uv_unwrap(*inputs)[1], reference.uv_unwrap(*inputs)[1]
    assert torch.equal(got, want)
    if shape is SHAPES["typical"]:
        assert 0.1 < float(got.float().mean()) < 0.6
    # float32: a place is known to 3e-6 pixels and neighbouring pixels differ by up to 5; w multiplies that again
    tolerance = (5e-5, 5e-5) if dtype == torch.float32 else (1e-11, 1e-11)
    check_matches_reference(
        lambda *x: ops.uv_unwrap(*x)[0], lambda *x: reference.uv_unwrap(*x)[0], inputs, tolerance=tolerance
    )


def test_the_constants_are_those_of_the_definition():
    assert (_C.uv_unwrap_tolerance, _C.uv_unwrap_slope) == (reference_uv._TOLERANCE, reference_uv._SLOPE)


def test_accepts_any_strides(device):
    image, vertices, uv_map, fragments = make_inputs(device, torch.float64, *SHAPES["odd"])
    expected = ops.uv_unwrap(image, vertices, uv_map, fragments)
    strided = [x.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_() for x in (image, vertices)]
    strided_fragments = Fragments(*(x.transpose(1, 2).contiguous().transpose(1, 2) for x in fragments))
    got = ops.uv_unwrap(*strided, uv_map, strided_fragments)
    assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])
    grads = torch.autograd.grad(got[0].sum(), strided)  # .sum() hands backward an expanded gradient
    want = torch.autograd.grad(reference.uv_unwrap(image, vertices, uv_map, fragments)[0].sum(), (image, vertices))
    torch.testing.assert_close(grads, want, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("occlusion", [True, False])
def test_gradients_are_exact(device, occlusion):
    image, vertices, uv_map, fragments = make_inputs(device, torch.float64, 2, 2, 7, 9, (6, 5))
    fragments = fragments if occlusion else None
    nondet_tol = 1e-11 if device.type == "cuda" else 0.0  # atomics add in any order: 1e-16 of values of order 100
    assert torch.autograd.gradcheck(
        lambda a, b: ops.uv_unwrap(a, b, uv_map, fragments)[0], (image, vertices), nondet_tol=nondet_tol
    )


def test_second_derivatives_are_refused(device):
    inputs = make_inputs(device, torch.float64, *SHAPES["odd"])
    for leaf in inputs[:2]:
        (grad,) = torch.autograd.grad(ops.uv_unwrap(*inputs)[0].square().sum(), leaf, create_graph=True)
        with pytest.raises(RuntimeError, match="facecore::uv_unwrap_backward has no derivative"):
            torch.autograd.grad(grad.square().sum(), inputs[0])


def test_valid_has_no_gradient_and_one_leaf_is_enough(device):
    image, vertices, uv_map, fragments = make_inputs(device, torch.float64, *SHAPES["odd"])
    texture, valid = ops.uv_unwrap(image, vertices, uv_map, fragments)
    assert not valid.requires_grad
    both = torch.autograd.grad(texture.square().sum(), (image, vertices))
    for index in (0, 1):
        leaves = [x if k == index else x.detach() for k, x in enumerate((image, vertices))]
        texture, _ = ops.uv_unwrap(*leaves, uv_map, fragments)
        (alone,) = torch.autograd.grad(texture.square().sum(), leaves[index])
        torch.testing.assert_close(alone, both[index], rtol=1e-12, atol=1e-12)


def test_what_comes_in_for_invalid_texels_reaches_nothing(device):
    image, vertices, uv_map, fragments = make_inputs(device, torch.float64, *SHAPES["odd"])
    texture, valid = ops.uv_unwrap(image, vertices, uv_map, fragments)
    grad = torch.where(valid.unsqueeze(1), 1.0, math.nan).expand_as(texture).to(texture)
    got = torch.autograd.grad(texture, (image, vertices), grad, retain_graph=True)
    want = torch.autograd.grad(texture.sum(), (image, vertices))
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_gathered_gradients_are_the_same_gradients(cuda_kernels, shape):
    image, vertices, uv_map, fragments = make_inputs(cuda_kernels, torch.float64, *shape)
    texture, valid = ops.uv_unwrap(image, vertices, uv_map, fragments)
    grad = torch.randn(texture.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    grad = torch.where(valid.unsqueeze(1), grad.to(cuda_kernels), math.nan)

    def gradients() -> tuple[torch.Tensor, ...]:
        return tuple(
            torch.autograd.grad(texture, wanted, grad, retain_graph=True)
            for wanted in ((image, vertices), (image,), (vertices,))
        )

    added, gathered = added_and_gathered(gradients)
    assert all(x.isfinite().all() for grads in added for x in grads)
    torch.testing.assert_close(gathered, added, rtol=1e-11, atol=1e-11)


def test_is_registered_correctly(device):
    image, vertices, uv_map, fragments = make_inputs(device, torch.float32, *SHAPES["odd"])
    tables = uv_map.corners.permute(2, 0, 1), uv_map.barycentric.permute(2, 0, 1)
    lists = uv_map.vertex_start, uv_map.vertex_texels
    op = torch.ops.facecore.uv_unwrap.default
    torch.library.opcheck(op, (image, vertices, *tables, uv_map.triangles, *lists, None, None))
    arguments = (image, vertices, *tables, uv_map.triangles, *lists, fragments.z_ndc, fragments.triangle_id)
    torch.library.opcheck(op, arguments)
    compiled = torch.compile(ops.uv_unwrap, fullgraph=True, backend="aot_eager")
    got, expected = compiled(image, vertices, uv_map, fragments), ops.uv_unwrap(image, vertices, uv_map, fragments)
    torch.testing.assert_close(got, expected)
    for wanted in ((True, True), (True, False), (False, True)):
        arguments = (torch.ones_like(expected[0]), image, vertices, *tables, *lists, expected[1], *wanted)
        arguments = tuple(x.detach() if isinstance(x, torch.Tensor) else x for x in arguments)
        torch.library.opcheck(torch.ops.facecore.uv_unwrap_backward.default, arguments)


def test_rejects_bad_inputs(device):
    image, vertices, uv_map, fragments = make_inputs(device, torch.float32, *SHAPES["odd"])
    cases = [
        ((image[0], vertices, uv_map), r"image must have shape \[N, C, H, W\], got \[5, 7, 9\]"),
        ((image.half(), vertices, uv_map), r"image must have dtype float32 or float64, got float16"),
        ((image, vertices[..., :3], uv_map), r"vertices_clip must have shape \[3, V, 4\], got \[3, 162, 3\]"),
        ((image, vertices[:2], uv_map), r"vertices_clip must have shape \[3, V, 4\], got \[2, 162, 4\]"),
        (
            (image, vertices[:, :5], uv_map),
            r"vertices_clip must have the 162 vertices of uv_map, got shape \[3, 5, 4\]",
        ),
        ((image, vertices.double(), uv_map), r"vertices_clip must have dtype torch.float32 like the first argument"),
        ((image, vertices, uv_map.to(dtype=torch.float64)), r"uv_map.barycentric must have dtype torch.float32"),
        ((image, vertices, uv_map.triangle_id), r"uv_map must be a UVMap of facecore.mesh.build_uv_map, got Tensor"),
        (
            (image, vertices, uv_map, tuple(fragments)),
            r"fragments must be the Fragments of rasterize or None, got tuple",
        ),
        (
            (image, vertices, uv_map, Fragments(*(x[:, 1:] for x in fragments))),
            r"fragments.z_ndc must have shape \[3, 7, 9\], got \[3, 6, 9\]",
        ),
        (
            (image.expand(3, 5, 7, 9)[..., :1].expand(3, 5, 7, 20000), vertices, uv_map),
            r"image must have at most 16384",
        ),
        ((None, vertices, uv_map), r"image must be a torch.Tensor, got NoneType"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            ops.uv_unwrap(*arguments)
