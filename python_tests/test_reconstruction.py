"""reconstruction_loss: the weighted sum of its two parts, in value and gradient."""

from __future__ import annotations

import functools

import pytest
import torch
from checks import check_matches_reference, check_registration

from facecore import reference_losses
from facecore.losses import gradient_difference_loss, photometric_loss, reconstruction_loss


@pytest.mark.parametrize("norm", ["l2_squared", "l2", "l1"])
@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("masked", [True, False])
def test_is_the_sum_of_its_parts(generator, norm, weight, masked):
    rendered, image = (torch.rand(2, 3, 6, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    mask = (torch.rand(2, 6, 7, generator=generator) > 0.3) if masked else None
    rendered.requires_grad_()
    expected = photometric_loss(rendered, image, mask, norm=norm)
    expected = expected + weight * gradient_difference_loss(rendered, image, mask)
    got = reconstruction_loss(rendered, image, mask, norm=norm, gradient_weight=weight)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    grads = [torch.autograd.grad(loss, rendered)[0] for loss in (got, expected)]
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-12, atol=1e-12)


def test_by_hand():
    rendered, image = torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)
    rendered[..., 1] = 0.4  # photometric (0 + 0.16) / 2, gradient difference 0.4
    assert float(reconstruction_loss(rendered, image, gradient_weight=0.5)) == pytest.approx(0.08 + 0.2)


def test_gradients_of_first_order_and_refusal_of_the_second(generator):
    rendered, image = (torch.rand(1, 2, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    inputs = (rendered.requires_grad_(), image.requires_grad_())
    assert torch.autograd.gradcheck(reconstruction_loss, inputs)
    (grad,) = torch.autograd.grad(reconstruction_loss(*inputs), rendered, create_graph=True)
    with pytest.raises(RuntimeError, match="picture_loss_backward_v2 has no derivative"):
        grad.sum().backward()


SHAPES = [(2, 3, 6, 7), (1, 1, 1, 1), (1, 2, 1, 33), (2, 1, 9, 1), (1, 3, 5, 16), (1, 3, 67, 32), (3, 2, 34, 19)]


def make_pictures(shape, dtype, kind="bool"):
    generator = torch.Generator().manual_seed(11)
    rendered, image = (torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    mask = torch.rand(shape[0], *shape[2:], generator=generator, dtype=torch.float64)
    masks = {"none": None, "bool": mask > 0.3, "float": (mask * 1.5 - 0.5).to(dtype), "empty": torch.zeros_like(mask)}
    return rendered.requires_grad_(), image.requires_grad_(), masks[kind]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", ["l2_squared", "l2", "l1"])
@pytest.mark.parametrize("kind", ["none", "bool", "float", "empty"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(device, dtype, norm, kind, shape):
    """Odd sizes, so that rows end in and beside whole vectors; masks of all kinds, negative weights among them."""
    inputs = [None if x is None else x.detach().to(device) for x in make_pictures(shape, dtype, kind)]
    inputs = [x.requires_grad_(i < 2) if x is not None else None for i, x in enumerate(inputs)]
    options = {"norm": norm, "gradient_weight": 0.7}
    check_matches_reference(
        functools.partial(reconstruction_loss, **options),
        functools.partial(reference_losses.reconstruction_loss, **options),
        inputs,
    )


def make_coverage(inputs, dtype, kind):
    """Parts, holes and whole pixels; what is negative or not a number covers nothing."""
    shape = (len(inputs[0]), *inputs[0].shape[2:])
    numbers = torch.rand(shape, generator=torch.Generator().manual_seed(12), dtype=torch.float64) * 2 - 0.5
    if kind == "bool":
        return numbers > 0.3
    return torch.where(numbers < -0.3, torch.nan, numbers.clamp(max=1.0)).to(dtype)


def check_coverage(inputs, coverage, **options):
    check_matches_reference(
        functools.partial(reconstruction_loss, coverage=coverage, **options),
        functools.partial(reference_losses.reconstruction_loss, coverage=coverage, **options),
        inputs,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["bool", "float"])
@pytest.mark.parametrize("mask_kind", ["none", "bool", "float"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_coverage_matches_reference(dtype, kind, mask_kind, shape):
    inputs = make_pictures(shape, dtype, mask_kind)
    coverage = make_coverage(inputs, dtype, kind)
    for norm in ("l2_squared", "l2", "l1"):
        check_coverage(inputs, coverage, norm=norm, gradient_weight=0.7)


def test_coverage_is_a_composite(generator):
    """The loss of the render laid over the photograph, as one would write it."""
    rendered, image, mask = make_pictures((2, 3, 7, 9), torch.float64)
    coverage = torch.rand(2, 7, 9, generator=generator, dtype=torch.float64)
    alpha = coverage[:, None]
    written = reconstruction_loss(alpha * rendered + (1 - alpha) * image, image, mask)
    fused = reconstruction_loss(rendered, image, mask, coverage=coverage)
    torch.testing.assert_close(fused, written, rtol=1e-12, atol=0)
    grads = [torch.autograd.grad(value, (rendered, image)) for value in (fused, written)]
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_full_coverage_changes_no_bit_and_none_leaves_no_loss(dtype):
    rendered, image, mask = make_pictures((2, 3, 7, 19), torch.float32)
    ones = torch.ones(2, 7, 19, dtype=dtype)
    values = [reconstruction_loss(rendered, image, mask, coverage=coverage) for coverage in (None, ones)]
    assert torch.equal(*values)
    grads = [torch.autograd.grad(value, (rendered, image)) for value in values]
    assert all(torch.equal(a, b) for a, b in zip(*grads))
    value = reconstruction_loss(rendered, image, mask, coverage=torch.zeros_like(ones))
    assert value == 0
    assert all((grad == 0).all() for grad in torch.autograd.grad(value, (rendered, image)))


@pytest.mark.parametrize("kind", ["bool", "float"])
@pytest.mark.parametrize("norm", ["l2_squared", "l2", "l1"])
def test_what_is_not_covered_changes_nothing(kind, norm):
    rendered, image, _ = make_pictures((2, 3, 6, 35), torch.float32)
    coverage = make_coverage((rendered,), torch.float32, kind)
    hidden = ~(coverage > 0)[:, None].expand_as(rendered)
    spoiled = rendered.detach().masked_fill(hidden, torch.nan).requires_grad_()
    values = [reconstruction_loss(x, image, norm=norm, coverage=coverage) for x in (rendered, spoiled)]
    assert torch.equal(*values)
    grads = [torch.autograd.grad(value, (x, image)) for value, x in zip(values, (rendered, spoiled))]
    assert all(torch.equal(a, b) for a, b in zip(*grads))
    assert (grads[1][0][hidden] == 0).all()


def test_coverage_gradient_of_one_picture_and_gradcheck():
    rendered, image, mask = make_pictures((1, 2, 3, 5), torch.float64)
    coverage = make_coverage((rendered,), torch.float64, "float")
    both = torch.autograd.grad(reconstruction_loss(rendered, image, mask, coverage=coverage), (rendered, image))
    for place, pictures in enumerate([(rendered, image.detach()), (rendered.detach(), image)]):
        value = reconstruction_loss(*pictures, mask, coverage=coverage)
        assert torch.equal(torch.autograd.grad(value, pictures[place])[0], both[place])
    assert torch.autograd.gradcheck(lambda r, i: reconstruction_loss(r, i, mask, coverage=coverage), (rendered, image))


def test_peak_memory_is_the_gradient():
    """In allocated bytes: no mask, coverage or picture is copied, and sums are small."""
    rendered, image, mask = make_pictures((4, 3, 64, 64), torch.float32)
    image = image.detach()
    for coverage in (None, mask, mask.float()):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            torch.autograd.grad(reconstruction_loss(rendered, image, mask, coverage=coverage), rendered)
        allocated = sum(event.self_cpu_memory_usage for event in profile.events() if event.self_cpu_memory_usage > 0)
        assert allocated <= rendered.nbytes + 4096


def test_every_simd_level(simd_level):
    for norm in ("l2_squared", "l2", "l1"):
        for dtype in (torch.float32, torch.float64):
            check_matches_reference(
                functools.partial(reconstruction_loss, norm=norm),
                functools.partial(reference_losses.reconstruction_loss, norm=norm),
                make_pictures((2, 3, 37, 50), dtype, "float"),
            )
            inputs = make_pictures((2, 3, 37, 50), dtype, "bool")
            for kind in ("bool", "float"):
                check_coverage(inputs, make_coverage(inputs, dtype, kind), norm=norm)


def test_same_bits_for_any_number_of_threads():
    rendered, image, mask = make_pictures((3, 3, 70, 90), torch.float32)
    threads = torch.get_num_threads()
    runs = []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            value = reconstruction_loss(rendered, image, mask, norm="l2")
            runs.append((value, *torch.autograd.grad(value, (rendered, image))))
    finally:
        torch.set_num_threads(threads)
    for run in runs[1:]:
        assert all(torch.equal(got, want) for got, want in zip(run, runs[0]))


def test_any_strides_and_an_empty_batch():
    rendered, image, mask = (x.detach() for x in make_pictures((2, 3, 8, 9), torch.float64, "float"))
    turned = [x.transpose(-1, -2).contiguous().transpose(-1, -2) for x in (rendered, image, mask)]
    assert torch.equal(reconstruction_loss(*turned), reconstruction_loss(rendered, image, mask))
    nothing = torch.zeros(0, 3, 4, 4, requires_grad=True)
    value = reconstruction_loss(nothing, nothing.detach())
    assert value == 0
    assert torch.autograd.grad(value, nothing)[0].shape == nothing.shape


def test_is_registered_correctly(device):
    rendered, image, mask = (x.detach().to(device) for x in make_pictures((2, 3, 4, 5), torch.float32, "float"))
    options = (1, False, 1.0, 0.5)
    check_registration(
        torch.ops.facecore.picture_loss_v2.default,
        lambda rendered, image, mask, *_: reconstruction_loss(rendered, image, mask, norm="l2", gradient_weight=0.5),
        (rendered.requires_grad_(), image, mask, None, None, *options),
    )
    planes = (mask > 0.5, mask, mask > 0.7)
    torch.library.opcheck(torch.ops.facecore.picture_loss_v2.default, (rendered, image, *planes, *options))
    scales = torch.rand(2, 3, device=device)
    inputs = (torch.ones((), device=device), rendered.detach(), image, mask, None, None, scales, *options, True, True)
    torch.library.opcheck(torch.ops.facecore.picture_loss_backward_v2.default, inputs)
    inputs = (*inputs[:3], *planes, *inputs[6:])
    torch.library.opcheck(torch.ops.facecore.picture_loss_backward_v2.default, inputs)


def test_bad_inputs():
    with pytest.raises(ValueError, match="image must have shape"):
        reconstruction_loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5))
    with pytest.raises(ValueError, match=r"image must be floating point, got uint8: .* image.float\(\) / 255"):
        reconstruction_loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="norm must be one of"):
        reconstruction_loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), norm="huber")
    pictures = torch.zeros(2, 1, 3, 4, 4)
    with pytest.raises(ValueError, match=r"coverage must have shape \[1, 4, 4\], got \[1, 1, 4, 4\]"):
        reconstruction_loss(*pictures, coverage=torch.ones(1, 1, 4, 4))
    with pytest.raises(ValueError, match="coverage must have dtype bool or float32 or float64, got uint8"):
        reconstruction_loss(*pictures, coverage=torch.ones(1, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"coverage is a constant of the loss .* pass coverage.detach\(\)"):
        reconstruction_loss(*pictures, coverage=torch.ones(1, 4, 4, requires_grad=True))
