"""Ablations: verdicts by hand, rows, and the page."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib

import pytest
import torch

from facecore.evaluation.ablation_page import claims_table, make_page
from facecore.training.ablation import Ablation, Comparison, Row, judge, read_rows, write_rows
from facecore.training.ablation_run import PICTURES
from facecore.training.config import merged

COMPARISON = Comparison("1", "with is better", "error", "with", "without")


def rows_of(better: dict[int, float], worse: dict[int, float]) -> list[Row]:
    parts = (("with", better), ("without", worse))
    return [Row("s", name, seed, {"error": value}, {}) for name, values in parts for seed, value in values.items()]


def test_verdict_by_hand():
    """Differences 2, 3, 4 of 10, 12, 11: mean 3, standard error 1 / sqrt 3, 3 / 11 of the worse."""
    verdict = judge(COMPARISON, rows_of({0: 8, 1: 9, 2: 7}, {0: 10, 1: 12, 2: 11}))
    assert verdict.difference == 3 and verdict.seeds == (0, 1, 2)
    assert verdict.standard_error == pytest.approx(1 / math.sqrt(3))
    assert verdict.relative == pytest.approx(3 / 11)
    assert verdict.holds and verdict.enough


def test_the_table_of_claims_by_hand():
    experiment = Ablation("s", {}, {"with": {}, "without": {}}, [COMPARISON])
    head = "| claim | what it says | seeds | lower | than | difference | holds |\n|---|---|---|---|---|---|---|\n"
    start = "| 1 | with is better |"
    rows = rows_of({0: 8, 1: 9, 2: 7}, {0: 10, 1: 12, 2: 11})
    cells = "0, 1, 2 | with, `error`: 8, 9, 7 | without, `error`: 10, 12, 11 | +27.3 % ± 10.5 | yes"
    assert claims_table(experiment, rows) == f"{head}{start} {cells} |\n"
    cells = "0 | with, `error`: 8 | without, `error`: 10 | +20.0 % | 1 of 3 seeds"
    assert claims_table(experiment, rows[::3]) == f"{head}{start} {cells} |\n"
    assert claims_table(experiment, []).endswith(
        f"{start} none | with, `error`: - | without, `error`: - | - | 0 of 3 seeds |\n"
    )
    no_worse = Ablation("s", {}, experiment.variants, [dataclasses.replace(COMPARISON, no_worse=True)])
    rows = rows_of({0: 9, 1: 10, 2: 11}, {0: 10, 1: 10, 2: 10})  # no difference, but two standard errors of 11.5 %
    cells = "0, 1, 2 | with, `error`, no worse: 9, 10, 11 | without, `error`: 10, 10, 10 | +0.0 % ± 11.5 | no"
    assert claims_table(no_worse, rows) == f"{head}{start} {cells} |\n"


@pytest.mark.parametrize(
    ("better", "worse", "why"),
    [
        ({0: 8, 1: 9}, {0: 10, 1: 12}, "two seeds"),
        ({0: 9.8, 1: 9.8, 2: 9.8}, {0: 10, 1: 10, 2: 10}, "2 % of it"),
        ({0: 1, 1: 11, 2: 9}, {0: 10, 1: 12, 2: 10}, "scattered: differences 9, 1, 1"),
        ({0: 12, 1: 12, 2: 12}, {0: 10, 1: 10, 2: 10}, "the other way"),
    ],
)
def test_what_does_not_hold(better, worse, why):
    assert not judge(COMPARISON, rows_of(better, worse)).holds, why


@pytest.mark.parametrize(
    ("better", "holds"),
    [
        ({0: 10, 1: 10, 2: 10}, True),
        ({0: 10.2, 1: 10.2, 2: 10.2}, True),  # 2 % worse
        ({0: 10.4, 1: 10.4, 2: 10.4}, False),  # 4 % worse
        ({0: 9, 1: 10, 2: 11.3}, False),  # 1 % worse, but it may be more: two standard errors are 13 %
        ({0: 5, 1: 5}, False),  # two seeds
    ],
)
def test_no_worse_by_hand(better, holds):
    comparison = dataclasses.replace(COMPARISON, no_worse=True)
    rows = rows_of(better, {0: 10, 1: 10, 2: 10})
    assert judge(comparison, rows).holds == holds
    page = make_page(Ablation("s", {}, {"with": {}, "without": {}}, [comparison]), rows, pathlib.Path("nowhere")).html()
    assert "error, not above" in page


def test_only_seeds_of_both_count():
    verdict = judge(COMPARISON, rows_of({0: 1, 1: 2, 5: 9}, {1: 3, 0: 4, 2: 7}))
    assert verdict.seeds == (0, 1) and verdict.better == (1, 2) and verdict.worse == (4, 3)
    assert math.isnan(judge(COMPARISON, []).difference)
    one = judge(COMPARISON, rows_of({0: 8}, {0: 10}))
    assert (one.difference, one.relative) == (2, 0.2) and math.isnan(one.standard_error) and not one.holds


def test_two_measures_of_one_variant_compare_by_hand():
    """Differences 1, 2, 3 of 3, 4, 5."""
    comparison = Comparison("1", "ten tell more than one", "of_ten", "with", "with", "of_one")
    rows = [Row("s", "with", seed, {"of_ten": 2.0, "of_one": 3.0 + seed}, {}) for seed in range(3)]
    verdict = judge(comparison, rows)
    assert verdict.better == (2, 2, 2) and verdict.worse == (3, 4, 5) and verdict.relative == pytest.approx(0.5)
    page = make_page(Ablation("s", {}, {"with": {}}, [comparison]), rows, pathlib.Path("nowhere")).html()
    assert "of_ten below of_one" in page


def test_rows_come_back_and_bad_ones_are_named(tmp_path):
    rows = [Row("s", "b", 1, {"error": 0.5}, {"commit": "x"}), Row("s", "a", 0, {"error": 1.5}, {})]
    path = tmp_path / "rows.jsonl"
    write_rows(path, rows)
    assert read_rows(path) == rows[::-1]
    with path.open("a") as file:
        file.write(json.dumps(dataclasses.asdict(dataclasses.replace(rows[0], measures={"error": 9.0}))) + "\n")
    assert read_rows(path)[1].measures == {"error": 9.0}, "the last row of a variant and seed counts"
    with path.open("a") as file:
        file.write('{"system": "s"}\n')
    with pytest.raises(ValueError, match=r"rows.jsonl, line 4 is not a row of an ablation"):
        read_rows(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"measures": 3}, "measures must be numbers by name"),
        ({"measures": {"error": "low"}}, "measures must be numbers by name"),
        ({"seed": "0"}, "seed a whole number"),
        ({"facts": {"seconds": None}}, "seconds a number"),
    ],
)
def test_rows_of_the_wrong_kind_are_named(tmp_path, change, message):
    row = {"system": "s", "variant": "with", "seed": 0, "measures": {"error": 1.0}, "facts": {}} | change
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=rf"rows.jsonl, line 1 is not a row of an ablation: .*{message}"):
        read_rows(tmp_path / "rows.jsonl")
    (tmp_path / "rows.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"rows.jsonl holds no rows"):
        read_rows(tmp_path / "rows.jsonl")


def test_rows_that_lack_a_measure_do_not_count():
    rows = rows_of({0: 1, 1: 2}, {0: 3, 1: 4})
    rows[0] = dataclasses.replace(rows[0], measures={"other": 1.0})
    assert judge(COMPARISON, rows).seeds == (1,)


def test_unknown_variants_are_refused():
    with pytest.raises(ValueError, match="claim 1 compares the variant 'without', which there is not"):
        Ablation("s", {}, {"with": {}}, [COMPARISON])


def test_merged_settings():
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "d": 4}) == {"a": {"b": 3, "c": 2}, "d": 4}


def test_page_shows_verdicts_and_pictures(tmp_path):
    from facecore.data import write_png

    experiment = Ablation("s", {}, {"with": {}, "without": {}}, [COMPARISON])
    rows = rows_of({0: 8, 1: 9, 2: 7}, {0: 10, 1: 12, 2: 11})
    folder = tmp_path / "seed0" / "with"
    folder.mkdir(parents=True)
    write_png(folder / PICTURES, torch.rand(3, 8, 8))
    page = make_page(experiment, rows, tmp_path).html()
    assert "with is better" in page and "+27.3 %" in page and page.count("data:image") == 1
    assert ">yes<" in page
    assert "There is no row yet" in make_page(experiment, [], tmp_path).html()
    assert ">2 of 3 seeds<" in make_page(experiment, rows[:2] + rows[3:5], tmp_path).html()
