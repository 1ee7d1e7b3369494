"""Draws how the time of a step grows with triangles and with pixels: python benchmarks/growth.py --out growth.png.

One image of the bent grid in perspective. Needs matplotlib. For a steady picture: one thread, on an idle core.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import time
from collections.abc import Callable

import torch
from grid import bent_grid, to_clip
from harness import percentile, sgemm_milliseconds

from facecore import ops
from facecore.mesh import build_uv_map

TRIANGLES = (1_000, 3_000, 10_000, 30_000, 74_000, 150_000, 300_000)
SIZES = (64, 128, 224, 362, 512, 724, 1024)
SIZE, SIDE = 224, 193  # the picture of the left panel; the grid of the right one, 73,728 triangles
SECONDS = 0.4  # of measuring per point
Curves = dict[str, list[float]]


def milliseconds(run: Callable[[], object]) -> float:
    """The p20 of at least five runs."""
    run()
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return percentile(sorted(times), 0.2)


def measure(side: int, size: int) -> dict[str, float]:
    """The time of each curve for a grid of side x side vertices in a picture of size x size."""
    mesh = bent_grid(side, side)
    vertices_clip, triangles = to_clip(mesh, 1).requires_grad_(), mesh.triangles
    colors, image = torch.rand(1, side * side, 3), torch.rand(1, 3, size, size)
    uv_map = build_uv_map(mesh, SIZE, SIZE)

    def forward() -> object:
        with torch.no_grad():
            return ops.rasterize(vertices_clip, triangles, size, size)

    fragments = ops.rasterize(vertices_clip, triangles, size, size)
    grad_barycentric = torch.randn_like(fragments.barycentric)
    barycentric = fragments.barycentric.detach().requires_grad_()

    def interpolate() -> object:
        picture = ops.interpolate(colors, triangles, fragments.triangle_id, barycentric)
        return torch.autograd.grad(picture, barycentric, torch.ones_like(picture))

    def unwrap() -> object:
        texture, _ = ops.uv_unwrap(image, vertices_clip, uv_map, fragments)
        return torch.autograd.grad(texture, vertices_clip, torch.ones_like(texture))

    return {
        "rasterize, forward": milliseconds(forward),
        "rasterize, backward": milliseconds(
            lambda: torch.autograd.grad(fragments.barycentric, vertices_clip, grad_barycentric, retain_graph=True)
        ),
        "interpolate RGB, forward + backward": milliseconds(interpolate),
        f"uv_unwrap {SIZE} x {SIZE}, forward + backward": milliseconds(unwrap),
    }


def curves(points: list[tuple[int, int]]) -> Curves:
    rows = [measure(side, size) for side, size in points]
    return {name: [row[name] for row in rows] for name in rows[0]}


def draw(path: pathlib.Path, panels: list[tuple[str, list[int], Curves]], sgemm: float) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4.4), sharey=True, layout="constrained")
    for axis, (label, counts, lines) in zip(axes, panels, strict=True):
        for marker, (name, times) in zip("os^D", lines.items(), strict=True):
            axis.loglog(counts, times, marker=marker, markersize=4, label=name)
        axis.axhline(sgemm, color="0.5", linestyle=":", label="product of two 1024 x 1024 matrices")
        axis.set_xlabel(label)
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.grid(which="both", alpha=0.25, linewidth=0.5)
    axes[0].set_ylabel("milliseconds, one image, one thread")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=9)
    temporary = path.with_suffix(".tmp.png")
    figure.savefig(temporary, dpi=110)
    os.replace(temporary, path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of a step against triangles and pixels, as a picture.")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("rasterize_growth.png"), help="a .png")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sides = [round((count / 2) ** 0.5) + 1 for count in TRIANGLES]
    by_triangles = curves([(side, SIZE) for side in sides])
    by_pixels = curves([(SIDE, size) for size in SIZES])
    panels = [
        (f"triangles, in a picture of {SIZE} x {SIZE}", [2 * (side - 1) ** 2 for side in sides], by_triangles),
        (f"pixels, with {2 * (SIDE - 1) ** 2:,} triangles", [size * size for size in SIZES], by_pixels),
    ]
    for label, counts, lines in panels:
        print(label, counts)
        for name, times in lines.items():
            print(f"  {name:<44}" + "".join(f"{value:9.3f}" for value in times))
    draw(arguments.out, panels, sgemm_milliseconds(torch.device("cpu")))


if __name__ == "__main__":
    main()
