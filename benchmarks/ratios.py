"""Writes the rows of one machine as tables of ratios into a page, between two marks: ratios.py ROWS.json PAGE.md."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
from typing import Any

BEGIN, END = "<!-- rows -->", "<!-- end of rows -->"
OPS = ("rasterize", "interpolate", "vertex_normals", "sh_shading", "uv_unwrap", "uv_sample")
SAME = 1.2  # two rows are compared where the sgemms measured beside them differ by less
Row = dict[str, Any]


def table(rows: list[Row]) -> list[str]:
    """One line per case and mode whose own row is quiet: facecore's time, then how many times it the others take."""
    measured = {(row["case"], row["mode"], row["provider"]): row for row in rows if not row["noisy"]}
    others = sorted({row["provider"] for row in rows} - {"facecore"}, key=lambda name: (name != "reference", name))
    lines = ["| case | mode | facecore, ms | / sgemm | " + " | ".join(others) + " |", "|---" * (4 + len(others)) + "|"]
    names = sorted({(row["case"], row["mode"]) for row in rows}, key=lambda name: (_natural(name[0]), name[1]))
    for case, mode in names:
        own = measured.get((case, mode, "facecore"))
        if own is None:
            continue
        cells = [_ratio(measured.get((case, mode, name)), own) for name in others]
        if any(cells):
            time, share = own["median_ms"], own["median_ms"] / own["sgemm_ms"]
            lines.append(f"| {case} | {mode} | {time:.2f} | {share:.3f} | " + " | ".join(cells) + " |")
    return lines


def _ratio(row: Row | None, own: Row) -> str:
    if row is None or max(row["sgemm_ms"], own["sgemm_ms"]) > SAME * min(row["sgemm_ms"], own["sgemm_ms"]):
        return ""
    ratio = row["median_ms"] / own["median_ms"]
    return f"{ratio:.1f}" if ratio < 100 else f"{ratio:.0f}"


def _natural(case: str) -> list[tuple[int, str]]:
    """Numbers in a name in the order of their values."""
    parts = case.replace("_b", "_ ").replace("_", " ").split()
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the rows of one machine as tables into a page.")
    parser.add_argument("rows", type=pathlib.Path, help="a file under benchmarks/results")
    parser.add_argument("page", type=pathlib.Path, help=f"a page with the marks {BEGIN} and {END}")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    rows = [
        row
        for row in json.loads(arguments.rows.read_text())
        if row["threads"] == arguments.threads and row["device"] == "cpu"
    ]
    text: list[str] = []
    for op in OPS:
        own = [row for row in rows if row["op"] == op]
        text += ["", f"### {op}", "", *table(own)] if own else []
    before, rest = arguments.page.read_text().split(BEGIN)
    after = rest.split(END)[1]
    temporary = arguments.page.with_suffix(".md.tmp")
    temporary.write_text(before + BEGIN + "\n".join(text) + "\n\n" + END + after)
    os.replace(temporary, arguments.page)


if __name__ == "__main__":
    main()
