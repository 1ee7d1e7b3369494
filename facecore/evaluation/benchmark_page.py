"""The page of a benchmark run: per operator its ratios, every row with its error and limit, and growth curves."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence

from facecore.evaluation.benchmark_figures import draw, growth_panels
from facecore.evaluation.benchmark_rows import Row, limit_ms, same_machine
from facecore.evaluation.report import Report, figure, table

Problems = Sequence[tuple[str, str]]  # (what, why)
READING = (
    "A ratio says how many times facecore's median time the other one takes. Error: the largest difference from the "
    "reference (plain PyTorch), relative to the largest value, in outputs or gradients. Times the limit: the median "
    "over the least time of the work: the bytes that have to be read and written, at the speed of a large copy "
    "measured beside the row, or what the suite counts as its work; below 1 the data fit into a cache, and far above "
    "it arithmetic decides. In sgemms: the median over a product of two 1024 x 1024 matrices measured beside the row. "
    "* marks noise: fewer than five rounds, p80 beyond 1.2 times p20, or a machine that was not equally fast beside "
    "the two rows of a ratio; do not quote such a number."
)
COLUMNS = (
    "case",
    "mode",
    "provider",
    "median ms",
    "p20 to p80",
    "ratio",
    "times the limit",
    "in sgemms",
    "extra MiB",
    "error",
)


def make_page(rows: Sequence[Row], failed: Problems, skipped: Problems, settings: str) -> Report:
    """rows: of one run. failed, skipped: what could not be measured and why. settings: how the run was started."""
    report = Report("facecore benchmark", f"{_machine(rows)} {settings}")
    report.add_table("How to read this", ["yardstick", "least", "median", "most"], _yardsticks(rows), text=READING)
    if failed:
        report.add_table("Failed", ["what", "why"], failed)
    for op, device in dict.fromkeys((row["op"], row["device"]) for row in rows):
        own = [row for row in rows if (row["op"], row["device"]) == (op, device)]
        columns, cells = ratio_table(own)
        more = table(
            COLUMNS, [_cells(row, own) for row in own], op, folded=f"{len(own)} rows: time, limit, memory, error"
        )
        if panels := growth_panels(own):
            more += figure(f"{op}: median time against size", draw(panels))
        report.add_table(op if device == "cpu" else f"{op} ({device})", columns, cells, more=more)
    if skipped:
        report.add_table("Not run", ["why", "where", "rows"], _by_reason(skipped))
    return report


def ratio_table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """One line for each case and mode of one operator: facecore's time, limit and error, then ratios of the others."""
    others = list(dict.fromkeys(row["provider"] for row in rows if row["provider"] != "facecore"))
    errors = [name for name in others if name != "reference"]
    columns = ["case", "mode", "facecore, ms", "times the limit", "error", *(f"{name}, ratio" for name in others)]
    columns += [f"{name}, error" for name in errors]
    lines = []
    names = dict.fromkeys((row["case"], row["mode"]) for row in rows)
    for case, mode in sorted(names, key=lambda name: _natural(name[0])):
        line = {row["provider"]: row for row in rows if (row["case"], row["mode"]) == (case, mode)}
        own = line.get("facecore")
        ratios = [ratio_text(line.get(name), own) for name in others]
        seen = [error_text(line.get(name)) for name in errors]
        lines.append([case, mode, _time(own), limit_text(own), error_text(own), *ratios, *seen])
    return columns, lines


def ratio_text(row: Row | None, own: Row | None) -> str:
    """How many times facecore's time; * where either is noisy or the machine changed its speed between them."""
    if row is None or own is None:
        return ""
    mark = "*" if row["noisy"] or own["noisy"] or not same_machine(row, own) else ""
    return f"{_short(row['median_ms'] / own['median_ms'])}{mark}"


def limit_text(row: Row | None) -> str:
    limit = None if row is None else limit_ms(row)
    return "" if row is None or not limit else _short(row["median_ms"] / limit)


def error_text(row: Row | None) -> str:
    error = None if row is None else row.get("error")
    return "" if error is None else "0" if error == 0 else f"{error:.0e}"


def _cells(row: Row, rows: Sequence[Row]) -> list[str]:
    same = [r for r in rows if (r["case"], r["mode"]) == (row["case"], row["mode"]) and r["provider"] == "facecore"]
    memory = row.get("peak_mib")
    return [
        row["case"],
        row["mode"],
        row["provider"],
        _time(row),
        f"{_short(row['p20_ms'])} to {_short(row['p80_ms'])}",
        ratio_text(row, same[0] if same else None),
        limit_text(row),
        _short(row["median_ms"] / row["sgemm_ms"]) if row.get("sgemm_ms") else "",
        "" if memory is None else f"{memory:.1f}",
        error_text(row),
    ]


def _by_reason(skipped: Problems) -> list[list[str | int]]:
    """One line for each reason: it, the suites, and how many rows it left out."""
    labels: dict[str, list[str]] = {}
    for what, why in skipped:
        labels.setdefault(why, []).append(what.split("[")[0])
    return [[why, ", ".join(dict.fromkeys(names)), len(names)] for why, names in labels.items()]


def _time(row: Row | None) -> str:
    if row is None:
        return ""
    rate = f" ({row['images_per_second']:.1f} images/s)" if row.get("images_per_second") else ""
    return _short(row["median_ms"]) + ("*" if row["noisy"] else "") + rate


def _short(value: float) -> str:
    """Three significant digits, no exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    digits = 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f}"


def _natural(text: str) -> list[tuple[int, str]]:
    """Numbers in a name in the order of their values."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|\D+", text)]


def _machine(rows: Sequence[Row]) -> str:
    if not rows:
        return "Nothing was measured."
    first = rows[0]
    hardware = " and ".join(dict.fromkeys(row["hardware"] for row in rows))
    noisy = sum(bool(row["noisy"]) for row in rows)
    versions = f"torch {first.get('torch')}, Python {first.get('python')}, facecore {first.get('facecore')}"
    return (
        f"{hardware}; {first['threads']} CPU threads, {versions}, commit {first.get('commit')}, {first.get('date')}. "
        f"{len(rows)} rows, {noisy} of them noisy."
    )


def _yardsticks(rows: Sequence[Row]) -> list[list[str]]:
    lines = []
    for device in dict.fromkeys(row["device"] for row in rows):
        for key, name in (
            ("sgemm_ms", "product of two 1024 x 1024 matrices, ms"),
            ("copy_gb_s", "copy of 32 MiB, GB/s read and written"),
        ):
            values = [row[key] for row in rows if row["device"] == device and row.get(key)]
            if values:
                spread = (min(values), statistics.median(values), max(values))
                lines.append([f"{device}: {name}", *map(_short, spread)])
    return lines
