"""The Triton kernels of the picture losses, interpreted on the CPU; test_reconstruction_triton.py runs this file.

In a process of its own, with TRITON_INTERPRET=1 from the start: Triton decides at import whether it interprets.
"""

from __future__ import annotations

import functools
import math

import pytest
import torch
import triton
import triton.language as tl
from checks import check_matches_reference
from interpreted_checks import check_fakes, in_every_other_number, kernels_take_cpu_tensors

from facecore import reference_losses
from facecore.losses import _reconstruction_triton as kernels
from facecore.losses import gradient_difference_loss, photometric_loss, reconstruction_loss
from facecore.losses._triton_blocks import tile_place

__all__ = ["kernels_take_cpu_tensors"]
NORMS = ["l2_squared", "l2", "l1"]
KINDS = ["none", "bool", "float", "empty"]
# A single pixel, row and column; then, with tiles of 4 x 32, pictures that end at a tile's edge and inside one.
SHAPES = [(1, 1, 1, 1), (1, 2, 1, 33), (2, 1, 9, 1), (1, 2, 4, 32), (1, 1, 9, 65)]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(kernels, "TILE_PIXELS", 128)


def make_inputs(shape, dtype=torch.float64, kind="float"):
    generator = torch.Generator().manual_seed(11)
    rendered, image = (torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    mask = torch.rand(shape[0], *shape[2:], generator=generator, dtype=torch.float64)
    floats = torch.where(mask > 0.9, math.nan, mask * 1.5 - 0.5)  # negative and not-a-number weights count 0
    masks = {"none": None, "bool": mask > 0.3, "float": floats.to(dtype), "empty": torch.zeros_like(mask)}
    return [rendered.requires_grad_(), image.requires_grad_(), masks[kind]]


def check(inputs, **options):
    check_matches_reference(
        functools.partial(reconstruction_loss, **options),
        functools.partial(reference_losses.reconstruction_loss, **options),
        inputs,
    )


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_matches_reference(norm, kind):
    check(make_inputs((2, 2, 4, 7), kind=kind), norm=norm, gradient_weight=0.7)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_odd_sizes(shape):
    check(make_inputs(shape), norm="l2", gradient_weight=0.7)


def make_coverage(shape, kind="float"):
    """Parts, holes and whole pixels; what is negative or not a number covers nothing."""
    generator = torch.Generator().manual_seed(12)
    numbers = torch.rand(shape[0], *shape[2:], generator=generator, dtype=torch.float64) * 2 - 0.5
    return numbers > 0.3 if kind == "bool" else torch.where(numbers < -0.3, math.nan, numbers.clamp(max=1.0))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", ["bool", "float"])
@pytest.mark.parametrize("mask", KINDS)
def test_coverage_matches_reference(norm, kind, mask):
    shape = (2, 2, 5, 33)
    inputs = make_inputs(shape, kind=mask)
    coverage = make_coverage(shape, kind)
    hidden = ~(coverage > 0)[:, None].expand(shape)
    inputs[0] = inputs[0].detach().masked_fill(hidden, math.nan).requires_grad_()
    check(inputs, norm=norm, gradient_weight=0.7, coverage=coverage)


def test_full_coverage_changes_no_bit():
    inputs = make_inputs((2, 2, 4, 7), torch.float32)
    ones = torch.ones(2, 4, 7)
    values = [reconstruction_loss(*inputs, coverage=coverage) for coverage in (None, ones, ones > 0)]
    grads = [torch.autograd.grad(value, inputs[:2]) for value in values]
    for value, grad in zip(values[1:], grads[1:]):
        assert torch.equal(value, values[0])
        assert all(torch.equal(a, b) for a, b in zip(grad, grads[0]))


def test_the_operator_takes_attention_too():
    """The public functions multiply mask and attention before it."""
    rendered, image, mask = (t.detach() for t in make_inputs((2, 2, 4, 7)))
    attention = make_coverage((2, 2, 4, 7))
    options = ("l1", False, 1.0, 0.0)
    value, _ = torch.ops.facecore.picture_loss_v2(
        rendered, image, mask, attention, None, NORMS.index(options[0]), *options[1:]
    )
    expected = reference_losses.photometric_loss(rendered, image, mask, norm=options[0], attention=attention)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)


def test_many_tiles_as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(kernels, "TILE_PIXELS", 512)
    check(make_inputs((1, 3, 37, 50), torch.float32), norm="l2", gradient_weight=0.7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision_is_computed_in_float32(dtype):
    norm = "l2"
    inputs = make_inputs((1, 3, 4, 35), dtype)
    value = reconstruction_loss(*inputs, norm=norm)
    assert value.dtype == torch.float32
    exact = [t.detach().double().requires_grad_(i < 2) for i, t in enumerate(inputs)]
    expected = reference_losses.reconstruction_loss(*exact, norm=norm)
    torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=0)
    # One rounding to the dtype of the pictures; float32 sums up to seven terms per gradient before that.
    rounding = max(torch.finfo(dtype).eps, 1e-6)
    grads = torch.autograd.grad(value, inputs[:2])
    for grad, expected_grad in zip(grads, torch.autograd.grad(expected, exact[:2])):
        assert grad.dtype == dtype
        scale = float(expected_grad.abs().max())
        torch.testing.assert_close(grad.double(), expected_grad, rtol=rounding, atol=rounding * scale)


@pytest.mark.parametrize("norm, reduction", [("l2", "per_image"), ("l1", "pooled")])
def test_attention_and_reduction(norm, reduction):
    rendered, image, mask = make_inputs((3, 2, 4, 5))
    mask[1] *= 0.01  # an image whose weights sum to less than 1
    attention = torch.rand(mask.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    options = {"norm": norm, "attention": attention, "reduction": reduction}
    check_matches_reference(
        functools.partial(photometric_loss, **options),
        functools.partial(reference_losses.photometric_loss, **options),
        [rendered, image, mask],
    )


def test_gradient_difference_alone():
    check_matches_reference(
        gradient_difference_loss, reference_losses.gradient_difference_loss, make_inputs((1, 3, 5, 9))
    )


def test_the_last_program_reads_its_sums_in_several_blocks(monkeypatch):
    monkeypatch.setattr(kernels, "FINISH_NUMBERS", 2)
    check(make_inputs((2, 1, 5, 33)))  # 4 tiles per image, in 2 blocks; images one by one
    options = {"reduction": "pooled"}  # 3 images of one tile each, two at a time
    check_matches_reference(
        functools.partial(photometric_loss, **options),
        functools.partial(reference_losses.photometric_loss, **options),
        make_inputs((3, 1, 4, 4)),
    )


def in_turned_memory(tensor):
    return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)


def with_channels_last(tensor):
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1)


@pytest.mark.parametrize("layout", [in_turned_memory, in_every_other_number, with_channels_last])
def test_any_strides(layout):
    inputs = [t.detach() for t in make_inputs((2, 2, 4, 7))]
    plain = [inputs[0].clone().requires_grad_(), inputs[1].clone().requires_grad_(), inputs[2]]
    odd = [layout(inputs[0]).requires_grad_(), layout(inputs[1]).requires_grad_(), layout(inputs[2])]
    assert not odd[0].is_contiguous()
    values = [reconstruction_loss(*arguments, norm="l2") for arguments in (plain, odd)]
    assert torch.equal(values[0], values[1])
    grads = [torch.autograd.grad(value, leaves[:2]) for value, leaves in zip(values, (plain, odd))]
    assert all(torch.equal(a, b) for a, b in zip(*grads))


@triton.jit
def _write_offsets(offsets, step, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    _, y, x = tile_place(tl.program_id(0), ROWS, COLUMNS, ROWS, COLUMNS)
    tl.store(offsets + y * COLUMNS + x, y * step - x * step)


def test_offsets_beyond_32_bits():
    """A stride may be as large as memory is, along a row too: that of a view whose width came first."""
    offsets, step = torch.zeros(4, 32, dtype=torch.int64), 2**30
    _write_offsets[(1,)](offsets, step, 4, 32)
    assert torch.equal(offsets, (torch.arange(4)[:, None] - torch.arange(32)) * step)


def test_expanded_inputs():
    image = torch.rand(1, 1, 5, 6, dtype=torch.float64).expand(2, 3, 5, 6)
    mask = torch.tensor([True, False, True, True, True])[None, :, None].expand(2, 5, 6)
    check([torch.rand(2, 3, 5, 6, dtype=torch.float64, requires_grad=True), image, mask])


@pytest.mark.parametrize("norm, poison", [("l2", math.nan), ("l1", math.inf)])
def test_what_the_mask_hides_changes_nothing(norm, poison):
    rendered, image, mask = (t.detach() for t in make_inputs((1, 2, 4, 6)))
    hidden = ~(mask > 0)[:, None].expand_as(rendered)
    clean = [t.clone().requires_grad_() for t in (rendered, image)]
    spoiled = [t.masked_fill(hidden, poison).requires_grad_() for t in (rendered, image)]
    values = [reconstruction_loss(*pictures, mask, norm=norm) for pictures in (clean, spoiled)]
    grads = [torch.autograd.grad(value, pictures) for value, pictures in zip(values, (clean, spoiled))]
    assert values[0] == values[1]
    for grad, spoiled_grad in zip(*grads):
        assert torch.equal(grad, spoiled_grad)
        assert (spoiled_grad[hidden] == 0).all()


def test_without_a_mask_nan_is_not_hidden():
    rendered, image, _ = (t.detach() if t is not None else None for t in make_inputs((1, 2, 3, 4), kind="none"))
    rendered[0, 0, 0, 0] = math.nan
    assert torch.isnan(reconstruction_loss(rendered, image))


def test_slope_is_zero_at_kinks():
    rendered = torch.full((1, 2, 4, 4), 0.5, requires_grad=True)
    for norm in NORMS:
        value = reconstruction_loss(rendered, rendered.detach().clone(), norm=norm)
        assert torch.equal(torch.autograd.grad(value, rendered)[0], torch.zeros_like(rendered))


def test_gradient_of_one_picture_only():
    rendered, image, mask = make_inputs((1, 2, 4, 6))
    both = torch.autograd.grad(reconstruction_loss(rendered, image, mask), (rendered, image))
    for place, leaf in enumerate((rendered, image)):
        others = [t.detach() if t is not leaf else t for t in (rendered, image)]
        (grad,) = torch.autograd.grad(reconstruction_loss(*others, mask), leaf)
        assert torch.equal(grad, both[place])


def test_empty_batch():
    nothing = torch.zeros(0, 3, 4, 4, requires_grad=True)
    value = reconstruction_loss(nothing, nothing.detach())
    assert value == 0
    assert torch.autograd.grad(value, nothing)[0].shape == nothing.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fake_results_are_like_the_real_ones(dtype):
    """What a compiled graph believes, for a bool mask and half precision, which the CPU kernel does not take."""
    rendered, image, mask = (t.detach() for t in make_inputs((1, 2, 3, 4), dtype, "bool"))
    options = (1, False, 1.0, 0.5)
    check_fakes(torch.ops.facecore.picture_loss_v2.default, (rendered, image, mask, None, None, *options))
    inputs = (torch.ones(()), rendered, image, mask, None, None, torch.rand(1, 3), *options, True, False)
    check_fakes(torch.ops.facecore.picture_loss_backward_v2.default, inputs)
