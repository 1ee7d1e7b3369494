"""Rows of benchmark runs: reading and writing them, and what moved between two files."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any, Literal

from facecore.files import write_atomically

Row = dict[str, Any]
NEEDED = ("op", "case", "mode", "device", "threads", "provider", "hardware", "median_ms", "p20_ms", "p80_ms", "rounds")
KEY = NEEDED[:7]  # two rows that share these and the clock measured the same thing
MARGIN = 1.1  # medians have to differ by more than this factor
SAME_MACHINE = 1.2  # the yardsticks measured beside two rows may differ by this factor
FEWEST_ROUNDS = 5
ERROR_GROWTH, ERROR_FLOOR = 2.0, 1e-6  # an error has to grow by this factor and to more than this
RULE = (
    f"A row moved when its p20 to p80 ranges in both files do not overlap and its medians differ by more than "
    f"{100 * (MARGIN - 1):.0f} %. Not comparable: fewer than {FEWEST_ROUNDS} rounds in either, or the matrix product "
    f"or the copy measured beside them differ by more than {100 * (SAME_MACHINE - 1):.0f} %. An error moved when it "
    f"more than doubled, to above {ERROR_FLOOR:g}."
)


@dataclasses.dataclass(frozen=True)
class Change:
    """What became of one row. ratio: new median over old; None where times may not be compared."""

    old: Row
    new: Row
    verdict: Literal["slower", "faster", "same", "not comparable"]
    ratio: float | None
    error_grew: bool

    @property
    def name(self) -> str:
        return row_name(self.new)

    @property
    def regressed(self) -> bool:
        """facecore's own row became slower or less exact."""
        return is_own(self.new) and (self.verdict == "slower" or self.error_grew)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Rows of both files, and those that only one has."""

    changes: list[Change]
    only_old: list[Row]
    only_new: list[Row]


def is_own(row: Row) -> bool:
    """facecore itself, also in variants such as "facecore, 2 threads"."""
    return str(row["provider"]).startswith("facecore")


def row_name(row: Row) -> str:
    return " / ".join(str(row[key]) for key in ("op", "case", "mode", "device", "provider"))


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """Rows of a file that `facecore benchmark` or `pytest benchmarks --rows` wrote. Raises ValueError naming it."""
    try:
        rows = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not a file of benchmark rows: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} is not a file of benchmark rows: it must hold a list of objects")
    for row in rows:
        if absent := [key for key in NEEDED if key not in row]:
            raise ValueError(f"{path} is not a file of benchmark rows: one of them lacks {', '.join(absent)}")
    return [row for row in rows if row["median_ms"] is not None]


def write_rows(path: str | os.PathLike[str], rows: Sequence[Row]) -> None:
    """One row a line, the whole file or nothing."""
    body = ",\n".join(json.dumps(row) for row in rows)
    write_atomically(path, f"[\n{body}\n]\n".encode())


def compare(old: Sequence[Row], new: Sequence[Row]) -> Comparison:
    """What moved beyond the noise: RULE says when. Rows are the same when all of KEY is, and the clock."""
    before, after = _by_key(old), _by_key(new)
    return Comparison(
        [_change(before[key], row) for key, row in after.items() if key in before],
        [row for key, row in before.items() if key not in after],
        [row for key, row in after.items() if key not in before],
    )


def _by_key(rows: Sequence[Row]) -> dict[tuple[Any, ...], Row]:
    return {(*(row[key] for key in KEY), row.get("clock", "wall")): row for row in rows}


def _change(old: Row, new: Row) -> Change:
    grew = False
    if old.get("error") is not None and new.get("error") is not None:
        grew = new["error"] > max(ERROR_FLOOR, ERROR_GROWTH * old["error"])
    if min(old["rounds"], new["rounds"]) < FEWEST_ROUNDS or not same_machine(old, new):
        return Change(old, new, "not comparable", None, grew)
    ratio = new["median_ms"] / old["median_ms"]
    verdict: Literal["slower", "faster", "same"] = "same"
    if new["p20_ms"] > old["p80_ms"] and ratio > MARGIN:
        verdict = "slower"
    elif new["p80_ms"] < old["p20_ms"] and ratio < 1 / MARGIN:
        verdict = "faster"
    return Change(old, new, verdict, ratio, grew)


def same_machine(one: Row, other: Row) -> bool:
    """Whether the machine was as fast at both moments: both yardsticks measured beside the rows agree."""
    for yardstick in ("sgemm_ms", "copy_gb_s"):
        values = [row[yardstick] for row in (one, other) if row.get(yardstick) is not None]
        if len(values) == 2 and max(values) > SAME_MACHINE * min(values):
            return False
    return True


def limit_ms(row: Row) -> float | None:
    """The least time of a row: `floor_ms`, where its suite counted the work; else its bytes at the speed of a copy."""
    if row.get("floor_ms"):
        return float(row["floor_ms"])
    if row.get("bytes_needed") and row.get("copy_gb_s"):
        return float(row["bytes_needed"] / row["copy_gb_s"] / 1e6)
    return None
