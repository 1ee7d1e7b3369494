"""Rows of benchmarks: compared, and as tables and curves."""

from __future__ import annotations

import copy
import json
import pathlib
import re

import pytest
from timed_rows import row, scaled

from facecore.cli import main
from facecore.evaluation.benchmark_figures import growth_panels
from facecore.evaluation.benchmark_page import ratio_table
from facecore.evaluation.benchmark_rows import compare, limit_ms, read_rows, write_rows

BENCHMARKS = pathlib.Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def run(capsys):
    """Runs the command: exit code, output, errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main.main(["benchmark", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err.strip()

    return run


@pytest.mark.parametrize(
    ("new", "verdict"),
    [
        (row(), "same"),
        (scaled(1.09), "same"),  # the ranges overlap
        (scaled(1.2), "slower"),
        (scaled(0.8), "faster"),
        (scaled(1.2, p20_ms=1.04), "same"),  # the ranges overlap
        (scaled(0.8, p80_ms=0.96), "same"),
        (row(median_ms=1.095, p20_ms=1.09, p80_ms=1.1), "same"),  # they do not, but it is less than 10 %
        (scaled(2.0, rounds=4), "not comparable"),
        (scaled(2.0, sgemm_ms=20.0), "not comparable"),  # everything was slower at that moment
        (scaled(2.0, copy_gb_s=10.0), "not comparable"),
        (scaled(2.0, copy_gb_s=23.0), "slower"),
        (scaled(1.2, sgemm_ms=None), "slower"),  # a row without the yardstick
    ],
)
def test_what_moved(new, verdict):
    (change,) = compare([row()], [new]).changes
    assert change.verdict == verdict and not change.error_grew
    assert (change.ratio is None) == (verdict == "not comparable")
    assert change.regressed == (verdict == "slower")


@pytest.mark.parametrize(
    ("old", "new", "grew"),
    [
        (1e-7, 9e-7, False),
        (1e-7, 2e-6, True),
        (4e-6, 7e-6, False),
        (4e-6, 9e-6, True),
        (None, 1, False),
        (0, 2e-6, True),
    ],
)
def test_when_an_error_moved(old, new, grew):
    (change,) = compare([row(error=old)], [row(error=new)]).changes
    assert change.error_grew == grew


def test_rows_are_matched_by_all_that_names_them():
    names = {"case": "b", "mode": "step", "threads": 2, "provider": "peer", "hardware": "other", "device": "cuda"}
    names["clock"] = "process"
    new = [row(), *(row(**{name: value}) for name, value in names.items())]
    result = compare([row(), row(op="cosine")], new)
    assert len(result.changes) == 1 and result.only_old == [row(op="cosine")] and result.only_new == new[1:]


def test_compare(run, tmp_path):
    old = [row(case=name) for name in "abcd"] + [row(provider="peer")]
    new = [row(case="a"), scaled(1.5, case="b"), scaled(0.5, case="c"), row(case="e"), scaled(3, provider="peer")]
    write_rows(tmp_path / "old", old)
    write_rows(tmp_path / "new", new)
    code, out, errors = run("--compare", tmp_path / "old", tmp_path / "new")
    assert (code, errors) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "sine / a / forward / cpu / peer      slower: 1 to 3 ms, x3.00"
    assert lines[1] == "sine / b / forward / cpu / facecore  slower: 1 to 1.5 ms, x1.50"
    assert lines[2] == "sine / c / forward / cpu / facecore  faster: 1 to 0.5 ms, x0.50"
    assert lines[3] == "4 rows: 2 slower, 1 faster, 1 same, 0 not comparable"
    assert lines[4].startswith("1 only in ") and lines[4].endswith("as sine / d / forward / cpu / facecore")
    assert "do not overlap" in lines[-1]
    code, _, errors = run("--compare", tmp_path / "old", tmp_path / "new", "--fail-on-regression")
    assert code == 1 and errors == "facecore benchmark: 1 rows of facecore became slower or less exact"
    write_rows(tmp_path / "new", [row(case="a"), scaled(3, provider="peer")])
    assert run("--compare", tmp_path / "old", tmp_path / "new", "--fail-on-regression")[0] == 0


def test_committed_rows_can_be_compared(run):
    for path in sorted((BENCHMARKS / "results").glob("*.json")):
        code, out, _ = run("--compare", path, path, "--fail-on-regression")
        assert code == 0 and re.match(r"\d+ rows: 0 slower, 0 faster, \d+ same", out)


def test_the_limit_is_the_suites_own_or_that_of_a_copy():
    assert limit_ms(row()) is None
    assert limit_ms(row(bytes_needed=2_000_000, copy_gb_s=None)) is None
    assert limit_ms(row(bytes_needed=2_000_000, copy_gb_s=10.0)) == pytest.approx(0.2)
    assert limit_ms(row(bytes_needed=2_000_000, copy_gb_s=10.0, floor_ms=0.3)) == 0.3


def test_ratios_are_of_the_same_case_and_say_when_they_are_noise():
    rows = [row(), scaled(3.0, provider="reference"), scaled(4.0, provider="peer", sgemm_ms=20.0, error=2e-5)]
    rows += [row(case="b", noisy=True), scaled(150.0, case="b", provider="reference")]
    columns, lines = ratio_table(rows)
    assert columns[5:] == ["reference, ratio", "peer, ratio", "peer, error"]
    assert [line[5:] for line in lines] == [["3.00", "4.00*", "2e-05"], ["150*", "", ""]]
    assert [line[2] for line in lines] == ["1.00", "1.00*"]


def test_growth_is_drawn_over_what_varies_alone():
    def sized(case, ms, **sizes):
        return scaled(ms, case=case, sizes=sizes)

    rows = [sized(f"s{side}", side / 10, images=1, height=side, width=side) for side in (64, 128, 256)]
    rows += [sized("b8", 9.0, images=8, height=64, width=64), row(case="no sizes", sizes={})]
    first, second = growth_panels(rows)
    assert first.label == "height × width" and first.title == "forward\nimages 1"
    assert [size for size, _ in first.lines["facecore"]] == [4096.0, 16384.0, 65536.0]
    assert second.label == "images" and second.lines["facecore"] == [(1.0, 6.4), (8.0, 9.0)]
    assert growth_panels(rows[:1]) == []


def test_different_work_at_one_size_is_no_growth():
    rows = [
        scaled(ms, case=f"{name}{pixels}", sizes={"pixels": pixels})
        for name, pixels, ms in (
            ("encoder", 96, 12.0),
            ("render", 96, 2.0),
            ("encoder", 224, 50.0),
            ("render", 224, 4.0),
        )
    ]
    assert growth_panels(rows) == []
    (panel,) = growth_panels(rows[::2])
    assert panel.lines == {"facecore": [(96.0, 12.0), (224.0, 50.0)]}


def test_rows_are_read_as_they_were_written(tmp_path):
    rows = [row(), row(case="b")]
    before = copy.deepcopy(rows)
    write_rows(tmp_path / "rows.json", rows)
    assert read_rows(tmp_path / "rows.json") == before == json.loads((tmp_path / "rows.json").read_text())
