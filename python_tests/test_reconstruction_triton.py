"""The Triton kernels of the picture losses: interpreted, compiled without a GPU, run on one, and their absence."""

from __future__ import annotations

import json
import re
import warnings

import pytest
import torch
from triton_marks import HERE, compiler, compiles, interprets, needs_triton, on_gpu, run_python, without_triton

from facecore import reference_losses
from facecore.losses import _triton, photometric_loss, reconstruction_loss

__all__ = ["compiler", "without_triton"]


@needs_triton
@interprets
def test_interpreted_kernels_match_the_reference():
    file = str(HERE / "interpreted_reconstruction.py")
    report = run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", file, TRITON_INTERPRET="1")
    assert " passed" in report
    assert "skipped" not in report


@needs_triton
def test_importing_the_losses_does_not_import_triton():
    script = """
import json, sys, torch
before = set(sys.modules)
import facecore.reference_losses, facecore.losses
print(json.dumps([name for name in sys.modules if "triton" in name and name not in before]))
"""
    assert json.loads(run_python("-c", script)) == ["facecore.losses._triton"]


def make_launches(
    dtype, norm="l2_squared", mask=torch.bool, wanted=(True, True), shape=(8, 3, 224, 224), pooled=False, coverage=None
):
    """What one step launches, on uninitialised CPU tensors: enough to compile from."""
    from facecore.losses import _reconstruction_triton as kernels

    rendered, image = torch.empty(2, *shape, dtype=dtype)
    weights, coverage = (
        None if plane is None else torch.empty(shape[0], *shape[2:], dtype=plane) for plane in (mask, coverage)
    )
    value, grad = torch.empty(2, dtype=_triton.sum_dtype(dtype))
    scales = value.new_empty(shape[0], 3)
    options = (["l2_squared", "l2", "l1"].index(norm), pooled, 1.0, 0.5)
    grads = tuple(torch.empty_like(rendered) if want else None for want in wanted)
    return [
        *kernels.value_launches(rendered, image, weights, coverage, options, value, scales),
        kernels.gradient_launch(grad, rendered, image, weights, coverage, scales, options, grads),
    ]


@needs_triton
@compiles
@pytest.mark.parametrize("coverage", [None, torch.bool], ids=str)
@pytest.mark.parametrize("capability", [80, 90, 120])
def test_compiles_for_a_gpu(capability, coverage, compiler, tmp_path):
    """By Triton's own compiler and NVIDIA's assembler; that the result is right, only a GPU can say."""
    for launch in make_launches(torch.float32, coverage=coverage):
        assembly = compiler.compiled(launch, capability)
        assert f".target sm_{capability}" in assembly["ptx"]
        assert not re.search(r"\s(atom|red)\.", assembly["ptx"]), "sums in an order that changes"
        used = compiler.resources(assembly["cubin"], tmp_path)
        assert (used["STACK"], used["LOCAL"]) == (0, 0), f"{launch.kernel.__name__} spills registers: {used}"


@needs_triton
@compiles
def test_compiles_for_other_precisions(compiler):
    for launch in make_launches(torch.bfloat16, "l2", torch.float32, (False, True), coverage=torch.bfloat16):
        assert compiler.compiled(launch, 90)["cubin"]
    for launch in make_launches(torch.float64, "l1", None, (True, False)):
        ptx = compiler.compiled(launch, 90)["ptx"]
        assert ".f64" in ptx
        assert ".f32" not in ptx, f"{launch.kernel.__name__} computes in float32"


@needs_triton
@compiles
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 1, 1, 33), (1, 40, 9, 1)], ids=str)
def test_compiles_for_small_sizes(shape, compiler):
    """Sizes and strides of 1 are constants of the compiled kernel."""
    for launch in make_launches(torch.float32, "l2", shape=shape, pooled=True):
        assert compiler.compiled(launch, 90)["cubin"]


def test_tiles_cover_a_picture():
    for height, width in [(1, 1), (7, 33), (224, 224), (256, 256), (37, 1000), (2000, 3)]:
        rows, columns = _triton.tile_shape(height, width, 512)
        assert rows * columns <= 512
        assert rows & (rows - 1) == 0 and columns & (columns - 1) == 0, "Triton wants powers of two"
        assert _triton.tile_count(height, width, (rows, columns)) * rows * columns >= height * width
    assert _triton.tile_shape(224, 224, 512) == (16, 32)
    assert _triton.tile_shape(256, 256, 512) == (4, 128)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_without_triton_the_definition_runs_and_says_so_once(without_triton, dtype):
    generator = torch.Generator().manual_seed(3)
    rendered, image = (torch.rand(2, 3, 5, 6, generator=generator).to(dtype) for _ in range(2))
    mask = torch.rand(2, 5, 6, generator=generator) > 0.5
    with pytest.warns(RuntimeWarning, match=r"Triton is not installed: pip install 'facecore\[triton\]'") as caught:
        value = reconstruction_loss(rendered, image, mask, gradient_weight=0.3)
    assert caught[0].filename == __file__, "the warning points at who called the loss"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = photometric_loss(rendered, image, mask)
    exact = [t.to(_triton.sum_dtype(dtype)) for t in (rendered, image)]
    torch.testing.assert_close(value, reference_losses.reconstruction_loss(*exact, mask, gradient_weight=0.3))
    torch.testing.assert_close(again, reference_losses.photometric_loss(*exact, mask))


def test_half_precision_is_refused_on_the_cpu():
    pictures = torch.zeros(2, 1, 3, 4, 4, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="rendered must have dtype float32 or float64, got bfloat16"):
        reconstruction_loss(*pictures)


def make_pictures(shape=(4, 3, 61, 75), dtype=torch.float32, device="cuda"):
    generator = torch.Generator().manual_seed(2)
    rendered, image = (torch.rand(shape, generator=generator).to(device, dtype).requires_grad_() for _ in range(2))
    return rendered, image, (torch.rand(shape[0], *shape[2:], generator=generator) - 0.3).to(device)


def value_and_gradients(rendered, image, mask, **options):
    value = reconstruction_loss(rendered, image, mask, **options)
    return value, *torch.autograd.grad(value, (rendered, image))


@on_gpu
@pytest.mark.parametrize("norm", ["l2_squared", "l2", "l1"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_gpu_equals_cpu(norm, dtype):
    pictures = make_pictures(dtype=dtype)
    got = value_and_gradients(*pictures, norm=norm)
    on_cpu = [t.detach().cpu().double().requires_grad_(i < 2) for i, t in enumerate(pictures)]
    expected = value_and_gradients(*on_cpu, norm=norm)
    exact = (
        1e-12 if dtype == torch.float64 else 1e-5
    )  # float32: its root and division are rounded, sums differ in order
    torch.testing.assert_close(got[0].cpu().double(), expected[0], rtol=exact, atol=0)
    for grad, expected_grad in zip(got[1:], expected[1:]):
        rounding = max(exact, torch.finfo(dtype).eps)
        scale = float(expected_grad.abs().max())
        torch.testing.assert_close(grad.cpu().double(), expected_grad, rtol=rounding, atol=rounding * scale)


@on_gpu
@pytest.mark.parametrize("norm", ["l2_squared", "l2", "l1"])
def test_gpu_equals_cpu_with_coverage(norm):
    rendered, image, mask = (t.detach().double() for t in make_pictures())
    coverage = (
        (torch.rand(mask.shape, generator=torch.Generator().manual_seed(4)).cuda() * 2 - 0.5).clamp(max=1).double()
    )
    results = []
    for device in ("cuda", "cpu"):
        pictures = [t.detach().to(device).requires_grad_() for t in (rendered, image)]
        results.append(value_and_gradients(*pictures, mask.to(device), norm=norm, coverage=coverage.to(device)))
    for got, expected in zip(*results):
        scale = float(expected.abs().max())
        torch.testing.assert_close(got.cpu(), expected, rtol=1e-12, atol=1e-12 * scale)


@on_gpu
@pytest.mark.parametrize("reduction", ["per_image", "pooled"])
@pytest.mark.parametrize("shape", [(40, 1, 300, 300), (1, 3, 1200, 1200), (3000, 1, 5, 4)], ids=str)
def test_gpu_sums_of_many_tiles(shape, reduction):
    """More images and more tiles than the last program reads at once."""
    rendered, image, mask = make_pictures(shape)
    got = photometric_loss(rendered, image, mask, reduction=reduction)
    on_cpu = (t.detach().cpu().double() for t in (rendered, image, mask))
    expected = reference_losses.photometric_loss(*on_cpu, reduction=reduction)
    torch.testing.assert_close(got.cpu().double(), expected, rtol=1e-6, atol=0)


@on_gpu
def test_gpu_takes_any_strides():
    rendered, image, mask = (t.detach() for t in make_pictures())
    plain = (rendered.clone().requires_grad_(), image.clone().requires_grad_(), mask)
    odd = (
        rendered.contiguous(memory_format=torch.channels_last).requires_grad_(),
        image.mT.contiguous().mT.requires_grad_(),
        mask.mT.contiguous().mT,
    )
    assert all(torch.equal(a, b) for a, b in zip(value_and_gradients(*plain), value_and_gradients(*odd)))


@on_gpu
def test_gpu_gives_the_same_bits_again():
    pictures = make_pictures((8, 3, 224, 224))
    first = value_and_gradients(*pictures, norm="l2")
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(first, value_and_gradients(*pictures, norm="l2")))


@on_gpu
def test_gpu_graph_capture():
    """Nothing waits for the device, so a step can be captured; the replay reads new pictures and a new gradient."""
    rendered, image, mask = make_pictures()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # the kernels are compiled before the capture
        value_and_gradients(rendered, image, mask)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = value_and_gradients(rendered, image, mask)
    with torch.no_grad():
        rendered.copy_(rendered.flip(-1) * 0.9)
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(captured, value_and_gradients(rendered, image, mask)))
