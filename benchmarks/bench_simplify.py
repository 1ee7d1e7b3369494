"""Edge collapse to a quarter, the closest points it needs, and a whole hierarchy, on a mesh of a refined face's size.

Nothing here is differentiable and no plain PyTorch defines it, so these are no Suite: what each result must fulfil is
checked before it is timed. fast_simplification, where installed, moves vertices to new places and so solves an easier
problem than keeping vertices of the mesh; it is the fastest that there is from Python.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from harness import timing

from facecore import _C
from facecore.mesh import Mesh, build_hierarchy, closest_points

FACTORS = (4, 4, 4, 4, 2)


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    """A ball of 40,962 vertices and 81,920 triangles with smooth bumps, so that collapses differ in cost."""
    ball = trimesh.creation.icosphere(6, 100.0)
    direction = np.asarray(ball.vertices) / 100.0
    radius = 100.0 * (1 + 0.05 * np.sin(7 * direction[:, :1]) * np.cos(5 * direction[:, 1:2]))
    return Mesh(torch.from_numpy(radius * direction), torch.from_numpy(np.array(ball.faces)))


def record(benchmark: Any, record_row: Callable[[dict[str, Any]], None], mesh: Mesh, case: str, provider: str) -> None:
    sizes = {"vertices": mesh.num_vertices, "triangles": mesh.num_triangles}
    row = {"op": "simplify", "provider": provider, "mode": "forward", "case": case, "device": "cpu", "sizes": sizes}
    record_row(row | timing(benchmark) | {"peak_mib": None})


@pytest.mark.benchmark(group="simplify")
@pytest.mark.parametrize("provider", ["facecore", "fast_simplification"])
def bench_collapse_to_a_quarter(benchmark: Any, record_row: Any, mesh: Mesh, provider: str) -> None:
    target = -(-mesh.num_vertices // 4)
    vertices, triangles = mesh.vertices, mesh.triangles
    if provider == "facecore":
        addresses = (vertices.data_ptr(), triangles.data_ptr())
        kept = benchmark(_C.simplify, mesh.num_vertices, mesh.num_triangles, target, *addresses)[0]
        assert len(kept) == target
    else:
        if importlib.util.find_spec("fast_simplification") is None:
            pytest.skip("fast_simplification is not installed")
        import fast_simplification

        benchmark(fast_simplification.simplify, vertices.numpy(), triangles.numpy(), target_reduction=0.75)
    record(benchmark, record_row, mesh, "quarter", provider)


@pytest.mark.benchmark(group="simplify")
def bench_closest_points(benchmark: Any, record_row: Any, mesh: Mesh) -> None:
    level = build_hierarchy(mesh, FACTORS[:1]).levels[1]
    arrays = (mesh.vertices.numpy(), level.vertices.numpy(), level.triangles.numpy())
    nearest = benchmark.pedantic(closest_points, arrays, rounds=5)
    assert nearest.distance.max() < 2.0  # mm
    record(benchmark, record_row, mesh, "closest_points", "facecore")


@pytest.mark.benchmark(group="simplify")
def bench_cold_hierarchy(benchmark: Any, record_row: Any, mesh: Mesh) -> None:
    def build() -> list[int]:
        with tempfile.TemporaryDirectory() as folder:
            return build_hierarchy(mesh, FACTORS, cache_dir=folder).sizes

    assert benchmark.pedantic(build, rounds=5)[1:] == [10241, 2561, 641, 161, 81]
    record(benchmark, record_row, mesh, "cold_hierarchy", "facecore")
