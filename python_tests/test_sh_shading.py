"""facecore.ops.sh_shading against its definition."""

from __future__ import annotations

import math

import pytest
import torch
from checks import check_matches_reference, check_registration

from facecore import _C, ops, reference

SHAPES = {  # of the normals without the last 3
    "pixels": (2, 24, 20),
    "vertices": (3, 7),
    "several_blocks": (2, 2500),
    "one_pixel": (1, 1, 1),
    "one_normal_per_image": (4,),
    "empty_batch": (0, 3, 5),
    "empty_picture": (2, 0, 5),
}


def make_inputs(device, dtype, *shape):
    generator = torch.Generator().manual_seed(3)
    normals = torch.randn(*shape, 3, generator=generator, dtype=torch.float64)
    sh_coefficients = torch.randn(shape[0], 9, 3, generator=generator, dtype=torch.float64)
    return [x.to(device, dtype).requires_grad_() for x in (normals, sh_coefficients)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_matches_reference(device, dtype, shape):
    inputs = make_inputs(device, dtype, *shape)
    # the coefficients' gradient adds up thousands of points; float32 rounds once per addition
    tolerance = (1e-4, 2e-5) if dtype == torch.float32 else (1e-12, 1e-11)
    check_matches_reference(ops.sh_shading, reference.sh_shading, inputs, tolerance=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_simd_level(simd_level, dtype):
    for points in (1, 2, 63, 64, 65, 130, 1025):  # around whole vectors, tiles and blocks
        tolerance = (1e-4, 2e-5) if dtype == torch.float32 else (1e-12, 1e-11)  # as above
        inputs = make_inputs("cpu", dtype, 2, points)
        check_matches_reference(ops.sh_shading, reference.sh_shading, inputs, tolerance=tolerance)


def test_constants_are_those_of_the_paper():
    """The numbers of METHODS 1.5, and the exact products of a_l and c_l."""
    expected = (0.886227, 1.772454, 2.427032, 0.700624, 1.213516)
    assert _C.sh_constants == pytest.approx(expected, abs=5e-7)
    band2 = 2 * math.pi / math.sqrt(8) * 3 * math.sqrt(5) / math.sqrt(12 * math.pi)
    exact = (math.sqrt(math.pi) / 2, math.sqrt(math.pi), band2, band2 / (2 * math.sqrt(3)), band2 / 2)
    assert _C.sh_constants == pytest.approx(exact, rel=1e-15)


def test_hand_computed(device):
    """One coefficient at a time, at a normal where every polynomial has another value."""
    normals = torch.tensor([[2.0, 3.0, 5.0]], dtype=torch.float64, device=device).expand(9, 3)
    sh_coefficients = torch.zeros(9, 9, 3, dtype=torch.float64, device=device)
    for b in range(9):
        sh_coefficients[b, b] = torch.tensor([1.0, 10.0, 0.0])
    band0, band1, band2, h6, h8 = _C.sh_constants
    expected = [
        band0, -3 * band1, 5 * band1, -2 * band1, 6 * band2, -15 * band2, 74 * h6, -10 * band2, -5 * h8,
    ]  # fmt: skip
    out = ops.sh_shading(normals, sh_coefficients)
    torch.testing.assert_close(out[:, 0], torch.tensor(expected, dtype=torch.float64, device=device))
    torch.testing.assert_close(out[:, 1], 10 * out[:, 0])
    assert not out[:, 2].any()


def test_accepts_any_strides(device):
    normals, sh_coefficients = make_inputs(device, torch.float64, 3, 5, 4)
    expected = ops.sh_shading(normals, sh_coefficients)
    channels_first = normals.detach().permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    light = sh_coefficients.detach().transpose(1, 2).contiguous().transpose(1, 2)
    torch.testing.assert_close(ops.sh_shading(channels_first, light), expected, rtol=0, atol=0)
    one_light = ops.sh_shading(normals, sh_coefficients[:1].expand(3, 9, 3))
    torch.testing.assert_close(one_light[0], expected[0], rtol=0, atol=0)
    grads = torch.autograd.grad(expected.sum(), (normals, sh_coefficients))  # expanded gradient
    want = torch.autograd.grad(reference.sh_shading(normals, sh_coefficients).sum(), (normals, sh_coefficients))
    torch.testing.assert_close(grads, want, rtol=1e-12, atol=1e-12)


def test_gradients_are_exact(device):
    inputs = make_inputs(device, torch.float64, 2, 3, 2)
    assert torch.autograd.gradcheck(ops.sh_shading, inputs)
    assert torch.autograd.gradgradcheck(ops.sh_shading, inputs)


def test_autocast_does_not_lower_the_precision_of_second_derivatives(device):
    inputs = make_inputs(device, torch.float32, 2, 7)
    results = []
    for enabled in (False, True):
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled):
            grads = torch.autograd.grad(ops.sh_shading(*inputs).pow(3).sum(), inputs, create_graph=True)
            results.append(torch.autograd.grad(sum(g.pow(2).sum() for g in grads), inputs))
    assert all(torch.equal(a, b) for a, b in zip(*results))


def test_threads_give_the_same_bits(thread_count):
    normals, sh_coefficients = make_inputs("cpu", torch.float32, 2, 61, 67)
    results = []
    for count in (1, 2, 3):
        thread_count(count)
        shading = ops.sh_shading(normals, sh_coefficients)
        results.append((shading, *torch.autograd.grad(shading.square().sum(), (normals, sh_coefficients))))
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0]))


def test_is_registered_correctly(device):
    inputs = make_inputs(device, torch.float32, 2, 7)
    check_registration(torch.ops.facecore.sh_shading.default, ops.sh_shading, inputs)
    grad = torch.randn(2, 7, 3, device=device).requires_grad_()
    torch.library.opcheck(torch.ops.facecore.sh_shading_backward.default, (grad, *inputs))


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, torch.zeros(3), r"normals must have shape \[N, ..., 3\], got \[3\]"),
        (0, torch.zeros(2, 7, 4), r"normals must have shape \[N, P, 3\], got \[2, 7, 4\]"),
        (0, None, r"normals must be a torch.Tensor, got NoneType"),
        (1, torch.zeros(2, 3, 9), r"sh_coefficients must have shape \[2, 9, 3\], got \[2, 3, 9\]"),
        (1, torch.zeros(3, 9, 3), r"sh_coefficients must have shape \[2, 9, 3\], got \[3, 9, 3\]"),
        (1, torch.zeros(2, 9, 3, dtype=torch.float64), r"sh_coefficients must have dtype torch.float32"),
    ],
)
def test_rejects_bad_arguments(position, value, message):
    inputs = [x.detach() for x in make_inputs("cpu", torch.float32, 2, 7)]
    inputs[position] = value
    with pytest.raises(ValueError, match=message):
        ops.sh_shading(*inputs)
