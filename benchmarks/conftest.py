"""Options, the device column, and the rows of a benchmark run: to the screen, to JSON, to `facecore benchmark`."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import platform
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import floor
import pytest
import torch
from floor import copy_gigabytes_per_second
from harness import sgemm_milliseconds

import facecore
from facecore.training.facts import commit

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
KEY = ("op", "case", "mode", "device", "threads", "provider")
Rows = list[dict[str, Any]]
_ROWS = pytest.StashKey[Rows]()
_START = pytest.StashKey[float]()
_EVENTS = pytest.StashKey["Events"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("facecore")
    group.addoption("--rows", metavar="FOLDER", help="write the JSON rows to this folder, one file per machine")
    group.addoption("--threads", type=int, metavar="N", help="CPU threads (default: torch's own)")
    group.addoption("--seconds", type=float, metavar="S", help="start no benchmark later than this; it is skipped")
    group.addoption("--clock", choices=("wall", "process"), default="wall", help="process: CPU time, of one thread")
    group.addoption("--device", choices=("cpu", "cuda"), help="only this device (default: all that there are)")
    group.addoption("--quick", action="store_true", help="only the cases that a suite names quick, or its first")
    group.addoption("--no-compile", action="store_true", help="leave out what goes through torch.compile")
    group.addoption("--events", metavar="FILE", help="append what happens to this file, one JSON object a line")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = []
    config.stash[_START] = time.monotonic()
    config.addinivalue_line("markers", "full: not in the quick set")
    config.stash[_EVENTS] = Events(config.getoption("--events"))
    config.pluginmanager.register(config.stash[_EVENTS])
    if threads := config.getoption("--threads"):
        torch.set_num_threads(threads)
    if config.getoption("--clock") == "process":
        if torch.get_num_threads() != 1:
            raise pytest.UsageError("--clock process adds up the time of all threads: use --threads 1")
        floor.clock = time.process_time


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "device" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("--device")
        there = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        if wanted and wanted not in there:
            raise pytest.UsageError(f"--device {wanted}: torch sees no such device here")
        metafunc.parametrize("device", [torch.device(name) for name in ([wanted] if wanted else there)], ids=str)


def pytest_runtest_setup(item: pytest.Item) -> None:
    seconds = item.config.getoption("--seconds")
    if seconds is not None and time.monotonic() - item.config.stash[_START] > seconds:
        pytest.skip(f"no time left of --seconds {seconds:g}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if is_left_out(config, item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def is_left_out(config: pytest.Config, item: Any) -> bool:
    quick, suite = config.getoption("--quick"), getattr(item.function, "suite", None)
    if suite is None:
        return quick and item.get_closest_marker("full") is not None
    chosen = item.callspec.params
    if quick and chosen["case"] not in (suite.quick or list(suite.cases)[:1]):
        return True
    return config.getoption("--no-compile") and getattr(suite.providers[chosen["provider"]], "compiles", False)


class Events:
    """What happens, for the process that started this one: one JSON object a line, flushed at once."""

    def __init__(self, path: str | None) -> None:
        self._file = open(path, "a", encoding="utf-8") if path else None

    def write(self, kind: str, value: Any) -> None:
        if self._file is not None:
            self._file.write(json.dumps({kind: value}) + "\n")
            self._file.flush()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.write("benchmarks", len(session.items))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._write_outcome(report, report.nodeid)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.write("start", _label(nodeid))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._write_outcome(report, _label(report.nodeid))
        if report.when == "teardown":
            self.write("end", _label(report.nodeid))

    def _write_outcome(self, report: pytest.CollectReport | pytest.TestReport, label: str) -> None:
        if report.skipped and isinstance(report.longrepr, tuple):
            self.write("skipped", [label, report.longrepr[2].removeprefix("Skipped: ")])
        elif report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            reason = crash.message if crash else str(report.longrepr).strip().splitlines()[-1]
            self.write("failed", [label, " ".join(reason.split())])


def _label(nodeid: str) -> str:
    """interpolate[cpu-case-mode-provider] of bench_interpolate.py::bench_interpolate[...]."""
    return nodeid.rsplit("::", 1)[-1].removeprefix("bench_")


@pytest.fixture
def record_row(request: pytest.FixtureRequest) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Takes one row; the yardsticks, hardware, versions and commit are added here."""

    def record(row: dict[str, Any]) -> None:
        timed = row["median_ms"] is not None
        device = torch.device(row["device"])
        if timed and row.get("sgemm_ms") is None:
            row["sgemm_ms"] = sgemm_milliseconds(device)
        row["copy_gb_s"] = copy_gigabytes_per_second(device) if timed else None
        row = {"error": None} | row | describe(row["device"])
        request.config.stash[_ROWS].append(row)
        request.config.stash[_EVENTS].write("row", row)

    yield record


def describe(device: str) -> dict[str, Any]:
    """What a row must say so that it can be compared with another."""
    on_gpu = {"cuda": torch.version.cuda, "driver": gpu_driver()} if device == "cuda" else {}
    return on_gpu | {
        "hardware": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
        "threads": torch.get_num_threads(),
        "clock": "wall" if floor.clock is time.perf_counter else "process",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "facecore": facecore.__version__,
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
    }


def cpu_name() -> str:
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return f"{found.group(1) if found else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def gpu_driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = config.stash[_ROWS]
    if not rows:
        return
    terminalreporter.section("rows")
    for line in table(rows):
        terminalreporter.line(line)
    if folder := config.getoption("--rows"):
        path = write_rows(rows, pathlib.Path(folder))
        terminalreporter.line(f"{len(rows)} rows written to {path}")


def table(rows: Rows) -> list[str]:
    """One line per row; "x" = how many times facecore's median the row's median is, "sgemm" = how many products of
    two 1024 x 1024 matrices."""
    lines = [
        f"{'op / case / mode / device':<60}{'provider':<28}{'median ms':>11}{'p20':>10}{'p80':>10}{'MiB':>9}"
        f"{'sgemm':>9}{'x':>8}"
    ]
    key = ("op", "case", "mode", "device")
    own = {tuple(row[k] for k in key): row["median_ms"] for row in rows if row["provider"] == "facecore"}
    for row in rows:
        name = tuple(row[k] for k in key)
        if row["median_ms"] is None:
            lines.append(f"{' / '.join(name):<60}{row['provider']:<28} agrees; not timed")
            continue
        ratio = f"{row['median_ms'] / own[name]:8.2f}" if own.get(name) else f"{'':8}"
        peak = "" if row["peak_mib"] is None else f"{row['peak_mib']:.1f}"
        lines.append(
            f"{' / '.join(name):<60}{row['provider']:<28}{row['median_ms']:>11.4f}{row['p20_ms']:>10.4f}"
            f"{row['p80_ms']:>10.4f}{peak:>9}{row['median_ms'] / row['sgemm_ms']:>9.3f}{ratio}"
            f"{'  noisy' if row['noisy'] else ''}"
        )
    return lines


def write_rows(rows: Rows, folder: pathlib.Path) -> pathlib.Path:
    """Adds the rows to the machine's file; a row measured again replaces the old one. Rows without times stay out."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = re.sub(r"[^a-z0-9]+", "-", rows[-1]["hardware"].lower()).strip("-")
    path = folder / f"{machine}.json"
    old = json.loads(path.read_text()) if path.exists() else []
    merged = {tuple(row[k] for k in KEY): row for row in [*old, *(r for r in rows if r["median_ms"] is not None)]}
    temporary = path.with_suffix(".json.tmp")
    body = ",\n".join(json.dumps(merged[key]) for key in sorted(merged, key=str))
    temporary.write_text(f"[\n{body}\n]\n")
    os.replace(temporary, path)
    return path
