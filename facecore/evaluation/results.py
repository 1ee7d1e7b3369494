"""The result of one evaluation: numbers with every setting behind them, as results.json and index.html."""

from __future__ import annotations

import dataclasses
import datetime
import html
import json
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

import facecore
from facecore.evaluation.error_maps import draw_curves
from facecore.evaluation.published import WARNING, PublishedTable
from facecore.evaluation.report import Report, Value, figure, pictures, table
from facecore.files import write_atomically
from facecore.training.facts import commit

FORMAT = "facecore-evaluation-1"
Row = dict[str, Any]


@dataclasses.dataclass
class Evaluation:
    """What a protocol found.

    settings: everything that decides the numbers, plain values. summary: rows of the table that comes first. rows: one
    per picture or pair of faces. skipped: (what, why), counted against `total`. curves: by name, drawn on one figure
    with the labels `axes`. pictures: RGBA [4, H, W] by caption. notes: lines for the reader.
    """

    protocol: str
    settings: dict[str, Any]
    summary: list[Row]
    rows: list[Row]
    total: int
    skipped: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    published: Sequence[PublishedTable] = ()
    curves: dict[str, list[tuple[float, float]]] = dataclasses.field(default_factory=dict)
    axes: tuple[str, str] = ("", "")
    pictures: dict[str, torch.Tensor] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)

    def to_plain(self) -> dict[str, Any]:
        """What results.json holds."""
        return {
            "format": FORMAT,
            "protocol": self.protocol,
            "facecore": facecore.__version__,
            "commit": commit(),
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "settings": self.settings,
            "summary": self.summary,
            "total": self.total,
            "skipped": [{"what": what, "why": why} for what, why in self.skipped],
            "curves": self.curves,
            "notes": self.notes,
            "rows": self.rows,
        }

    def write(self, out: pathlib.Path) -> None:
        """Writes results.json and index.html into the folder, each whole or not at all; makes the folder."""
        plain = to_plain(self.to_plain())
        page = self.page(plain)
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "results.json", json.dumps(plain, indent=1, allow_nan=False).encode())
        page.write(out / "index.html")

    def page(self, plain: Mapping[str, Any]) -> Report:
        introduction = (
            f"{self.total - len(self.skipped)} of {self.total} evaluated, {len(self.skipped)} missing or skipped. "
            f"Commit {plain['commit']}, {plain['date']}."
        )
        command = "facecore compare" if self.protocol == "compare" else f"facecore evaluate {self.protocol}"
        report = Report(command, introduction)
        more = pictures(self.pictures) if self.pictures else ""
        report.add_table("Result", *_columns(self.summary), text=" ".join(self.notes), more=more + self._drawing())
        flat = flatten(plain["settings"])
        report.add_table("Settings", ["setting", "value"], [[name, _cell(value)] for name, value in flat.items()])
        if self.skipped:
            report.add_table("Missing or skipped", ["what", "why"], self.skipped)
        if self.rows:
            columns, cells = _columns(self.rows)
            report.add_section("Each one", table(columns, cells, "rows", folded=f"{len(cells)} rows"))
        for number, published in enumerate(self.published):
            columns = ["method", *published.columns]
            report.add_table(published.source, columns, published.cells(), text="" if number else WARNING)
        return report

    def _drawing(self) -> str:
        if not self.curves:
            return ""
        try:
            return figure(", ".join(self.curves), draw_curves(self.curves, *self.axes))
        except ImportError as error:
            return f'<p class="soft">{html.escape(str(error))}</p>'


def summarise(
    rows: Sequence[Row], value: str, *, by: Sequence[str] = ("group",), subject: str = "subject"
) -> list[Row]:
    """Mean and standard deviation over subjects (METHODS 8.1): rows of one subject are averaged first.

    One row per combination of the columns `by`, in order of appearance; "std" with S - 1, None for one subject. Raises
    ValueError for no rows.
    """
    if not rows:
        raise ValueError("nothing was evaluated")
    groups: dict[tuple[Any, ...], dict[Any, list[float]]] = {}
    for number, row in enumerate(rows):
        subjects = groups.setdefault(tuple(row.get(name, "") for name in by), {})
        subjects.setdefault(row.get(subject, number), []).append(float(row[value]))
    result = []
    for key, subjects in groups.items():
        means = np.array([np.mean(values) for values in subjects.values()])
        count = sum(map(len, subjects.values()))
        result.append(
            {
                **{name: part for name, part in zip(by, key) if part != ""},
                "mean": float(means.mean()),
                "std": float(means.std(ddof=1)) if len(means) > 1 else None,
                "median": float(np.median(means)),
                "largest": float(means.max()),
                "subjects": len(means),
                "comparisons": count,
            }
        )
    return result


def to_plain(value: Any) -> Any:
    """Values that JSON knows: paths as text, dataclasses as objects, numpy's and torch's numbers as numbers.

    Raises ValueError for NaN and infinity, which JSON does not know.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(entry) for key, entry in value.items()}
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return to_plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [to_plain(entry) for entry in value]
    if isinstance(value, (np.integer, np.floating, np.bool_)):
        return to_plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a result is NaN or infinite; a prediction with such coordinates should have been refused")
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        key = f"{prefix}{name}"
        flat |= flatten(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return flat


def text_table(rows: Sequence[Row]) -> str:
    """Rows as aligned text for a terminal, four significant digits."""
    columns, cells = _columns(rows)
    lines = [columns, *([f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row] for row in cells)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def _columns(rows: Iterable[Row]) -> tuple[list[str], list[list[Value]]]:
    """Column names in order of appearance, and every row's values; absent ones are empty."""
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [name.replace("_", " ") for name in names], [[_cell(row.get(name)) for name in names] for row in rows]


def _cell(value: Any) -> Value:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, (str, int, float)) else json.dumps(to_plain(value))
