"""facecore.ops.surface_shading against its definition."""

from __future__ import annotations

import math

import pytest
import torch
from checks import check_matches_reference, check_registration

from facecore import ops, reference

SHAPES = {  # of the normals without the last 3
    "pixels": (2, 24, 20),
    "vertices": (3, 7),
    "several_blocks": (2, 2500),
    "one_pixel": (1, 1, 1),
    "one_normal_per_image": (4,),
    "empty_batch": (0, 3, 5),
    "empty_picture": (2, 0, 5),
}
# The coefficients' gradient adds up thousands of points, and float32 rounds once per addition; normals may be short,
# and their gradient is divided by their length.
TOLERANCES = {torch.float32: (1e-4, 5e-5), torch.float64: (1e-12, 1e-11)}


def make_inputs(device, dtype, *shape):
    """Normals of lengths around 1, every fifth of them 0."""
    generator = torch.Generator().manual_seed(3)
    normals = torch.randn(*shape, 3, generator=generator, dtype=torch.float64)
    normals = normals * (0.5 / normals.norm(dim=-1, keepdim=True) + 0.5)
    normals.view(-1, 3)[::5] = 0.0
    albedo = torch.rand(*shape, 3, generator=generator, dtype=torch.float64)
    sh_coefficients = torch.randn(shape[0], 9, 3, generator=generator, dtype=torch.float64)
    return [x.to(device, dtype).requires_grad_() for x in (normals, albedo, sh_coefficients)]


def joined(function):
    return lambda *inputs: torch.cat(function(*inputs), -1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_matches_reference(device, dtype, shape):
    inputs = make_inputs(device, dtype, *shape)
    functions = joined(ops.surface_shading), joined(reference.surface_shading)
    check_matches_reference(*functions, inputs, tolerance=TOLERANCES[dtype])


@pytest.mark.parametrize("output", range(3))
def test_gradients_of_one_output_alone(device, output):
    """The others' gradients are absent then, not zeros."""
    inputs = make_inputs(device, torch.float64, 2, 70)
    functions = [lambda *a, f=f: f(*a)[output] for f in (ops.surface_shading, reference.surface_shading)]
    check_matches_reference(*functions, inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_simd_level(simd_level, dtype):
    for points in (1, 2, 63, 64, 65, 130, 1025):  # around whole vectors, tiles and blocks
        inputs = make_inputs("cpu", dtype, 2, points)
        functions = joined(ops.surface_shading), joined(reference.surface_shading)
        check_matches_reference(*functions, inputs, tolerance=TOLERANCES[dtype])


def test_hand_computed(device):
    """A normal of length 5 along z in a light that has all of its first four terms 1: L = (H0 + H2), H2 = sqrt(pi)."""
    normals = torch.tensor([[[0.0, 0.0, 5.0], [0.0, 0.0, 0.0]]], dtype=torch.float64, device=device)
    albedo = torch.tensor([[[0.5, 0.25, 1.0], [0.5, 0.25, 1.0]]], dtype=torch.float64, device=device)
    light = torch.zeros(1, 9, 3, dtype=torch.float64, device=device)
    light[:, :4] = 1
    color, shading, unit = ops.surface_shading(normals, albedo, light)
    expected = math.sqrt(math.pi) / 2 + math.sqrt(math.pi)
    zero = [0.0, 0.0, 0.0]
    assert unit.tolist() == [[[0.0, 0.0, 1.0], zero]]
    torch.testing.assert_close(shading.cpu(), torch.tensor([[[expected] * 3, zero]], dtype=torch.float64))
    torch.testing.assert_close(color, albedo * shading)


def test_gradients_are_exact(device):
    inputs = make_inputs(device, torch.float64, 2, 3, 2)
    inputs[0] = torch.where(inputs[0] == 0, 0.3, inputs[0]).detach().requires_grad_()  # the direction jumps at 0
    assert torch.autograd.gradcheck(ops.surface_shading, inputs)
    assert torch.autograd.gradgradcheck(ops.surface_shading, inputs)


def test_the_two_backward_passes_agree(device):
    """That which is differentiated again is written in torch, the other is a kernel."""
    inputs = make_inputs(device, torch.float64, 2, 130)
    color, shading, unit = ops.surface_shading(*inputs)
    value = color.square().sum() + shading.pow(3).sum() + unit[..., 0].sum()
    plain = torch.autograd.grad(value, inputs, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(value, inputs, create_graph=True), plain, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e-7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_normal_without_direction_is_dark_and_still(device, dtype, bad):
    normals, albedo, light = make_inputs(device, dtype, 2, 90)
    with torch.no_grad():
        normals[1, 17] = torch.tensor([bad, 0.0, 0.0])
        albedo[0, 5], normals[0, 5] = bad, 0.0
    results = ops.surface_shading(normals, albedo, light)
    value = sum((k + 1) * r.sum() for k, r in enumerate(results))
    grads = torch.autograd.grad(value, (normals, albedo, light), retain_graph=True)
    again = torch.autograd.grad(value, (normals, albedo, light), create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in again), (normals, albedo, light))
    dark = (*results, *grads[:2], *again[:2], *second[:2])
    assert not any(part[1, 17].any() or part[0, 5].any() for part in dark)
    assert all(bool(part.isfinite().all()) for part in (*dark, grads[2], again[2], second[2]))
    expected = reference.surface_shading(normals, albedo, light)
    torch.testing.assert_close(torch.cat(results, -1), torch.cat(expected, -1), rtol=1e-5, atol=1e-5)


def test_light_that_is_no_number_stays_where_there_are_normals(device):
    normals, albedo, light = make_inputs(device, torch.float32, 1, 10)
    color, shading, _ = ops.surface_shading(normals, albedo, torch.full_like(light, math.nan))
    without = (normals == 0).all(-1)
    assert without.any() and not color[without].any() and not shading[without].any()
    assert shading[~without].isnan().all()
    for create_graph in (False, True):
        to_normals, to_albedo = torch.autograd.grad(
            color.sum(), (normals, albedo), retain_graph=True, create_graph=create_graph
        )
        assert not to_normals[without].any() and not to_albedo[without].any()


def test_under_torch_func(device):
    """torch.func asks for derivatives that can be differentiated again."""
    inputs = [x.detach() for x in make_inputs(device, torch.float64, 2, 9)]
    inputs[0] = torch.where(inputs[0] == 0, 0.3, inputs[0])

    def value(function, *arguments):
        color, shading, unit = function(*arguments)
        return color.square().sum() + shading.sum() + unit[..., 1].pow(3).sum()

    gradients = [
        torch.func.grad(lambda *a, f=f: value(f, *a), argnums=(0, 1, 2))(*inputs)
        for f in (ops.surface_shading, reference.surface_shading)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-11)


def test_accepts_any_strides(device):
    normals, albedo, light = (x.detach() for x in make_inputs(device, torch.float64, 3, 5, 4))
    expected = ops.surface_shading(normals, albedo, light)
    strided = [x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1) for x in (normals, albedo)]
    for got, want in zip(ops.surface_shading(*strided, light), expected):
        torch.testing.assert_close(got, want, rtol=0, atol=0)


def test_threads_give_the_same_bits(thread_count):
    inputs = make_inputs("cpu", torch.float32, 2, 61, 67)
    results = []
    for count in (1, 2, 3):
        thread_count(count)
        outputs = ops.surface_shading(*inputs)
        results.append((*outputs, *torch.autograd.grad(outputs[0].square().sum(), inputs)))
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0]))


def test_is_registered_correctly(device):
    inputs = make_inputs(device, torch.float32, 2, 7)
    check_registration(torch.ops.facecore.surface_shading.default, joined(ops.surface_shading), inputs)
    grad = torch.randn(2, 7, 3, device=device)
    plain = [x.detach() for x in inputs]
    torch.library.opcheck(torch.ops.facecore.surface_shading_backward.default, (grad, None, grad, *plain))


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, torch.zeros(3), r"normals must have shape \[N, ..., 3\], got \[3\]"),
        (0, None, r"normals must be a torch.Tensor, got NoneType"),
        (1, torch.zeros(2, 8, 3), r"albedo must have shape \[2, 7, 3\] like normals, got \[2, 8, 3\]"),
        (1, torch.zeros(2, 7, 3, dtype=torch.float64), r"albedo must have dtype torch.float32"),
        (2, torch.zeros(2, 3, 9), r"sh_coefficients must have shape \[2, 9, 3\], got \[2, 3, 9\]"),
        (2, torch.zeros(2, 9, 3, dtype=torch.float64), r"sh_coefficients must have dtype torch.float32"),
    ],
)
def test_rejects_bad_arguments(position, value, message):
    inputs = [x.detach() for x in make_inputs("cpu", torch.float32, 2, 7)]
    inputs[position] = value
    with pytest.raises(ValueError, match=message):
        ops.surface_shading(*inputs)
