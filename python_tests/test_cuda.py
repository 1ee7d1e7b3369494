"""Every operator on CUDA: equal to the CPU, on the current stream and device, without waiting, captured in a graph.

What needs no GPU runs without one too: the bodies of the CUDA kernels on the CPU (fixture cuda_kernels).
"""

from __future__ import annotations

import pytest
import torch
from operator_cases import CASES, ONCE_DIFFERENTIABLE, face_scene, random_scene

from facecore import _C, ops
from facecore.ops._library import emulate_cuda

EVERY_CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
BOTH_MODES = pytest.mark.parametrize("mode", ["fast", "deterministic"])


@pytest.fixture
def gpu() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device("cuda", torch.cuda.current_device())


@pytest.fixture
def mode_set(mode, request):
    """torch.use_deterministic_algorithms(True) in the deterministic mode."""
    if mode == "deterministic":
        request.getfixturevalue("deterministic")


def results(function, inputs, twice: bool = False) -> tuple[torch.Tensor, ...]:
    """The output, the gradients, and the second derivatives if wanted."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = function(*leaves)
    grads = torch.autograd.grad(out.pow(3).sum(), leaves, create_graph=twice)
    second = torch.autograd.grad(sum(g.pow(2).sum() for g in grads), leaves) if twice else ()
    return tuple(x.detach() for x in (out, *grads, *second))


def assert_close(got, want, tolerance: float) -> None:
    """Relative to the largest value of each tensor."""
    for index, (one, other) in enumerate(zip(got, want, strict=True)):
        scale = max(1e-30, other.abs().max().item())
        error = (one.cpu() - other.cpu()).abs().max().item() / scale
        assert error <= tolerance, f"result {index}: {error:.1e} of the largest value"


# --- what is computed ------------------------------------------------------------------------------------------------


@EVERY_CASE
@BOTH_MODES
def test_values_and_derivatives_are_the_cpu_s(cuda_kernels, mode_set, case):
    """float32 in other orders: 1e-5 of the largest value; 1e-4 after the products of three or four derivatives."""
    twice = case not in ONCE_DIFFERENTIABLE
    emulated = emulate_cuda(False)
    want = results(*case(torch.device("cpu")), twice)
    emulate_cuda(emulated)
    got = results(*case(cuda_kernels), twice)
    first = len(got) - (len(got) - 1) // 2 if twice else len(got)
    assert_close(got[:first], want[:first], 2e-5)
    assert_close(got[first:], want[first:], 1e-4)


def same_ids(device: torch.device, scene) -> torch.Tensor:
    """[covered pixels, those of them whose barycentrics are far from the CPU's].

    triangle_id and z_ndc must have the bits of the CPU's. Barycentrics of slivers amplify the rounding of coordinates,
    and one that is nearly too thin to have any may be taken either way: so they are counted.
    """
    vertices, triangles, height, width, cull = scene
    emulated = emulate_cuda(False)
    want = ops.rasterize(vertices, triangles, height, width, cull_backfaces=cull)
    emulate_cuda(emulated)
    got = ops.rasterize(vertices.to(device), triangles.to(device), height, width, cull_backfaces=cull)
    assert torch.equal(got.triangle_id.cpu(), want.triangle_id)
    assert torch.equal(got.z_ndc.cpu(), want.z_ndc)
    far = ~((got.barycentric.cpu() - want.barycentric).abs().amax(-1) <= 1e-3)
    return torch.stack(((want.triangle_id >= 0).sum(), far.sum()))


def test_ids_of_random_scenes_are_the_cpu_s_bit_for_bit(cuda_kernels):
    scenes = 1000 if cuda_kernels.type == "cuda" else 60
    counts = torch.stack([same_ids(cuda_kernels, random_scene(seed)) for seed in range(scenes)])
    covered, far = counts.unbind(1)
    assert (covered > 0).sum() > scenes / 2
    assert far.sum() <= 0.01 * covered.sum()


def test_ids_of_a_face_are_the_cpu_s_bit_for_bit(cuda_kernels):
    whole = cuda_kernels.type == "cuda"  # 37,249 vertices in 100 poses
    for seed in range(4 if whole else 2):
        images, rows = (25, 193) if whole else (1, 60)
        covered, far = same_ids(cuda_kernels, face_scene(seed, images, rows))
        assert covered > 5000 * images
        assert far <= 0.01 * covered


def test_a_large_triangle_is_drawn_by_its_warp(cuda_kernels):
    """Boxes above 64 pixels, many in one warp, and narrow ones, among small ones."""
    generator = torch.Generator().manual_seed(3)
    corners = torch.rand(200, 3, 2, generator=generator)
    scale = torch.tensor([[2.0, 2.0], [0.02, 0.02], [0.01, 2.0], [2.0, 0.01]]).repeat(50, 1).unsqueeze(1)
    points = (corners - 0.5) * scale + 0.8 * (torch.rand(200, 1, 2, generator=generator) - 0.5)
    depth = 1.8 * torch.rand(200, 3, 1, generator=generator) - 0.9
    vertices = torch.cat((points, depth, torch.ones_like(depth)), -1).reshape(1, -1, 4)
    triangles = torch.arange(600, dtype=torch.int32).view(-1, 3)
    covered, _ = same_ids(cuda_kernels, (vertices, triangles, 301, 257, False))
    assert covered > 40000


# --- how it runs -----------------------------------------------------------------------------------------------------


@pytest.mark.cuda
@EVERY_CASE
@BOTH_MODES
def test_nothing_waits_for_the_gpu(gpu, mode_set, case):
    function, inputs = case(gpu)
    results(function, inputs)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        results(function, inputs)
    finally:
        torch.cuda.set_sync_debug_mode(before)


@pytest.mark.cuda
@EVERY_CASE
@BOTH_MODES
def test_a_graph_replays_what_was_captured(gpu, mode_set, case):
    function, inputs = case(gpu)
    leaves = [x.clone().requires_grad_() for x in inputs]

    def step() -> tuple[torch.Tensor, ...]:
        out = function(*leaves)
        return out, *torch.autograd.grad(out.pow(3).sum(), leaves)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    for factor in (1.0, 0.9):
        changed = [factor * x for x in inputs]
        with torch.no_grad():
            for leaf, value in zip(leaves, changed):
                leaf.copy_(value)
        graph.replay()
        assert_close(captured, results(function, changed), 1e-5)  # atomics add in any order


@pytest.mark.cuda
@EVERY_CASE
def test_work_goes_to_the_current_stream(gpu, case):
    """Inputs that a side stream is late to write: a kernel on another stream would read what was there before."""
    function, inputs = case(gpu)
    want = results(function, inputs)
    late = [torch.full_like(x, float("nan")) for x in inputs]
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # some 30 ms
        for target, source in zip(late, inputs):
            target.copy_(source)
        got = results(function, late)
    stream.synchronize()
    assert_close(got, want, 1e-5)


@pytest.mark.cuda
@EVERY_CASE
def test_work_goes_to_the_tensors_device(gpu, case):
    if torch.cuda.device_count() < 2:
        pytest.skip("one CUDA device")
    other = torch.device("cuda", 1 - gpu.index)
    want, got = results(*case(gpu)), results(*case(other))
    assert all(x.device == other for x in got)
    assert torch.cuda.current_device() == gpu.index
    assert_close(got, want, 1e-5)


@pytest.mark.cuda
@EVERY_CASE
def test_all_memory_is_torch_s(gpu, case):
    """Fifty calls take nothing from the driver beside what torch's allocator has reserved."""
    function, inputs = case(gpu)

    def beside_torch() -> int:
        torch.cuda.synchronize()
        free, total = torch.cuda.mem_get_info()
        return total - free - torch.cuda.memory_reserved()

    results(function, inputs)
    before = beside_torch()
    for _ in range(50):
        results(function, inputs)
    assert beside_torch() - before < 2**20


@pytest.mark.cuda
def test_a_refused_launch_raises(gpu):
    """More triangles than one grid holds: by sizes alone, nothing is read."""
    stream = torch.cuda.current_stream().cuda_stream
    with pytest.raises(RuntimeError, match="too many triangles"):
        _C.rasterize_float32((gpu.index, stream), 2**20, 0, 2**30, 1, 1, 0, 1, *(0,) * 7)
