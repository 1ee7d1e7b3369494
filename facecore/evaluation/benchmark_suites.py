"""Finds the benchmark suites, bench_*.py, and runs one of them in a process of its own, telling what happens."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import facecore

NEEDED = {"pytest": "pytest", "pytest_benchmark": "pytest-benchmark", "matplotlib": "matplotlib"}  # module, package
INSTALL = "pip install 'facecore[benchmark]'"
OPTIONS = ("-o", "python_files=bench_*.py", "-o", "python_functions=bench_*", "-p", "no:cacheprovider", "-q")
# Not `python -m pytest`: that puts the current folder on the path, where another facecore may lie.
START = """
import sys
sys.path[:] = [sys.argv[1], *filter(None, sys.path)]
import pytest
sys.exit(pytest.main(sys.argv[2:]))
"""
POLL = 0.2  # seconds between two looks at what the other process wrote
Event = tuple[str, Any]  # what happened, and its value: see `run`


@dataclasses.dataclass(frozen=True)
class BenchmarkSuite:
    """One bench_<name>.py; summary: its first line."""

    name: str
    path: pathlib.Path
    summary: str


def folder() -> pathlib.Path:
    """Where the suites are: inside an installed package, beside it in a checkout. Raises FileNotFoundError."""
    package = pathlib.Path(facecore.__file__).resolve().parent
    for place in (package / "benchmarks", package.parent / "benchmarks"):
        if (place / "harness.py").is_file():
            return place
    raise FileNotFoundError(f"no benchmark suites in {package} or beside it; install facecore again")


def find(place: pathlib.Path) -> list[BenchmarkSuite]:
    """Every suite of a folder, by name. Reads the files, imports nothing."""
    suites = []
    for path in sorted(place.glob("bench_*.py")):
        name = path.stem.removeprefix("bench_")
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        suites.append(BenchmarkSuite(name, path, " ".join(text.split("\n\n")[0].split()).removeprefix(f"{name}: ")))
    return suites


def choose(suites: Sequence[BenchmarkSuite], names: Sequence[str]) -> list[BenchmarkSuite]:
    """The suites of these names; a name that no suite has stands for those that contain it. None given: all.

    Raises ValueError naming the first name that fits nothing.
    """
    chosen: set[str] = set()
    for name in names:
        fitting = {s.name for s in suites if s.name == name} or {s.name for s in suites if name and name in s.name}
        if not fitting:
            raise ValueError(f"no benchmark suite is called '{name}'; choose from {', '.join(s.name for s in suites)}")
        chosen |= fitting
    return [suite for suite in suites if not names or suite.name in chosen]


def missing_packages() -> list[str]:
    """What has to be installed before anything can be measured."""
    return [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]


def run(suite: BenchmarkSuite, options: Sequence[str]) -> Iterator[Event]:
    """Measures one suite in its own process, so that a peer that crashes takes nothing else with it.

    options: of benchmarks/conftest.py and pytest-benchmark. Yields as they happen: ("benchmarks", how many),
    ("start", label), ("row", row), ("skipped", (label, reason)), ("failed", (label, reason)), ("end", label).
    """
    with tempfile.TemporaryDirectory(prefix="facecore-benchmark-") as scratch:
        events, log = pathlib.Path(scratch) / "events", pathlib.Path(scratch) / "log"
        events.touch()
        command = [
            sys.executable,
            "-c",
            START,
            str(_import_root()),
            str(suite.path),
            "-c",
            os.devnull,
            "--rootdir",
            str(suite.path.parent),
        ]
        with open(log, "wb") as output, open(events, encoding="utf-8") as reader:
            process = subprocess.Popen(
                [*command, *OPTIONS, "--events", str(events), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": ""},
            )
            try:
                started, failed = "", False
                for kind, value in _follow(process, reader):
                    started = value if kind == "start" else "" if kind == "end" else started
                    failed = failed or kind == "failed"
                    yield kind, value
            finally:
                _stop(process)
        # pytest: 0 all passed, 1 some failed, 5 nothing to do; a signal is negative
        if process.returncode not in (0, 1, 5) and not failed:
            yield "failed", (started or suite.name, _why(process.returncode, log))


def _follow(process: subprocess.Popen[bytes], reader: Any) -> Iterator[Event]:
    """Events until the process has ended and all of them are read."""
    part = ""
    while True:
        ended = process.poll() is not None
        for line in reader:
            part += line
            if part.endswith("\n"):
                ((kind, value),) = json.loads(part).items()
                part = ""
                yield kind, value
        if ended:
            return
        time.sleep(POLL)


def _import_root() -> pathlib.Path:
    """The folder that this facecore is imported from."""
    return pathlib.Path(facecore.__file__).resolve().parent.parent


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _why(code: int, log: pathlib.Path) -> str:
    if code < 0:
        return f"the process ended by {signal.Signals(-code).name}; the rest of this suite was not run"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"pytest ended with {code}: {lines[-1] if lines else 'no output'}"
