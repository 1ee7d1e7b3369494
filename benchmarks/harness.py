"""Times each provider of an operator on the same inputs, after checking that it agrees with the reference.

A benchmark file declares a Suite and one line, `bench_x = suite.benchmark()`; see bench_interpolate.py and README.md.
"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import importlib
import json
import pathlib
import statistics
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pytest
import torch
from floor import Work, bytes_needed, floor_milliseconds, percentile, synchronised_clock

Function = Callable[..., Any]
MODES = ("forward", "forward+backward", "penalty", "backward")
_expected: dict[tuple[Any, ...], tuple[torch.Tensor, ...]] = {}  # the reference's last results: providers share them
NOISY = 1.2  # a row whose p80 / p20 is larger may not be quoted


@dataclasses.dataclass(frozen=True)
class Suite:
    """What to time: `providers` on `cases`.

    op: the stem that the sources, the reference, the test and the benchmark share.
    providers: name -> function, or a zero-argument factory wrapped by `peer` or `compiled`. "reference" is required.
    cases: name -> sizes, the keyword arguments of make_inputs.
    make_inputs: (device, generator, **sizes) -> positional arguments; floating tensors that require grad get gradients.
    modes: "penalty" is the step of a critic whose input is the first leaf: the gradients, with respect to the others,
        of its outputs and of the squared norm of their gradient with respect to the input (a double backward).
        "backward" is the gradients alone, of outputs that were computed once.
    check_sizes: sizes at which agreement is checked, where the reference cannot do a case's own, or a function from a
        case's sizes to them; None = the case's own.
    tolerance: of the agreement, relative to the largest value of each output or gradient.
    agree: (got, expected) -> mask, raises AssertionError; replaces the default for outputs where providers may differ
        (coverage at an edge, say). The mask, broadcastable to each differentiable output, says where they may not: the
        gradients are compared through projections that are zero elsewhere. None: through whole ones.
    work: (*inputs, mode=...) -> what any implementation has to do at least, for the floor in the row; see floor.py.
    quick: the cases that `facecore benchmark --quick` measures; none named = the first.
    """

    op: str
    providers: Mapping[str, Function | Provider]
    cases: Mapping[str, Mapping[str, int]]
    make_inputs: Function
    modes: Sequence[str] = MODES[:2]
    check_sizes: Mapping[str, int] | Callable[[Mapping[str, int]], Mapping[str, int]] | None = None
    tolerance: float = 1e-4  # float32, sums in another order
    agree: Callable[[Any, Any], torch.Tensor | None] | None = None
    work: Callable[..., Sequence[Work]] | None = None
    quick: Sequence[str] = ()

    def __post_init__(self) -> None:
        if "reference" not in self.providers:
            raise ValueError(f"{self.op}: providers must hold 'reference', got {list(self.providers)}")
        if unknown := set(self.modes) - set(MODES):
            raise ValueError(f"{self.op}: modes must be of {MODES}, got {sorted(unknown)}")
        if absent := set(self.quick) - set(self.cases):
            raise ValueError(f"{self.op}: quick must name cases, got {sorted(absent)}")

    def benchmark(self) -> Function:
        """The pytest function: one benchmark per device, case, mode and provider."""

        @pytest.mark.parametrize("provider", list(self.providers))
        @pytest.mark.parametrize("mode", self.modes)
        @pytest.mark.parametrize("case", list(self.cases))
        @pytest.mark.benchmark(group=self.op, warmup=False, disable_gc=True, timer=synchronised_clock)
        def bench(
            benchmark: Any, record_row: Function, device: torch.device, case: str, mode: str, provider: str
        ) -> None:
            function = resolve(self.providers[provider])
            error = 0.0  # of the reference against itself
            if provider != "reference":
                error = self.check_agreement(function, device, self.sizes_to_check(case), mode)
            inputs = self.inputs(device, self.cases[case])
            run = runner(function, inputs, mode)
            run()  # compiles, warms caches
            peak = peak_mebibytes(run, device)
            needed = self.bytes_needed(function, inputs, mode)
            benchmark(run)
            row = {"op": self.op, "provider": provider, "mode": mode, "case": case, "device": device.type}
            row |= {"error": error, "bytes_needed": needed}
            row |= timing(benchmark) | {"peak_mib": peak, "sgemm_ms": None, "sizes": dict(self.cases[case])}
            if benchmark.stats is not None:
                row["sgemm_ms"] = sgemm_milliseconds(device)
                row["peak_allocated_mib"] = peak_allocated_mebibytes(run, device)
                if self.work is not None:
                    work = self.work(*inputs, mode=mode)
                    row["floor_ms"] = floor_milliseconds(work, row["sgemm_ms"], device)
                    row["bytes_moved"] = round(sum(step.bytes for step in work))
            record_row(row)

        bench.suite = self  # where conftest.py reads what --quick and --no-compile leave out
        return bench

    def bytes_needed(self, function: Function, inputs: Sequence[Any], mode: str) -> int | None:
        """Of one call, for the limit that its time cannot fall below; see floor.py."""
        if mode == "forward":
            return bytes_needed(inputs, runner(function, inputs, mode)(), (), mode)
        outputs = [t.detach() for t in _tensors(function(*inputs)) if t.requires_grad]
        return bytes_needed(inputs, outputs, [t for t in inputs if getattr(t, "requires_grad", False)], mode)

    def inputs(self, device: torch.device, sizes: Mapping[str, int]) -> tuple[Any, ...]:
        return tuple(self.make_inputs(device, torch.Generator().manual_seed(20260101), **sizes))

    def sizes_to_check(self, case: str) -> Mapping[str, int]:
        if callable(self.check_sizes):
            return self.check_sizes(self.cases[case])
        return self.check_sizes or self.cases[case]

    def check_agreement(
        self, function: Function, device: torch.device, sizes: Mapping[str, int], mode: str
    ) -> float | None:
        """The largest difference from the reference at these sizes, relative to each result's largest value.

        Raises AssertionError when it is beyond the tolerance. None: no result of this mode is differentiable or comes
        without a mask, so that only `agree` judged.
        """
        inputs = self.inputs(device, sizes)
        reference = resolve(self.providers["reference"])
        mask = None
        if self.agree is not None:
            with torch.no_grad():
                got, expected = function(*inputs), reference(*inputs)
                mask = self.agree(got, expected)
            if mode == "forward":
                return None if mask is None else self._masked_error(reference, inputs, got, mask)
        key = (self.providers["reference"], self.make_inputs, str(device), mode, tuple(sizes.items()))
        if mask is not None or key not in _expected:
            _expected.clear()
            _expected[key] = runner(reference, inputs, mode, mask)()
        largest = 0.0
        for index, (one, other) in enumerate(zip(runner(function, inputs, mode, mask)(), _expected[key], strict=True)):
            scale = max(1e-30, float(other.abs().max())) if other.numel() else 1.0
            torch.testing.assert_close(
                one.to(other.dtype) / scale,
                other / scale,
                rtol=0,
                atol=self.tolerance,
                msg=lambda text, index=index: f"{self.op}: result {index} differs from the reference: {text}",
            )
            largest = max(largest, relative_error(one, other))
        return largest

    def _masked_error(self, reference: Function, inputs: Sequence[Any], got: Any, mask: torch.Tensor) -> float | None:
        """Of the outputs that are differentiable, where the mask lets them not differ."""
        expected = _tensors(reference(*inputs))
        pairs = [(one, other.detach()) for one, other in zip(_tensors(got), expected) if other.requires_grad]
        return max((relative_error(one * mask, other * mask) for one, other in pairs), default=None)


def relative_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference over the largest expected value."""
    if not expected.numel():
        return 0.0
    return float((got.to(expected.dtype) - expected).abs().max()) / max(1e-30, float(expected.abs().max()))


@dataclasses.dataclass(frozen=True)
class Provider:
    """A function made when it is first needed; `requires` names a module without which it is skipped.

    compiles: by torch.compile, which takes long before the first result.
    """

    make: Callable[[], Function]
    requires: str | None = None
    compiles: bool = False


def peer(module: str, make: Callable[[], Function]) -> Provider:
    """Somebody else's implementation, skipped where its module is not installed."""
    return Provider(make, requires=module)


def compiled(function: Function) -> Provider:
    """The function through torch.compile, for exactly the sizes it meets."""

    def make() -> Function:
        torch._dynamo.reset()
        return torch.compile(function, dynamic=False)

    return Provider(make, compiles=True)


def resolve(provider: Function | Provider) -> Function:
    if not isinstance(provider, Provider):
        return provider
    if provider.requires is not None:
        try:
            importlib.import_module(provider.requires)
        except ImportError as error:
            pytest.skip(f"{provider.requires} is not usable here: {error}")
    return provider.make()


def runner(
    function: Function, inputs: Sequence[Any], mode: str, mask: torch.Tensor | None = None
) -> Callable[[], tuple[torch.Tensor, ...]]:
    """A call without arguments: the outputs, or the gradients through one fixed random projection of the outputs.

    The projection is zero where the mask is. "penalty": the gradients, with respect to all leaves but the first, of
    that projection plus the squared norm of its gradient with respect to the first.
    """
    if mode == "forward":

        def forward() -> tuple[torch.Tensor, ...]:
            with torch.no_grad():
                return _tensors(function(*inputs))

        return forward
    leaves = [t for t in inputs if isinstance(t, torch.Tensor) and t.requires_grad]
    outputs = [t for t in _tensors(function(*inputs)) if t.requires_grad]
    generator = torch.Generator().manual_seed(7)
    projections = [torch.randn(t.shape, generator=generator).to(t) for t in outputs]
    if mask is not None:
        projections = [projection * mask for projection in projections]

    def differentiable_outputs() -> list[torch.Tensor]:
        return [t for t in _tensors(function(*inputs)) if t.requires_grad]

    def forward_backward() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(differentiable_outputs(), leaves, projections)

    def backward() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(outputs, leaves, projections, retain_graph=True)

    def penalty() -> tuple[torch.Tensor, ...]:
        score = sum((t * p).sum() for t, p in zip(differentiable_outputs(), projections, strict=True))
        (gradient,) = torch.autograd.grad(score, leaves[0], create_graph=True)
        return torch.autograd.grad(score + gradient.square().sum(), leaves[1:])

    return {"forward+backward": forward_backward, "penalty": penalty, "backward": backward}[mode]


def _tensors(result: Any) -> tuple[torch.Tensor, ...]:
    return (result,) if isinstance(result, torch.Tensor) else tuple(t for t in result if isinstance(t, torch.Tensor))


def timing(benchmark: Any) -> dict[str, Any]:
    """Median, p20 and p80 in milliseconds of a finished pytest-benchmark run."""
    if benchmark.stats is None:  # --benchmark-disable: the agreement was checked, nothing was timed
        return {"median_ms": None, "p20_ms": None, "p80_ms": None, "rounds": 0, "noisy": True}
    return spread(benchmark.stats.stats.data)


def spread(seconds: Iterable[float]) -> dict[str, Any]:
    """Median, p20 and p80 in milliseconds of rounds that took so many seconds."""
    rounds = sorted(1e3 * taken for taken in seconds)
    p20, p80 = percentile(rounds, 0.2), percentile(rounds, 0.8)
    return {
        "median_ms": statistics.median(rounds),
        "p20_ms": p20,
        "p80_ms": p80,
        "rounds": len(rounds),
        "noisy": len(rounds) < 5 or p80 > NOISY * p20,
    }


def sgemm_milliseconds(device: torch.device, rounds: int = 7) -> float:
    """The p20 of a product of two 1024 x 1024 float32 matrices, measured now: what the machine gives at this moment."""
    a, b = torch.ones(2, 1024, 1024, device=device)
    times = []
    for _ in range(rounds + 2):
        start = synchronised_clock()
        torch.mm(a, b)
        times.append(1e3 * (synchronised_clock() - start))
    return percentile(sorted(times[2:]), 0.2)


def peak_mebibytes(run: Callable[[], Any], device: torch.device) -> float | None:
    """How far one call raises the memory in use; None where the system does not say.

    CUDA: the caching allocator's peak. CPU: the process's resident high-water mark, which Linux lets a process reset;
    it counts pages touched, so memory the C library kept from an earlier call and could not give back is missed.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    reset = pathlib.Path("/proc/self/clear_refs")
    try:
        ctypes.CDLL(None).malloc_trim(0)  # gives free heap back, so that using it again counts
        reset.write_text("5")
        before_kib = _status_kib("VmRSS")
        run()
        return max(0, _status_kib("VmHWM") - before_kib) / 1024
    except (AttributeError, OSError):  # not glibc, not Linux, or /proc is read-only
        return None


def peak_allocated_mebibytes(run: Callable[[], Any], device: torch.device) -> float | None:
    """The most that torch's allocator holds at a time during one call, more than before; by torch's profiler.

    Unlike peak_mebibytes it counts what was asked for, touched or not, and misses nothing that is used again; memory
    that torch did not allocate is not in it. None on CUDA, where peak_mebibytes is the allocator's own.
    """
    if device.type == "cuda":
        return None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = [event for event in json.loads(path.read_text())["traceEvents"] if event.get("name") == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event["ts"]):
        held += event["args"]["Bytes"]
        peak = max(peak, held)
    return peak / 2**20


def _status_kib(field: str) -> int:
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise OSError(f"/proc/self/status has no {field}")
