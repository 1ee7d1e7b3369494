"""`facecore benchmark`: what it measures, writes and compares, on three suites of a few numbers each."""

from __future__ import annotations

import base64
import html.parser
import itertools
import pathlib
import shutil
import types

import pytest
import torch
from timed_rows import row

from facecore.cli import main
from facecore.evaluation import benchmark_suites
from facecore.evaluation.benchmark_page import make_page
from facecore.evaluation.benchmark_rows import read_rows, write_rows

BENCHMARKS = pathlib.Path(__file__).resolve().parent.parent / "benchmarks"
SINE = '''"""sine: the fastest there is.

More of it.
"""

import torch
from harness import Suite, compiled, peer


def make_inputs(device, generator, *, images, size):
    return (torch.randn(images, size, generator=generator).to(device).requires_grad_(),)


suite = Suite(
    op="sine",
    providers={
        "facecore": torch.sin,
        "reference": torch.sin,
        "doubled": lambda x: 2 * (x / 2).sin() * (x / 2).cos(),
        "torch.compile": compiled(torch.sin),
        "<absent>": peer("a_module_that_nobody_has", lambda: torch.sin),
    },
    cases={f"{size}_b{n}": {"images": n, "size": size} for n in (1, 4) for size in (100, 400, 1600)},
    make_inputs=make_inputs,
    quick=("100_b1", "400_b1"),
)
bench_sine = suite.benchmark()
'''
WRONG = '''"""A function that is not its reference, and one without a suite."""

import pytest
import torch
from harness import Suite, timing

suite = Suite(
    op="wrong",
    providers={"facecore": torch.cos, "reference": torch.sin},
    cases={"only": {}},
    make_inputs=lambda device, generator: (torch.ones(3, requires_grad=True),),
    modes=("forward",),
)
bench_wrong = suite.benchmark()


def bench_alone(benchmark, record_row, device):
    benchmark.pedantic(sum, ([1, 2],), rounds=5)
    row = {"op": "alone", "provider": "facecore", "mode": "step", "case": "all", "device": device.type, "sizes": {}}
    record_row(row | timing(benchmark) | {"peak_mib": None, "images_per_second": 12.34})


@pytest.mark.full
def bench_left_out(benchmark):
    raise RuntimeError("not in the quick set")
'''
CRASH = '''"""crash: kills its process."""

import os


def bench_crash(benchmark):
    os.abort()
'''


@pytest.fixture(scope="module")
def suites(tmp_path_factory) -> pathlib.Path:
    """The files of the harness, and three suites."""
    folder = tmp_path_factory.mktemp("suites")
    for path in BENCHMARKS.glob("*.py"):
        if not path.name.startswith("bench_"):
            shutil.copy(path, folder)
    for name, text in {"sine": SINE, "wrong": WRONG, "crash": CRASH}.items():
        (folder / f"bench_{name}.py").write_text(text)
    return folder


@pytest.fixture
def run(capsys, monkeypatch, suites):
    """Runs the command on those suites: exit code, output, errors."""
    monkeypatch.setattr(benchmark_suites, "folder", lambda: suites)

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main.main(["benchmark", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err.strip()

    return run


@pytest.fixture(scope="module")
def measured(suites, tmp_path_factory) -> types.SimpleNamespace:
    """One quick run of all three suites, made once."""
    out = tmp_path_factory.mktemp("measured") / "deep" / "out"
    patch = pytest.MonkeyPatch()
    patch.setattr(benchmark_suites, "folder", lambda: suites)
    patch.chdir(tmp_path_factory.mktemp("elsewhere"))
    try:
        code = main.main(["benchmark", "--quick", "--device", "cpu", "--threads", "1", "--out", str(out)])
    finally:
        patch.undo()
    return types.SimpleNamespace(code=code, out=out, rows=read_rows(out / "rows.json"))


def everything_below(folder: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# ---- a run


def test_rows_say_what_was_measured_how_exactly_and_how_fast_the_machine_was(measured):
    names = {(row["op"], row["case"], row["mode"], row["provider"]) for row in measured.rows}
    parts = ("100_b1", "400_b1"), ("forward", "forward+backward"), ("facecore", "reference", "doubled")
    sine = {("sine", *names) for names in itertools.product(*parts)}
    assert names == sine | {("wrong", "only", "forward", "reference"), ("alone", "all", "step", "facecore")}
    for one in measured.rows:
        assert one["threads"] == 1 and one["device"] == "cpu" and one["hardware"]
        assert one["median_ms"] > 0 and one["sgemm_ms"] > 0 and one["copy_gb_s"] > 0
    errors = {row["provider"]: row["error"] for row in measured.rows if row["op"] == "sine"}
    assert errors["facecore"] == errors["reference"] == 0
    assert 0 < errors["doubled"] < 1e-6  # one rounding more
    assert next(row["error"] for row in measured.rows if row["op"] == "alone") is None
    needed = {row["mode"]: row["bytes_needed"] for row in measured.rows if row["case"] == "100_b1"}
    assert needed == {"forward": 4 * 200, "forward+backward": 4 * 300}


def test_what_fails_is_said_and_the_rest_is_there(measured):
    assert measured.code == 1
    page = (measured.out / "index.html").read_text(encoding="utf-8")
    assert "<h2>Failed</h2>" in page and "wrong[cpu-only-forward-facecore]" in page
    assert "wrong: result 0 differs from the reference" in page
    assert ">crash</td>" in page and ">the process ended by SIGABRT; the rest of this suite was not run</td>" in page
    assert "not in the quick set" not in page


def test_nothing_else_is_written(measured, suites):
    assert everything_below(measured.out) == ["index.html", "rows.json"]
    harness = {path.name for path in suites.glob("*.py")}
    assert set(everything_below(suites)) == harness, "no byte code, no cache beside the suites"


class Reader(html.parser.HTMLParser):
    """Headings, cells and pictures; fails on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: dict[str, list[str]] = {"h2": [], "th": [], "td": [], "summary": []}
        self.pictures: list[str] = []
        self.feed(text.replace("<!doctype html>", ""))
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.pictures.append(dict(attrs)["src"])
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in self.found:
            self.found[self.open[-1]].append(data)


def test_the_page_has_the_tables_and_the_curves(measured):
    page = Reader((measured.out / "index.html").read_text(encoding="utf-8"))
    assert page.found["h2"] == ["How to read this", "Failed", "sine", "wrong", "alone", "Not run"]
    assert {"times the limit", "error", "reference, ratio", "doubled, ratio", "doubled, error"} <= set(page.found["th"])
    assert "12 rows: time, limit, memory, error" in page.found["summary"]
    assert any(cell.endswith("(12.3 images/s)") for cell in page.found["td"])
    assert any("a_module_that_nobody_has" in cell for cell in page.found["td"])
    (picture,) = page.pictures
    drawing = base64.b64decode(picture.removeprefix("data:image/svg+xml;base64,")).decode()
    assert all(text in drawing for text in ("<svg", "milliseconds", "doubled", ">400<", "forward+backward"))


# ---- what to run


def test_list(run):
    code, out, errors = run("--list")
    assert (code, errors) == (0, "")
    assert out.splitlines()[:2] == ["crash  kills its process.", "sine   the fastest there is."]
    assert run("--list", "in")[1] == "sine  the fastest there is.\n"


def test_every_suite_of_the_repository_is_found():
    found = benchmark_suites.find(benchmark_suites.folder())
    assert {suite.name for suite in found} == {path.stem[6:] for path in BENCHMARKS.glob("bench_*.py")}
    assert all(suite.summary for suite in found)
    one = benchmark_suites.choose(found, ["uv_sample"])
    assert [suite.name for suite in one] == ["uv_sample"]
    assert {"uv_sample", "uv_unwrap"} <= {suite.name for suite in benchmark_suites.choose(found, ["uv"])}


def test_options_reach_the_suites(run, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(benchmark_suites, "run", lambda suite, options: seen.append((suite.name, options)) or ())
    assert run("sine", "--device", "cpu", "--out", tmp_path)[0] == 0
    assert run("sine", "--device", "cpu", "--quick", "--compile", "yes", "--threads", 2, "--out", tmp_path)[0] == 0
    assert run("sine", "--device", "cpu", "--compile", "no", "--out", tmp_path)[0] == 0
    assert run("sine", "--device", "cpu", "--clock", "process", "--threads", 1, "--out", tmp_path)[0] == 0
    quick = ["--threads", "2", "--quick", "--benchmark-max-time", "0.25", "--seconds", "540"]
    clock = ["--clock", "process", "--threads", "1"]
    assert seen == [("sine", ["--device", "cpu", *more]) for more in ([], quick, ["--no-compile"], clock)]


def test_the_process_clock_is_for_the_cpu(run, tmp_path, monkeypatch):
    monkeypatch.setattr("facecore.training.device.choose_device", lambda name: torch.device("cuda"))
    code, _, err = run("sine", "--clock", "process", "--threads", 1, "--out", tmp_path)
    assert code == 2 and "--clock process does not see the time of a GPU; give --device cpu too" in err


def test_suites_share_the_time(run, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(benchmark_suites, "run", lambda suite, options: seen.append(options[-2:]) or ())
    assert run("--minutes", 1, "--device", "cpu", "--out", tmp_path)[0] == 0
    assert seen == [["--seconds", "40"], ["--seconds", "60"], ["--seconds", "60"]]  # the first took no time


def test_no_benchmark_starts_when_the_time_is_over(run, tmp_path):
    code, out, _ = run("sine", "--quick", "--minutes", 1e-6, "--device", "cpu", "--out", tmp_path)
    assert code == 0 and out.startswith("0 rows in ")
    page = Reader((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert page.found["td"] == ["no time left of --seconds 0", "sine", "16"]


BAD = {
    "no such suite": (["cosine"], 2, "no benchmark suite is called 'cosine'; choose from crash, sine, wrong"),
    "no such suite listed": (["--list", "cosine"], 2, "no benchmark suite is called 'cosine'"),
    "no threads": (["--threads", "0"], 2, "--threads must be at least 1, got 0"),
    "the clock of several threads": (["--clock", "process"], 2, "--clock process adds up the time of all threads"),
    "no time": (["--minutes", "-1"], 2, "--minutes must be positive and finite, got -1.0"),
    "no such device": (["--device", "tpu"], 2, "--device"),
    "out is a file": (["--out", "{file}"], 2, "--out {file} is a file; give a folder"),
    "fail alone": (["--fail-on-regression"], 2, "--fail-on-regression belongs to --compare OLD NEW; give both"),
    "one file": (["--compare", "{file}"], 2, "--compare"),
    "no file": (["--compare", "none.json", "{rows}"], 2, "--compare: cannot read none.json: No such file"),
    "not rows": (["--compare", "{rows}", "{file}"], 2, "--compare: {file} is not a file of benchmark rows"),
    "a list of other things": (["--compare", "{list}", "{rows}"], 2, "one of them lacks op, case, mode, device"),
    "nothing in common": (["--compare", "{rows}", "{other}"], 2, "share no row"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_write_nothing(run, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    names = {name: tmp_path / name for name in ("file", "list", "rows", "other")}
    names["file"].write_text("not JSON")
    names["list"].write_text('[{"a": 1}]')
    write_rows(names["rows"], [row()])
    write_rows(names["other"], [row(hardware="another machine")])
    before = everything_below(tmp_path)
    arguments, code, message = BAD[case]
    result = run(*(argument.format(**names) for argument in arguments))
    assert result[:2] == (code, "") and "\n" not in result[2]
    assert result[2].startswith("facecore benchmark: ") and message.format(**names) in result[2]
    assert everything_below(tmp_path) == before


def test_what_is_missing_is_named_with_the_remedy(run, tmp_path, monkeypatch):
    monkeypatch.setitem(benchmark_suites.NEEDED, "a_module_that_nobody_has", "a-package")
    code, out, errors = run("sine", "--out", tmp_path / "out")
    assert (code, out) == (1, "") and everything_below(tmp_path) == []
    assert errors == "facecore benchmark: not installed: a-package; pip install 'facecore[benchmark]'"


def test_a_stopped_run_keeps_whole_files(run, tmp_path, monkeypatch):
    def stop(suite, options):
        yield "row", row()
        if suite.name == "wrong":
            raise KeyboardInterrupt

    monkeypatch.setattr(benchmark_suites, "run", stop)
    code, _, errors = run("--device", "cpu", "--out", tmp_path)
    assert code == 1 and errors.endswith("facecore benchmark: stopped")
    assert everything_below(tmp_path) == ["index.html", "rows.json"]
    assert len(read_rows(tmp_path / "rows.json")) == 2


def test_an_empty_run_has_a_page():
    page = Reader(make_page([], [], [("a[1]", "no GPU"), ("a[2]", "no GPU"), ("b[1]", "no GPU")], "").html())
    assert page.found["h2"] == ["How to read this", "Not run"] and page.found["td"] == ["no GPU", "a, b", "3"]
