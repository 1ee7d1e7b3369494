"""`facecore benchmark`: every kernel against what people use today, on this machine; or two such runs compared."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tqdm import tqdm

from facecore.cli.errors import UsageError
from facecore.cli.parsing import parse_options

if TYPE_CHECKING:
    from facecore.evaluation.benchmark_rows import Change, Row
    from facecore.evaluation.benchmark_suites import BenchmarkSuite

DESCRIPTION = """Times each operator, loss and system beside other implementations that are installed, after checking \
that their results agree. Writes rows.json, which --compare reads, and index.html: ratios, errors, distance from the \
limit of the machine, growth.

Example: facecore benchmark --quick
         facecore benchmark rasterize uv --threads 1 --out after
         facecore benchmark --compare before/rows.json after/rows.json"""
QUICK_SECONDS = "0.25"  # of measuring per row; pytest-benchmark's own default is 1
QUICK_MINUTES = 9.0


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Options of `facecore benchmark`."""

    suites: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Names of --list, or parts of names; default: all."""
    quick: bool = False
    """One or few cases of each suite, shorter measuring, without torch.compile: minutes instead of an hour."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU where facecore can use one, else the CPU."""
    threads: int | None = None
    """CPU threads; default: torch's own choice."""
    clock: Literal["wall", "process"] = "wall"
    """process: CPU time of the one thread, where other work shares the core; needs --threads 1 and the CPU."""
    compile: Literal["auto", "yes", "no"] = "auto"
    """Also what goes through torch.compile, up to half a minute a row; auto: not with --quick."""
    minutes: float | None = None
    """Start nothing new after so many minutes; no suite may use more than twice its share. --quick: 9."""
    out: pathlib.Path = pathlib.Path("facecore_benchmark")
    """Folder for rows.json and index.html; those of an earlier run are replaced."""
    list_suites: Annotated[bool, tyro.conf.arg(name="list")] = False
    """Only say which suites there are."""
    compare: Annotated[tuple[pathlib.Path, pathlib.Path] | None, tyro.conf.arg(metavar="OLD NEW")] = None
    """Measure nothing: say which rows of two rows.json moved beyond the noise."""
    fail_on_regression: bool = False
    """With --compare: exit code 1 when facecore became slower or less exact somewhere."""

    def run(self) -> int:
        if self.fail_on_regression and self.compare is None:
            raise UsageError("--fail-on-regression belongs to --compare OLD NEW; give both")
        if self.compare is not None:
            return compare_files(*self.compare, fail=self.fail_on_regression)
        suites = self.chosen()
        if self.list_suites:
            width = max(len(suite.name) for suite in suites)
            print("\n".join(f"{suite.name:<{width}}  {suite.summary}" for suite in suites))
            return 0
        return self.measure(suites)

    def chosen(self) -> list[BenchmarkSuite]:
        from facecore.evaluation import benchmark_suites

        try:
            return benchmark_suites.choose(benchmark_suites.find(benchmark_suites.folder()), self.suites)
        except ValueError as error:
            raise UsageError(str(error)) from error

    def check(self) -> None:
        from facecore.evaluation.benchmark_suites import INSTALL, missing_packages

        if self.threads is not None and self.threads < 1:
            raise UsageError(f"--threads must be at least 1, got {self.threads}")
        if self.clock == "process" and self.threads != 1:
            raise UsageError("--clock process adds up the time of all threads; give --threads 1 too")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise UsageError(f"--minutes must be positive and finite, got {self.minutes}")
        if self.out.exists() and not self.out.is_dir():
            raise UsageError(f"--out {self.out} is a file; give a folder")
        if missing := missing_packages():
            raise ImportError(f"not installed: {', '.join(missing)}; {INSTALL}")

    def measure(self, suites: list[BenchmarkSuite]) -> int:
        """0 when every chosen benchmark ran or its peer is not here; 1 when one failed (the others are written)."""
        self.check()
        options = self.options()
        from facecore.evaluation.benchmark_page import make_page
        from facecore.evaluation.benchmark_rows import write_rows

        self.out.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        minutes = self.minutes or (QUICK_MINUTES if self.quick else math.inf)
        run = Run(60 * minutes)
        try:
            for kind, _ in run.events(suites, options):
                if kind == "suite ended":  # what was measured stays, whatever comes
                    write_rows(self.out / "rows.json", run.rows)
        finally:
            run.bar.close()
            seconds = time.perf_counter() - began
            settings = f"Measured in {seconds:.0f} s{' by --quick' if self.quick else ''}."
            make_page(run.rows, run.failed, run.skipped, settings).write(self.out / "index.html")
        for what, why in run.failed:
            print(f"facecore benchmark: {what} failed: {why}", file=sys.stderr)
        print(f"{len(run.rows)} rows in {seconds:.0f} s, {len(run.skipped)} not run: {self.out / 'index.html'}")
        return 1 if run.failed else 0

    def options(self) -> list[str]:
        """What the pytest process of each suite is told."""
        from facecore.training.device import choose_device

        try:
            device = choose_device(self.device).type
        except ValueError as error:
            raise UsageError(f"--device: {error}") from error
        if self.clock == "process" and device != "cpu":
            raise UsageError("--clock process does not see the time of a GPU; give --device cpu too")
        options = ["--device", device]
        if self.clock != "wall":
            options += ["--clock", self.clock]
        if self.threads is not None:
            options += ["--threads", str(self.threads)]
        if self.quick:
            options += ["--quick", "--benchmark-max-time", QUICK_SECONDS]
        if self.compile == "no" or (self.compile == "auto" and self.quick):
            options.append("--no-compile")
        return options


class Run:
    """Collects what the suites say and moves the progress bar."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self.rows: list[Row] = []
        self.failed: list[tuple[str, str]] = []
        self.skipped: list[tuple[str, str]] = []
        self.bar: Any = tqdm(unit="suite", leave=False, disable=None)

    def events(self, suites: list[BenchmarkSuite], options: list[str]) -> Iterator[tuple[str, Any]]:
        """Every event of every suite, and ("suite ended", name)."""
        from facecore.evaluation.benchmark_suites import run

        self.bar.reset(total=len(suites))
        for number, suite in enumerate(suites):
            self.bar.set_description(suite.name)
            count, done = 1, 0
            for kind, value in run(suite, [*options, *self._limit(len(suites) - number)]):
                if kind == "benchmarks":
                    count = max(1, value)
                elif kind == "end":
                    done += 1
                    self.bar.n = round(number + done / count, 2)
                    self.bar.refresh()
                else:
                    self.take(kind, value)
                yield kind, value
            self.bar.n = number + 1
            self.bar.refresh()
            yield "suite ended", suite.name

    def _limit(self, suites_left: int) -> list[str]:
        """Twice a suite's share of the time that is left, for the suite that starts now."""
        left = max(0.0, self._end - time.monotonic())
        return [] if left == math.inf else ["--seconds", f"{min(left, 2 * left / suites_left):.0f}"]

    def take(self, kind: str, value: Any) -> None:
        if kind == "start":
            self.bar.set_description(value)
        elif kind == "row" and value["median_ms"] is not None:
            self.rows.append(value)
        elif kind in ("skipped", "failed"):
            getattr(self, kind).append(tuple(value))


def compare_files(old: pathlib.Path, new: pathlib.Path, *, fail: bool) -> int:
    """Prints what moved. 1 with `fail` when a row of facecore's own became slower or less exact, else 0."""
    from facecore.evaluation.benchmark_rows import RULE, compare, read_rows, row_name

    try:
        rows = read_rows(old), read_rows(new)
    except ValueError as error:
        raise UsageError(f"--compare: {error}") from error
    result = compare(*rows)
    if not result.changes:
        raise UsageError(
            f"--compare: {old} and {new} share no row (operator, case, mode, device, threads, provider and hardware "
            "must be the same)"
        )
    moved = [change for change in result.changes if change.verdict in ("slower", "faster") or change.error_grew]
    width = max((len(change.name) for change in moved), default=0)
    for change in sorted(moved, key=lambda change: -(change.ratio or 1)):
        print(f"{change.name:<{width}}  {describe(change)}")
    counts = dict.fromkeys(("slower", "faster", "same", "not comparable"), 0)
    for change in result.changes:
        counts[change.verdict] += 1
    print(f"{len(result.changes)} rows: " + ", ".join(f"{number} {verdict}" for verdict, number in counts.items()))
    for rows_of_one, path in ((result.only_old, old), (result.only_new, new)):
        if rows_of_one:
            print(f"{len(rows_of_one)} only in {path}, as {row_name(rows_of_one[0])}")
    print(RULE)
    regressed = [change for change in moved if change.regressed]
    if fail and regressed:
        print(f"facecore benchmark: {len(regressed)} rows of facecore became slower or less exact", file=sys.stderr)
        return 1
    return 0


def describe(change: Change) -> str:
    parts = []
    if change.verdict in ("slower", "faster"):
        old, new = change.old["median_ms"], change.new["median_ms"]
        parts.append(f"{change.verdict}: {old:.4g} to {new:.4g} ms, x{change.ratio:.2f}")
    if change.error_grew:
        parts.append(f"less exact: {change.old['error']:.1e} to {change.new['error']:.1e}")
    return "; ".join(parts)


def main(argv: list[str]) -> int:
    command: Benchmark = parse_options(Benchmark, argv, prog="facecore benchmark", description=DESCRIPTION)
    return command.run()
