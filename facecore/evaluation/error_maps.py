"""Error maps: a surface coloured by a number per vertex, from the front and from three quarters, and curves as SVG."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from facecore.evaluation.panels import THREE_QUARTERS, surface_view

# Dark blue, blue-green, yellow, red: brightness rises to the third, so that the map can be read in grey, too.
COLOURS = ((0.10, 0.18, 0.45), (0.10, 0.55, 0.58), (0.98, 0.87, 0.36), (0.85, 0.20, 0.13))
LEAST_LIMIT = 0.01  # mm
UNCOUNTED = 0.55  # grey of vertices that did not count
# 0.62 + 0.30 n_z + 0.12 n_y: flat enough that colours can be read, and the shape can still be seen.
MAP_LIGHT = {0: 0.62 / 0.886227, 1: -0.12 / 1.772454, 2: 0.30 / 1.772454}
INK, OWN = "#7d8590", ("#d1495b", "#0072b2", "#e69f00", "#009e73", "#56b4e9", "#b07aa1")


def colours_of(error: torch.Tensor, limit: float) -> torch.Tensor:
    """Display colours [V, 3] of errors [V] from 0 to `limit` and beyond. Raises ValueError for a limit of 0 or less."""
    if not limit > 0:
        raise ValueError(f"limit must be positive, got {limit}")
    anchors = error.new_tensor(COLOURS)
    place = (error / limit).clamp(0, 1) * (len(anchors) - 1)
    low = place.floor().clamp(max=len(anchors) - 2).long()
    share = (place - low)[:, None]
    return (1 - share) * anchors[low] + share * anchors[low + 1]


def error_maps(
    vertices: torch.Tensor,
    triangles: torch.Tensor,
    error: torch.Tensor,
    limit: float,
    counted: torch.Tensor | None = None,
    *,
    what: str = "",
    size: int = 320,
) -> dict[str, torch.Tensor]:
    """Two pictures [4, size, size] by caption, for `report.pictures`.

    vertices: float [V, 3] mm; triangles: int32 [T, 3]; error: [V], mm; counted: bool [V], the others are grey.
    """
    colours = colours_of(error.float(), limit)
    if counted is not None:
        colours = torch.where(counted[:, None], colours, UNCOUNTED)
    points = vertices.float()[None]
    views = {"front": 0.0, "three quarters": THREE_QUARTERS}
    return {
        f"{what}{', ' if what else ''}{view}": surface_view(points, triangles, colours[None], yaw, size, MAP_LIGHT)
        for view, yaw in views.items()
    }


def colour_scale(limit: float, size: int = 320) -> dict[str, torch.Tensor]:
    """The key to the colours: a strip from 0 to `limit` millimetres."""
    strip = colours_of(torch.linspace(0, limit, size), limit).T[:, None].expand(3, size // 8, size)
    return {f"from 0 to {limit:g} mm and more": torch.cat([strip, torch.ones(1, size // 8, size)])}


def round_limit(error: torch.Tensor) -> float:
    """A round number that most errors lie below: 1, 2 or 5 times a power of ten from the 95th percentile on.

    At least 0.01 mm: what lies below is rounding.
    """
    high = max(float(torch.quantile(error.flatten().float()[:1_000_000], 0.95)), LEAST_LIMIT)
    power = 10.0 ** math.floor(math.log10(high))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= high * (1 - 1e-6))


@dataclasses.dataclass(frozen=True, eq=False)
class ErrorMap:
    """Errors at the vertices of one face: vertices [V, 3] mm, triangles int32 [T, 3], error [V], counted bool [V]."""

    vertices: torch.Tensor
    triangles: torch.Tensor
    error: torch.Tensor
    counted: torch.Tensor | None = None


class ExtremeMaps:
    """Of many faces, keeps the maps of the smallest and of the largest error, and draws them in one scale."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, str, ErrorMap]] = {}

    def add(self, error: float, name: str, drawn: ErrorMap) -> None:
        if not self._kept or error < self._kept["smallest"][0]:
            self._kept["smallest"] = (error, name, drawn)
        if "largest" not in self._kept or error > self._kept["largest"][0]:
            self._kept["largest"] = (error, name, drawn)

    def draw(self) -> dict[str, torch.Tensor]:
        """Pictures by caption, for `report.pictures`; none where no face was added."""
        if not self._kept:
            return {}
        shown = dict(self._kept)
        if shown["smallest"][2] is shown["largest"][2]:
            del shown["smallest"]
        maps = [drawn for _, _, drawn in shown.values()]
        limit = round_limit(torch.cat([m.error if m.counted is None else m.error[m.counted] for m in maps]))
        drawn: dict[str, torch.Tensor] = {}
        for which, (_, name, m) in shown.items():
            what = f"{which if len(shown) > 1 else 'only'} error, {name}"
            drawn |= error_maps(m.vertices, m.triangles, m.error, limit, m.counted, what=what)
        return drawn | colour_scale(limit)


def draw_curves(curves: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str) -> bytes:
    """Curves by name on one pair of axes, as SVG with a transparent ground. Raises ImportError without matplotlib."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("curves need matplotlib: pip install 'facecore[benchmark]'") from error

    settings: Any = {"svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif", "svg.hashsalt": "facecore"}
    settings |= dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        axis = figure.subplots()
        for number, (name, points) in enumerate(curves.items()):
            axis.plot(*zip(*points), color=OWN[number % len(OWN)], linewidth=1.8, label=name)
        axis.set_xlabel(x_label)
        axis.set_ylabel(y_label)
        axis.margins(x=0)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.25, linewidth=0.5)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()
