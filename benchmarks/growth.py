"""Draws how times grow with sizes: python benchmarks/growth.py rasterize|chebyshev --out growth.png.

`rasterize`: a rendering step against triangles and pixels, one image of the bent grid in perspective. `chebyshev`: a
graph convolution on the bent grid against vertices, features, terms and images, beside torch's CSR product with a
transposed backward. Needs matplotlib. For a steady picture: one thread, on an idle core.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import time
from collections.abc import Callable

import torch
from floor import percentile
from graph_layers import expert_product, vertex_major
from grid import bent_grid, to_clip
from harness import sgemm_milliseconds

from facecore import ops
from facecore.mesh import build_uv_map, laplacian

TRIANGLES = (1_000, 3_000, 10_000, 30_000, 74_000, 150_000, 300_000)
SIZES = (64, 128, 224, 362, 512, 724, 1024)
SIZE, SIDE = 224, 193  # the picture of the left panel; the grid of the right one, 73,728 triangles
SECONDS = 0.4  # of measuring per point
LAYER = {"side": SIDE, "fan_in": 32, "fan_out": 16, "terms": 6, "images": 1}  # of the finest level of the decoder
Curves = dict[str, list[float]]
Panel = tuple[str, list[int], Curves]  # what grows, its values, the times


def milliseconds(run: Callable[[], object]) -> float:
    """The p20 of at least five runs, of the time that the process ran: the core may be shared."""
    run()
    times: list[float] = []
    end = time.process_time() + SECONDS
    while len(times) < 5 or time.process_time() < end:
        start = time.process_time()
        run()
        times.append(1e3 * (time.process_time() - start))
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


def measure_layer(side: int, fan_in: int, fan_out: int, terms: int, images: int) -> dict[str, float]:
    """Forward, and forward + backward, of facecore's convolution and the expert's."""
    matrix = laplacian(bent_grid(side, side), "symmetric")
    x = torch.randn(images, side * side, fan_in, requires_grad=True)
    weight = (torch.randn(terms, fan_in, fan_out) / (terms * fan_in) ** 0.5).requires_grad_()
    grad = torch.randn(images, side * side, fan_out)
    expert = vertex_major(expert_product())
    by_vertex, grad_by_vertex = x.detach().transpose(0, 1).contiguous().requires_grad_(), grad.transpose(0, 1)
    grad_by_vertex = grad_by_vertex.contiguous()
    sides = {
        "facecore": (lambda: ops.chebyshev_conv(x, matrix, weight), x, grad),
        "torch CSR": (
            lambda: expert(by_vertex, matrix, weight, None, None, None, None),
            by_vertex,
            grad_by_vertex,
        ),
    }
    times = {}
    for name, (function, leaf, grad_out) in sides.items():

        def forward(function: Callable[[], torch.Tensor] = function) -> object:
            with torch.no_grad():
                return function()

        times[f"{name}, forward"] = milliseconds(forward)
        times[f"{name}, forward + backward"] = milliseconds(
            lambda f=function, at=leaf, g=grad_out: torch.autograd.grad(f(), (at, weight), g)
        )
    return times


def curves(rows: list[dict[str, float]]) -> Curves:
    return {name: [row[name] for row in rows] for name in rows[0]}


def rasterize_panels() -> list[Panel]:
    sides = [round((count / 2) ** 0.5) + 1 for count in TRIANGLES]
    by_triangles = curves([measure(side, SIZE) for side in sides])
    by_pixels = curves([measure(SIDE, size) for size in SIZES])
    return [
        (f"triangles, in a picture of {SIZE} x {SIZE}", [2 * (side - 1) ** 2 for side in sides], by_triangles),
        (f"pixels, with {2 * (SIDE - 1) ** 2:,} triangles", [size * size for size in SIZES], by_pixels),
    ]


def chebyshev_panels() -> list[Panel]:
    """Each size of the layer in turn, the others held."""
    sides, widths, terms, images = (9, 18, 36, 71, 97, 193, 386), (4, 8, 16, 32, 64, 128), range(1, 9), (1, 2, 4, 8, 16)

    def layers(**sizes: list[int]) -> Curves:
        return curves([measure_layer(**LAYER | dict(zip(sizes, values))) for values in zip(*sizes.values())])

    coarse = [97] * len(images)  # 9,409 vertices: torch's temporaries stay moderate
    return [
        ("vertices", [side * side for side in sides], layers(side=list(sides))),
        ("features in and out", list(widths), layers(fan_in=list(widths), fan_out=list(widths))),
        ("terms", list(terms), layers(terms=list(terms))),
        (f"images, {97 * 97:,} vertices", list(images), layers(images=list(images), side=coarse)),
    ]


def draw(path: pathlib.Path, panels: list[Panel], sgemm: float, subject: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = len(panels) // 2
    figure, grid = pyplot.subplots(rows, 2, figsize=(10, 0.6 + 3.8 * rows), sharey=True, layout="constrained")
    axes = grid.ravel()
    for axis, (label, counts, lines) in zip(axes, panels, strict=True):
        for marker, (name, times) in zip("os^D", lines.items(), strict=True):
            axis.loglog(counts, times, marker=marker, markersize=4, label=name)
        axis.axhline(sgemm, color="0.5", linestyle=":", label="product of two 1024 x 1024 matrices")
        axis.set_xlabel(label)
        axis.xaxis.set_major_formatter("{x:,.0f}")
        if max(counts) < 1000:
            axis.set_xticks(counts)
            axis.set_xticks([], minor=True)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.grid(which="both", alpha=0.25, linewidth=0.5)
    for axis in axes[::2]:
        axis.set_ylabel(f"milliseconds, {subject}")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=9)
    temporary = path.with_suffix(".tmp.png")
    figure.savefig(temporary, dpi=110)
    os.replace(temporary, path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Times against sizes, as a picture.")
    parser.add_argument("figure", choices=("rasterize", "chebyshev"))
    parser.add_argument("--out", type=pathlib.Path, help="a .png; default FIGURE_growth.png")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    panels = {"rasterize": rasterize_panels, "chebyshev": chebyshev_panels}[arguments.figure]()
    for label, counts, lines in panels:
        print(label, counts)
        for name, times in lines.items():
            print(f"  {name:<44}" + "".join(f"{value:9.3f}" for value in times))
    subject = {"rasterize": "one image, one thread", "chebyshev": "one thread"}[arguments.figure]
    out = arguments.out or pathlib.Path(f"{arguments.figure}_growth.png")
    draw(out, panels, sgemm_milliseconds(torch.device("cpu")), subject)


if __name__ == "__main__":
    main()
