"""The benchmark harness: nothing is timed that disagrees, and a row says what it must."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import sys
import types

import pytest
import scipy.sparse
import torch

from facecore import ops
from facecore.structures import SparseMatrix

BENCHMARKS = pathlib.Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.append(str(BENCHMARKS))  # its files import each other, as pytest lets them


def load(name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(f"facecore_benchmarks_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


sys.path.append(str(BENCHMARKS))  # its files import each other
harness = load("harness")
floor = load("floor")


def make_inputs(device, generator, *, size):
    return (torch.randn(size, generator=generator).to(device).requires_grad_(),)


def suite(function, **options):
    providers = {"reference": torch.sin, "mine": function}
    return harness.Suite("sine", providers, {"small": {"size": 50}}, make_inputs, **options)


@pytest.mark.parametrize("mode", ["forward", "forward+backward"])
def test_agreement_passes_for_an_equal_function(mode):
    suite(lambda x: (x + 1 - 1).sin()).check_agreement(
        lambda x: (x + 1 - 1).sin(), torch.device("cpu"), {"size": 50}, mode
    )


def test_the_error_is_the_largest_relative_difference():
    def almost(x):
        return x.sin() * (1 + 1e-5)

    for mode in ("forward", "forward+backward"):
        error = suite(almost).check_agreement(almost, torch.device("cpu"), {"size": 50}, mode)
        assert error == pytest.approx(1e-5, rel=0.05)  # float32: a hundredth of 1e-5 is lost in rounding
        assert suite(torch.sin).check_agreement(torch.sin, torch.device("cpu"), {"size": 50}, mode) == 0


def test_the_error_of_outputs_leaves_out_what_may_differ():
    def almost(x):
        return torch.where(torch.arange(50) < 25, x.sin() * (1 + 1e-5), x.cos())

    def error(mask):
        own = suite(almost, agree=lambda got, expected: mask)
        return own.check_agreement(almost, torch.device("cpu"), {"size": 50}, "forward")

    assert 1e-6 < error(torch.arange(50) < 25) < 2e-5
    assert error(torch.arange(50) < 26) > 1e-2
    assert error(None) is None


def test_a_wrong_value_is_not_timed():
    with pytest.raises(AssertionError, match="sine: result 0 differs from the reference"):
        suite(torch.cos).check_agreement(torch.cos, torch.device("cpu"), {"size": 50}, "forward")


def test_a_wrong_gradient_is_not_timed():
    def half_gradient(x):
        return (x / 2 + x.detach() / 2).sin()

    suite(half_gradient).check_agreement(half_gradient, torch.device("cpu"), {"size": 50}, "forward")
    with pytest.raises(AssertionError, match="sine: result 0 differs from the reference"):
        suite(half_gradient).check_agreement(half_gradient, torch.device("cpu"), {"size": 50}, "forward+backward")


def test_own_comparison_replaces_the_default():
    seen = []
    own = suite(torch.cos, agree=lambda got, expected: seen.append((got, expected)))
    own.check_agreement(torch.cos, torch.device("cpu"), {"size": 50}, "forward")
    assert len(seen) == 1
    with pytest.raises(AssertionError, match="sine: result 0 differs from the reference"):  # the gradients do not agree
        own.check_agreement(torch.cos, torch.device("cpu"), {"size": 50}, "forward+backward")


def test_gradients_are_compared_where_outputs_may_not_differ():
    def sine_or_cosine(x):
        return torch.where(torch.arange(50) < 25, x.sin(), x.cos())

    def check(mask):
        suite(sine_or_cosine, agree=lambda got, expected: mask).check_agreement(
            sine_or_cosine, torch.device("cpu"), {"size": 50}, "forward+backward"
        )

    check(torch.arange(50) < 25)
    with pytest.raises(AssertionError, match="sine: result 0 differs from the reference"):
        check(torch.arange(50) < 26)


def test_rasterize_gradients_are_checked_before_they_are_timed(monkeypatch):
    monkeypatch.setitem(sys.modules, "harness", harness)
    monkeypatch.syspath_prepend(BENCHMARKS)
    benchmark = load("bench_rasterize")
    own = benchmark.suite

    def check(function):
        own.check_agreement(function, torch.device("cpu"), own.check_sizes, "forward+backward")

    def half_gradient(vertices_clip, *rest):
        return ops.rasterize(vertices_clip / 2 + vertices_clip.detach() / 2, *rest)

    check(ops.rasterize)
    with pytest.raises(AssertionError, match="rasterize: result 0 differs from the reference"):
        check(half_gradient)


def test_a_penalty_sees_a_wrong_second_derivative():
    def inputs(device, generator):
        return torch.randn(20, generator=generator).requires_grad_(), torch.randn(
            20, generator=generator
        ).requires_grad_()

    def detached(x, weight):  # the right value and first derivatives; x's does not depend on the weight
        return (x * weight.detach()).sin() + (x.detach() * weight).sin() - (x * weight).detach().sin()

    reference = lambda x, weight: (x * weight).sin()  # noqa: E731
    both = harness.Suite(
        "critic", {"reference": reference, "mine": detached}, {"only": {}}, inputs, modes=harness.MODES[:3]
    )
    for mode in ("forward", "forward+backward"):
        both.check_agreement(detached, torch.device("cpu"), {}, mode)
    both.check_agreement(lambda x, weight: reference(weight, x), torch.device("cpu"), {}, "penalty")
    with pytest.raises(AssertionError, match="critic: result 0 differs from the reference"):
        both.check_agreement(detached, torch.device("cpu"), {}, "penalty")


def test_a_backward_is_timed_without_its_forward():
    calls = []

    def sine(x):
        calls.append(x)
        return x.sin()

    x = torch.tensor([0.5], requires_grad=True)
    run = harness.runner(sine, (x,), "backward")
    first, second = run(), run()
    assert len(calls) == 1 and torch.equal(first[0], second[0])
    torch.testing.assert_close(first, harness.runner(sine, (x,), "forward+backward")(), rtol=0, atol=0)


def test_peak_of_allocated_memory_counts_what_is_held_together():
    def run():
        first = torch.ones(1 << 20)  # 4 MiB
        second = first + 1
        del first
        return second + 1, second

    assert harness.peak_allocated_mebibytes(run, torch.device("cpu")) == pytest.approx(8, abs=0.1)


def test_a_floor_is_flops_over_the_sgemm_and_bytes_over_a_copy(monkeypatch):
    monkeypatch.setattr(floor, "copy_milliseconds", lambda size, device: 2.0)
    steps = [floor.Work(2 * 1024**3, 0, 0), floor.Work(0, 3 << 20, 1 << 20)]
    assert floor.floor_milliseconds(steps, 5.0, torch.device("cpu")) == pytest.approx(5 + 3 * 2)


def test_a_suite_needs_its_reference_and_known_modes():
    with pytest.raises(ValueError, match="providers must hold 'reference'"):
        harness.Suite("sine", {"mine": torch.sin}, {}, make_inputs)
    with pytest.raises(ValueError, match="modes must be of"):
        suite(torch.sin, modes=("backwards",))
    with pytest.raises(ValueError, match="quick must name cases, got \\['large'\\]"):
        suite(torch.sin, quick=("large",))


def test_an_absent_peer_is_skipped_by_name():
    with pytest.raises(pytest.skip.Exception, match="a_module_that_nobody_has"):
        harness.resolve(harness.peer("a_module_that_nobody_has", lambda: torch.sin))


def test_bytes_are_counted_once_each():
    x = torch.zeros(2, 3, requires_grad=True)
    wide = torch.zeros(3).expand(1000, 3)
    matrix = SparseMatrix.from_scipy(scipy.sparse.eye(5))
    sparse = 4 * (6 + 5 + 5)
    assert floor.bytes_needed((x, wide, 7), (torch.zeros(4),), (), "forward") == 24 + 12 + 16
    assert floor.bytes_needed((x, x), (torch.zeros(1),), (x,), "forward+backward") == 24 + 4 + 24
    assert floor.bytes_needed((matrix,), (), (), "forward") == sparse
    assert floor.bytes_needed((matrix,), (), (), "forward+backward") == 2 * sparse
    assert floor.bytes_needed((x,), (), (), "penalty") is None


def test_a_copy_has_a_rate():
    assert 0.01 < floor.copy_gigabytes_per_second(torch.device("cpu"), rounds=1) < 1e4


def test_percentile_interpolates():
    assert harness.percentile([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0.2) == 2.0
    assert harness.percentile([1.0, 2.0], 0.2) == pytest.approx(1.2)
    assert harness.percentile([3.0], 0.8) == 3.0


@pytest.mark.skipif(sys.platform != "linux", reason="the resident high-water mark is Linux's")
def test_peak_counts_a_large_temporary():
    peak = harness.peak_mebibytes(lambda: torch.ones(16 * 2**20, dtype=torch.uint8).max(), torch.device("cpu"))
    if peak is None:
        pytest.skip("this system does not let a process reset its high-water mark")
    assert 15 <= peak <= 40  # 16 MiB, and pages that the runtime touches for the first time


def test_rows_are_merged_by_what_was_measured(tmp_path):
    conftest = load("conftest")

    def row(provider, median):
        shared = {"op": "sine", "case": "small", "mode": "forward", "device": "cpu"}
        return shared | conftest.describe("cpu") | {"provider": provider, "median_ms": median}

    conftest.write_rows([row("facecore", 2.0), row("reference", 3.0)], tmp_path)
    path = conftest.write_rows([row("facecore", 1.0), row("torch.compile", None)], tmp_path)
    rows = json.loads(path.read_text())
    assert {r["provider"]: r["median_ms"] for r in rows} == {"facecore": 1.0, "reference": 3.0}
    assert all(r["torch"] == torch.__version__ and r["hardware"] and r["commit"] for r in rows)


def test_ratios_leave_out_noisy_and_disturbed_rows():
    ratios = load("ratios")

    def row(provider, median, noisy=False, sgemm=13.0):
        shared = {"op": "rasterize", "case": "face_b8", "mode": "forward"}
        return shared | {"provider": provider, "median_ms": median, "noisy": noisy, "sgemm_ms": sgemm}

    own = row("facecore", 2.0)
    lines = ratios.table([own, row("a", 5.0), row("b", 6.0, noisy=True), row("c", 8.0, sgemm=20.0)])
    assert lines[0].split(" | ")[3:] == ["/ sgemm", "a", "b", "c |"]
    assert lines[2] == "| face_b8 | forward | 2.00 | 0.154 | 2.5 |  |  |"
    assert len(ratios.table([row("facecore", 2.0, noisy=True), row("a", 5.0)])) == 2  # the head alone
