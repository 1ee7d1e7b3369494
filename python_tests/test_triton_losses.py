"""The Triton kernels of all losses but the picture losses: interpreted, compiled without a GPU, run on one, absent."""

from __future__ import annotations

import re
import warnings

import loss_launches
import pytest
import scipy.sparse
import torch
from loss_launches import LAUNCHES, of_step
from triton_marks import HERE, compiler, compiles, interprets, needs_triton, on_gpu, run_python, without_triton

from facecore import losses, reference_losses
from facecore.losses import _triton
from facecore.structures import SparseMatrix

__all__ = ["compiler", "without_triton"]


@needs_triton
@interprets
def test_interpreted_kernels_match_the_reference():
    """All of them in one process of its own: Triton decides at import whether it interprets."""
    files = [str(HERE / f"interpreted_{loss}.py") for loss in LAUNCHES]
    report = run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", *files, TRITON_INTERPRET="1")
    assert " passed" in report
    assert "skipped" not in report


@needs_triton
@compiles
@pytest.mark.parametrize("capability", [80, 90, 120])
@pytest.mark.parametrize("loss", LAUNCHES)
def test_compiles_for_a_gpu(loss, capability, compiler, tmp_path):
    """By Triton's own compiler and NVIDIA's assembler; that the result is right, only a GPU can say."""
    for launch in of_step(loss, torch.float32):
        assembly = compiler.compiled(launch, capability)
        assert f".target sm_{capability}" in assembly["ptx"]
        check_resources(compiler, launch, assembly, tmp_path)
        adds = re.findall(r"\s(?:atom|red)\.\S+", assembly["ptx"])
        # the only atomics are those of integers, whose sum has no order
        assert all(name.endswith((".add.s32", ".add.u32")) for name in adds), adds
        assert not adds or launch.kernel.__name__ == "_add_partners"


def check_resources(compiler, launch, assembly, folder):
    used = compiler.resources(assembly["cubin"], folder)
    assert (used["STACK"], used["LOCAL"]) == (0, 0), f"{launch.kernel.__name__} spills registers: {used}"


@needs_triton
@compiles
@pytest.mark.parametrize("loss", LAUNCHES)
def test_compiles_for_other_precisions(loss, compiler, tmp_path):
    """Half precision, whose arithmetic is float32's, and float64, which computes nothing in less."""
    for launch in of_step(loss, torch.bfloat16):
        assert compiler.compiled(launch, 80)["cubin"]
    for launch in of_step(loss, torch.float64):
        assembly = compiler.compiled(launch, 90)
        check_resources(compiler, launch, assembly, tmp_path)
        float32 = re.findall(r"(?:add|mul|fma|div|sqrt|ex2)\S*\.f32", assembly["ptx"])
        assert float32 == [], f"{launch.kernel.__name__} computes in float32"


@needs_triton
@compiles
@pytest.mark.parametrize("loss", LAUNCHES)
def test_compiles_for_small_sizes(loss, compiler, monkeypatch):
    """A size of 1 is a Python int inside of the compiled kernel."""
    for sizes in ((1, 37249, (224, 224)), (1, 1, (1, 1)), (2, 1, (1, 7)), (8, 3, (7, 1))):
        for name, size in zip(("IMAGES", "VERTICES", "PICTURE", "TEXTURE"), (*sizes, sizes[2])):
            monkeypatch.setattr(loss_launches, name, size)
        for launch in of_step(loss, torch.float32):
            assert compiler.compiled(launch, 90)["cubin"]


def random(*shape, dtype=torch.float32, device="cpu", seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64).to(device, dtype)


def make_matrix(count, dtype, device):
    """A few bands, not symmetric, so that rows differ and the gradient needs the transpose."""
    offsets = [offset for offset in (-50, -3, -1, 0, 2, 7, 600) if abs(offset) < count]
    bands = [random(count - abs(offset), seed=place).numpy() - 0.5 for place, offset in enumerate(offsets)]
    return SparseMatrix.from_scipy(scipy.sparse.diags(bands, offsets), dtype=_triton.sum_dtype(dtype)).to(device)


def cases(dtype, device, count=1500):
    """Per name: the function, the leaves it is differentiated by, and what else it takes."""
    points = [random(3, count, 3, dtype=dtype, device=device, seed=seed) for seed in (0, 1)]
    marks = [random(5, 68, 2, dtype=dtype, device=device, seed=seed) for seed in (2, 3)]
    picture = random(2, 3, 61, 75, dtype=dtype, device=device)
    matrix = make_matrix(count, dtype, device)
    back, on = torch.arange(count - 1, -1, -1, device=device), (torch.arange(count, device=device) + 1) % count
    scale = random(count, 3, dtype=_triton.sum_dtype(dtype), device=device) + 0.5
    return {
        "shape": ("shape_loss", points, (scale,)),
        "smoothness": ("smoothness_loss", points[:1], (matrix,)),
        "symmetry, barycentric": ("symmetry_loss", points[:1], (matrix,)),
        "symmetry, its own inverse": ("symmetry_loss", points[:1], (back,)),
        "symmetry, any list": ("symmetry_loss", points[:1], (on,)),
        "texture": ("texture_symmetry_loss", [picture], (picture[:, 0] > 0.3,)),
        "flattening": ("flattening_loss", points[:1], (points[1][0, :, 0] > 0.4,)),
        "landmark": ("landmark_structure_loss", marks, (marks[0][..., 0].clone(),)),
        "skin": ("skin_probability", [picture], ()),
    }


NAMES = list(cases(torch.float32, "cpu", 7))


def value_and_gradients(function, leaves, others):
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    value = function(*leaves, *others)
    return [value.detach(), *torch.autograd.grad(value.square().sum(), leaves)]


def in_double(argument):
    if isinstance(argument, SparseMatrix):
        return argument.to("cpu", torch.float64)
    argument = argument.cpu()
    return argument.double() if argument.is_floating_point() else argument


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_without_triton_the_definition_runs_and_says_so_once(without_triton, name, dtype):
    function, leaves, others = cases(dtype, "cpu", 7)[name]
    loss = getattr(losses, function)
    with pytest.warns(RuntimeWarning, match=r"Triton is not installed: pip install 'facecore\[triton\]'") as caught:
        got = loss(*leaves, *others)
    assert caught[0].filename == __file__, "the warning points at who called the loss"
    assert got.dtype == _triton.sum_dtype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = value_and_gradients(loss, leaves, others)
    assert torch.equal(again[0], got)
    exact = [[in_double(argument) for argument in arguments] for arguments in (leaves, others)]
    expected = value_and_gradients(getattr(reference_losses, function), *exact)
    for a, b in zip(again, expected):
        # one rounding of the gradients; a probability in float32 keeps about 4 digits
        tolerance = 1e-12 if dtype == torch.float64 else 2e-2
        torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=tolerance * float(b.abs().max()))


@on_gpu
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_gpu_equals_the_definition(name, dtype):
    function, leaves, others = cases(dtype, "cuda")[name]
    got = value_and_gradients(getattr(losses, function), leaves, others)
    exact = [[in_double(argument) for argument in arguments] for arguments in (leaves, others)]
    expected = value_and_gradients(getattr(reference_losses, function), *exact)
    # float32: roots, divisions and exponentials are rounded, sums differ in order; exponents of order 100 for skin
    single = 2e-3 if name == "skin" else 1e-5
    tolerance = 1e-11 if dtype == torch.float64 else max(single, torch.finfo(dtype).eps)
    assert got[0].dtype == _triton.sum_dtype(dtype)
    for a, b in zip(got, expected):
        torch.testing.assert_close(a.cpu().double(), b, rtol=tolerance, atol=tolerance * float(b.abs().max()))


@on_gpu
@pytest.mark.parametrize("name", NAMES)
def test_gpu_gives_the_same_bits_again(name):
    function, leaves, others = cases(torch.float32, "cuda", 37249)[name]
    first = value_and_gradients(getattr(losses, function), leaves, others)
    for _ in range(5):
        again = value_and_gradients(getattr(losses, function), leaves, others)
        assert all(torch.equal(a, b) for a, b in zip(first, again))


@on_gpu
@pytest.mark.parametrize("name", NAMES)
def test_gpu_graph_capture(name):
    """Nothing waits for the device, so a step can be captured; the replay reads new numbers."""
    function, leaves, others = cases(torch.float32, "cuda")[name]
    loss = getattr(losses, function)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # the kernels are compiled before the capture
        value_and_gradients(loss, leaves, others)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = value_and_gradients(loss, leaves, others)
    for leaf in leaves:
        leaf.copy_(leaf.flip(0) * 0.9)
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(captured, value_and_gradients(loss, leaves, others)))


@on_gpu
def test_gpu_memory_is_the_gradient_and_little_more():
    """A list that is its own inverse needs no memory for integers, nor does any other in float32."""
    leaf = random(8, 37249, 3, device="cuda").requires_grad_()
    mirror = torch.arange(37248, -1, -1, device="cuda")
    losses.symmetry_loss(leaf, mirror).backward()  # compiles
    leaf.grad = None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    losses.symmetry_loss(leaf, mirror).backward()
    assert torch.cuda.max_memory_allocated() - before <= leaf.numel() * 4 + 2**16
