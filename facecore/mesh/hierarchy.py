"""Resolution levels of a mesh and the sparse matrices that carry features between them (METHODS 1.7)."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import pathlib
import warnings
import zipfile
from collections.abc import Sequence

import numpy as np
import scipy.sparse
import torch

from facecore import _C
from facecore.files import write_atomically
from facecore.mesh.mesh import Mesh
from facecore.mesh.proximity import ClosestPoints, closest_of_pairs, closest_points
from facecore.structures import SparseMatrix

_VERSION = 1  # part of the cache key: raise it whenever the same mesh would get another hierarchy


@dataclasses.dataclass(frozen=True, eq=False)
class Hierarchy:
    """Levels from fine to coarse. Every coarse vertex is a vertex of the level above it.

    levels: meshes, levels[0] the finest.
    up: up[i] [V_i, V_i+1] takes features of level i+1 to level i: row = barycentric weights of the point of the coarse
        surface nearest to the fine vertex, on the same sheet of the surface (an upper lip never follows the lower
        one); at most 3 non-zeros, each at least 0, sum 1.
    down: down[i] [V_i+1, V_i] takes level i to level i+1: selects the kept vertices, one 1 per row. down @ up = I.
    kept: kept[i] int64 [V_i+1], the vertices of level i that level i+1 keeps, ascending.
    """

    levels: list[Mesh]
    up: list[SparseMatrix]
    down: list[SparseMatrix]
    kept: list[torch.Tensor]

    @property
    def sizes(self) -> list[int]:
        """Number of vertices of each level, fine to coarse."""
        return [level.num_vertices for level in self.levels]

    def to(self, device: torch.device | str) -> Hierarchy:
        """The same hierarchy on another device."""
        moved = {f.name: [item.to(device) for item in getattr(self, f.name)] for f in dataclasses.fields(self)}
        return Hierarchy(**moved)


@dataclasses.dataclass(frozen=True)
class _Step:
    """How one level follows from the one above it: what the cache holds."""

    kept: np.ndarray  # int32 [V_coarse], ascending
    triangles: np.ndarray  # int32 [T_coarse, 3]
    up_columns: np.ndarray  # int32 [V_fine, 3]
    up_weights: np.ndarray  # float64 [V_fine, 3]


def build_hierarchy(
    mesh: Mesh, factors: Sequence[int], *, cache_dir: str | os.PathLike[str] | None = None
) -> Hierarchy:
    """Simplifies `mesh` (mm) step by step by quadric edge collapse onto existing vertices.

    Args:
        mesh: the finest level.
        factors: level i+1 has ceil(V_i / factors[i]) vertices, each factor an integer of at least 2. Collapses that
            would fold the surface, change its topology or pull the rim inwards are not done, so a level may stay
            larger; then a UserWarning says so. Vertices without triangles vanish. Take sizes from the result.
        cache_dir: where results are kept, by content; default $FACECORE_CACHE, else ~/.cache/facecore.

    Matrices are float32, on the mesh's device. Deterministic. Raises ValueError for a wrong factor.
    """
    for factor in factors:
        if isinstance(factor, bool) or not isinstance(factor, (int, np.integer)) or factor < 2:
            raise ValueError(f"factors must be integers of at least 2, got {list(factors)}")
    path = _cache_path(mesh, factors, cache_dir)
    steps = _read(path, len(factors))
    if steps is None:
        steps = _simplify_all(mesh.to("cpu"), factors)
        _write(path, steps)
    levels, kept = [mesh], []
    for step, factor in zip(steps, factors):
        _warn_if_larger(len(levels), len(step.kept), _target(levels[-1], factor))
        kept.append(torch.from_numpy(step.kept.astype(np.int64)).to(mesh.device))
        levels.append(_coarser(levels[-1], step))
    return Hierarchy(
        levels,
        [SparseMatrix.from_scipy(_up_matrix(step)).to(mesh.device) for step in steps],
        [SparseMatrix.from_scipy(_down_matrix(step)).to(mesh.device) for step in steps],
        kept,
    )


def _simplify_all(mesh: Mesh, factors: Sequence[int]) -> list[_Step]:
    steps = []
    for factor in factors:
        steps.append(_simplify(mesh, _target(mesh, factor)))
        mesh = _coarser(mesh, steps[-1])
    return steps


def _target(mesh: Mesh, factor: int) -> int:
    return -(-mesh.num_vertices // int(factor))


def _warn_if_larger(level: int, num_vertices: int, target: int) -> None:
    if num_vertices > target:
        warnings.warn(
            f"level {level} keeps {num_vertices} vertices where {target} were asked for: no further edge can collapse "
            f"without folding the surface or changing its topology",
            stacklevel=3,
        )


def _simplify(mesh: Mesh, target: int) -> _Step:
    kept, corners, merged_into = _C.simplify(
        mesh.num_vertices, mesh.num_triangles, target, mesh.vertices.data_ptr(), mesh.triangles.data_ptr()
    )
    triangles = corners.reshape(-1, 3)
    fine, positions = mesh.triangles.numpy(), mesh.vertices.double().numpy()
    normals = _incidence(fine, len(positions)) @ _normals(positions[fine])
    columns, weights = np.empty((len(positions), 3), np.int32), np.empty((len(positions), 3))
    connected, isolated = np.nonzero(merged_into >= 0)[0], np.nonzero(merged_into < 0)[0]
    on_sheet = _closest_on_sheet(
        positions[connected], normals[connected], merged_into[connected], positions[kept], triangles
    )
    anywhere = closest_points(positions[isolated], positions[kept], triangles)
    for vertices, nearest in ((connected, on_sheet), (isolated, anywhere)):
        columns[vertices], weights[vertices] = triangles[nearest.triangle], nearest.barycentric
    # A kept vertex is itself, even where another one has the same position.
    columns[kept, 0], weights[kept] = np.arange(len(kept)), (1.0, 0.0, 0.0)
    return _Step(kept, triangles, columns, weights)


def _closest_on_sheet(
    points: np.ndarray, normals: np.ndarray, merged_into: np.ndarray, vertices: np.ndarray, triangles: np.ndarray
) -> ClosestPoints:
    """The point of the coarse surface nearest to each fine vertex, on the sheet of the surface that it belongs to.

    The nearest point of all to a vertex of the upper lip may lie on the lower lip, and then the mouth could not open.
    So the triangle must have a corner in the one-ring of the coarse vertex that the fine one merged into, and face
    the same way as the fine vertex unless no triangle there does [choice].
    """
    at_vertex = _incidence(triangles, len(vertices))
    nearby = at_vertex @ (at_vertex.T @ at_vertex)  # [coarse vertex, triangle at it or at a neighbour]
    pairs = nearby[merged_into].tocoo()
    facing = np.einsum("ij,ij->i", normals[pairs.row], _normals(vertices[triangles])[pairs.col]) > 0
    has_facing = np.bincount(pairs.row, facing, len(points)) > 0
    usable = facing | ~has_facing[pairs.row]
    return closest_of_pairs(points, pairs.row[usable], vertices[triangles], pairs.col[usable])


def _incidence(triangles: np.ndarray, num_vertices: int) -> scipy.sparse.csr_matrix:
    """1 where a vertex is a corner of a triangle, [V, T]."""
    columns = np.repeat(np.arange(len(triangles)), 3)
    shape = (num_vertices, len(triangles))
    return scipy.sparse.csr_matrix((np.ones(triangles.size), (triangles.ravel(), columns)), shape=shape)


def _normals(corners: np.ndarray) -> np.ndarray:
    """Normals [T, 3] of corners [T, 3, 3], twice the area long."""
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def _coarser(mesh: Mesh, step: _Step) -> Mesh:
    kept = torch.from_numpy(step.kept.astype(np.int64)).to(mesh.device)
    uv = None if mesh.uv is None else mesh.uv[kept]
    triangles = torch.from_numpy(step.triangles).to(mesh.device)
    return Mesh(mesh.vertices[kept], triangles, uv, fix_winding=False)  # wound as the finest level is


def _up_matrix(step: _Step) -> scipy.sparse.csr_matrix:
    rows = np.repeat(np.arange(len(step.up_columns)), 3)
    shape = (len(step.up_columns), len(step.kept))
    matrix = scipy.sparse.csr_matrix((step.up_weights.ravel(), (rows, step.up_columns.ravel())), shape=shape)
    matrix.eliminate_zeros()
    return matrix


def _down_matrix(step: _Step) -> scipy.sparse.csr_matrix:
    rows = np.arange(len(step.kept))
    shape = (len(step.kept), len(step.up_columns))
    return scipy.sparse.csr_matrix((np.ones(len(rows)), (rows, step.kept)), shape=shape)


def _cache_path(mesh: Mesh, factors: Sequence[int], cache_dir: str | os.PathLike[str] | None) -> pathlib.Path:
    default = os.environ.get("FACECORE_CACHE") or pathlib.Path.home() / ".cache" / "facecore"
    content = f"{mesh.content_hash()} {[int(factor) for factor in factors]} {_VERSION}"
    name = hashlib.sha256(content.encode()).hexdigest()[:32]
    return pathlib.Path(default if cache_dir is None else cache_dir) / f"hierarchy-{name}.npz"


def _read(path: pathlib.Path, num_steps: int) -> list[_Step] | None:
    """What the cache holds; None when there is nothing. A damaged file is reported and built anew."""
    names = [field.name for field in dataclasses.fields(_Step)]
    try:
        with np.load(path) as arrays:
            return [_Step(*(arrays[f"{name}_{i}"] for name in names)) for i in range(num_steps)]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        warnings.warn(f"cannot read the cached hierarchy {path} ({error}); building it again", stacklevel=3)
        return None


def _write(path: pathlib.Path, steps: Sequence[_Step]) -> None:
    """Writes the cache; that it cannot be written is reported and costs the next caller the time to build."""
    arrays = {f"{name}_{i}": value for i, step in enumerate(steps) for name, value in vars(step).items()}
    content = io.BytesIO()
    np.savez(content, **arrays)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())
    except OSError as error:
        warnings.warn(f"cannot cache the hierarchy in {path} ({error}); it is built each time", stacklevel=3)
