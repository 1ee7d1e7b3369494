"""Writes the rows of one machine as tables of ratios into a page, between two marks: ratios.py ROWS.json PAGE.md."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
from typing import Any

BEGIN, END = "<!-- rows -->", "<!-- end of rows -->"
OPS = {  # by page
    "rasterizer.md": (
        "rasterize",
        "interpolate",
        "vertex_normals",
        "sh_shading",
        "surface_shading",
        "uv_unwrap",
        "uv_sample",
    ),
    "graph_convolution.md": ("decoder", "discriminator", "chebyshev_conv", "sparse_matmul"),
    "losses.md": (
        "reconstruction",
        "reconstruction_covered",
        "smoothness",
        "symmetry",
        "texture_symmetry",
        "shape",
        "flattening",
        "skin",
        "landmark",
    ),
}
IN_ONE_TABLE = ("losses.md",)
WITH_MEMORY = ("decoder", "discriminator")
SAME = 1.2  # two rows are compared where the sgemms measured beside them differ by less
Row = dict[str, Any]


def table(rows: list[Row], *, several: bool = False) -> list[str]:
    """One line per case and mode whose own row is quiet: facecore's time, then how many times it the others take.

    Where rows have a floor, facecore's time in units of it, and the line stands without others too; another table says
    the same of memory. `several`: the rows are of several operators, which a first column names.
    """
    measured = {(*_name(row), row["provider"]): row for row in rows if not row["noisy"]}
    others = sorted({row["provider"] for row in rows} - {"facecore"}, key=lambda name: (name != "reference", name))
    has_floor = any("floor_ms" in row for row in rows)
    own_columns = ["case", "mode", "facecore, ms", "/ sgemm", *(["floor, ms", "/ floor"] if has_floor else [])]
    columns = ["loss"] * several + own_columns + others
    lines = [_line(columns), "|---" * len(columns) + "|"]
    order = list(dict.fromkeys(row["op"] for row in rows))
    for name in sorted(
        {_name(row) for row in rows}, key=lambda name: (order.index(name[0]), _natural(name[1]), name[2])
    ):
        own = measured.get((*name, "facecore"))
        if own is None:
            continue
        cells = [_ratio(measured.get((*name, other)), own) for other in others]
        floor = [f"{own['floor_ms']:.2f}", f"{own['median_ms'] / own['floor_ms']:.1f}"] if has_floor else []
        if any(cells) or floor:
            time, share = own["median_ms"], own["median_ms"] / own["sgemm_ms"]
            lines.append(_line([*name[0 if several else 1 :], f"{time:.2f}", f"{share:.3f}", *floor, *cells]))
    return lines


def _name(row: Row) -> tuple[str, str, str]:
    return row["op"], row["case"], row["mode"]


def memory_table(rows: list[Row]) -> list[str]:
    """One line per case and mode: what facecore has allocated at the peak, and how many times that the others have.

    Bytes are counted, so noisy times do not matter here.
    """
    peaks = {(row["case"], row["mode"], row["provider"]): row["peak_allocated_mib"] for row in rows}
    others = sorted({row["provider"] for row in rows} - {"facecore"})
    lines = [
        _line(["case", "mode", "facecore, MiB", *(f"{name}, times" for name in others)]),
        "|---" * (3 + len(others)) + "|",
    ]
    for case, mode in sorted({key[:2] for key in peaks}, key=lambda name: (_natural(name[0]), name[1])):
        own = peaks.get((case, mode, "facecore"))
        cells = [peaks.get((case, mode, name)) for name in others]
        if own and any(cells):
            lines.append(_line([case, mode, f"{own:.1f}", *("" if c is None else f"{c / own:.1f}" for c in cells)]))
    return lines


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


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
    by_op = {op: [row for row in rows if row["op"] == op] for op in OPS[arguments.page.name]}
    if arguments.page.name in IN_ONE_TABLE:
        text += ["", *table([row for own in by_op.values() for row in own], several=True)]
        by_op = {}
    for op, own in by_op.items():
        text += ["", f"### {op}", "", *table(own)] if own else []
        if op in WITH_MEMORY and own:
            text += ["", "Peak of allocated memory, and how many times that the others have:", "", *memory_table(own)]
    before, rest = arguments.page.read_text().split(BEGIN)
    after = rest.split(END)[1]
    temporary = arguments.page.with_suffix(".md.tmp")
    temporary.write_text(before + BEGIN + "\n".join(text) + "\n\n" + END + after)
    os.replace(temporary, arguments.page)


if __name__ == "__main__":
    main()
