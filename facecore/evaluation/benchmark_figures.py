"""Drawings of benchmark rows as SVG: how the time of an operator grows with its sizes. Needs matplotlib."""

from __future__ import annotations

import dataclasses
import io
import itertools
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from facecore.evaluation.benchmark_rows import Row, is_own

INK = "#7d8590"  # readable on a light page and on a dark one
OWN = "#d1495b"
OTHERS = ("#0072b2", "#e69f00", "#009e73", "#56b4e9", "#b07aa1", "#8c6d31", "#66a61e", "#1b9e77")
MARKERS = "osD^vP*X"
MOST_PANELS = 4  # of one operator


@dataclasses.dataclass(frozen=True)
class Panel:
    """Times of cases that differ in one size, or in two that make an area. lines: provider -> (size, ms)."""

    title: str
    label: str
    lines: dict[str, list[tuple[float, float]]]

    @property
    def points(self) -> int:
        return max(len(line) for line in self.lines.values())


def growth_panels(rows: Sequence[Row]) -> list[Panel]:
    """The series of at least two sizes in the rows of one operator on one device, the longest first; none is a list
    of no elements. For each mode and size the longest series is taken."""
    best: dict[tuple[str, str], Panel] = {}
    for mode in dict.fromkeys(row["mode"] for row in rows):
        of_mode = [row for row in rows if row["mode"] == mode and row.get("sizes")]
        for axis in _axes(of_mode):
            for panel in _series(of_mode, mode, axis):
                key = (mode, panel.label)
                if key not in best or panel.points > best[key].points:
                    best[key] = panel
    return sorted(best.values(), key=lambda panel: -panel.points)[:MOST_PANELS]


def _axes(rows: Sequence[Row]) -> Iterable[tuple[str, ...]]:
    """The sets of one or two sizes in which some pair of cases differs."""
    sizes = list({row["case"]: row["sizes"] for row in rows}.values())
    axes = {
        tuple(key for key in one if one[key] != other.get(key))
        for one, other in itertools.combinations(sizes, 2)
        if one.keys() == other.keys()
    }
    return sorted(axis for axis in axes if 1 <= len(axis) <= 2)


def _series(rows: Sequence[Row], mode: str, axis: tuple[str, ...]) -> Iterable[Panel]:
    groups: dict[tuple[tuple[str, object], ...], list[Row]] = {}
    for row in rows:
        if set(axis) <= row["sizes"].keys():
            rest = tuple(sorted((k, v) for k, v in row["sizes"].items() if k not in axis))
            groups.setdefault(rest, []).append(row)
    square = len(axis) == 2 and all(row["sizes"][axis[0]] == row["sizes"][axis[1]] for row in rows)
    for rest, group in groups.items():
        lines: dict[str, list[tuple[float, float]]] = {}
        for row in group:
            size = row["sizes"][axis[0]] * (row["sizes"][axis[1]] if square else 1)
            lines.setdefault(row["provider"], []).append((float(size), float(row["median_ms"])))
        # a provider with two times at one size has cases that differ in more than sizes: no growth
        lines = {name: sorted(line) for name, line in lines.items() if 1 < len(line) == len(dict(line))}
        if lines:
            fixed = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in rest)
            label = " × ".join(axis) if square else axis[0]
            yield Panel(f"{mode}\n{fixed}", label.replace("_", " "), lines)


def draw(panels: Sequence[Panel]) -> bytes:
    """The panels side by side, both axes logarithmic, one legend: an SVG with a transparent ground."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    names = sorted(
        {name for panel in panels for name in panel.lines},
        key=lambda name: (not is_own({"provider": name}), name != "reference", name),
    )
    colors = {name: OWN if is_own({"provider": name}) else OTHERS[i % len(OTHERS)] for i, name in enumerate(names)}
    markers = {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(names)}
    settings: Any = {"svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif", "svg.hashsalt": "facecore"}
    settings |= dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(1.2 + 2.7 * len(panels), 3.3), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        handles = {}
        for axis, panel in zip(axes, panels):
            for name, line in panel.lines.items():
                look = {"color": colors[name], "marker": markers[name], "markersize": 4}
                (handles[name],) = axis.loglog(*zip(*line), **look, linewidth=2.2 if name == "facecore" else 1.2)
            ticks = sorted({x for line in panel.lines.values() for x, _ in line})
            axis.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
            axis.xaxis.set_minor_locator(NullLocator())
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_minor_locator(NullLocator())
            axis.set_title("\n".join(textwrap.fill(line, 36) for line in panel.title.split("\n")), fontsize=8)
            axis.set_xlabel(panel.label)
            axis.yaxis.set_major_formatter("{x:g}")
            axis.grid(alpha=0.25, linewidth=0.5)
            axis.spines[["top", "right"]].set_visible(False)
        axes[0].set_ylabel("milliseconds")
        shown = [name for name in names if name in handles]
        figure.legend([handles[n] for n in shown], shown, loc="outside upper center", ncols=5, frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()
