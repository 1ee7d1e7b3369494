"""Mesh: one triangle mesh, validated once, with its edges, boundary, adjacency and content hash."""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import warnings

import numpy as np
import scipy.sparse
import torch

# A mean outwardness nearer to zero than this fraction of the mesh's size says nothing about the winding (flat meshes).
_FLATNESS = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh whose indices and coordinates have been checked. Immutable: the tensors are private copies.

    Args:
        vertices: positions in mm, floating point [V, 3]; kept as float32.
        triangles: vertex indices, any integer type [T, 3], counter-clockwise seen from outside; kept as int32.
        uv: texture coordinates, floating point [V, 2], v upwards; kept as float32. May be None.
        fix_winding: reverse all triangles, with a UserWarning, when they are wound clockwise seen from outside: when
            the mean of n.(v - c) over the surface is negative, c the centroid of the vertices in use.

    Deterministic. Raises ValueError for a wrong shape or dtype, an index out of range, a triangle that repeats a
    vertex, NaN or infinity. UserWarning: edges of more than two triangles, neighbours of opposite winding.
    """

    vertices: torch.Tensor
    triangles: torch.Tensor
    uv: torch.Tensor | None = None
    fix_winding: dataclasses.InitVar[bool] = True

    def __post_init__(self, fix_winding: bool) -> None:
        vertices = _checked_floats("vertices", self.vertices, 3)
        triangles = _checked_triangles(self.triangles, vertices.shape[0])
        uv = None if self.uv is None else _checked_floats("uv", self.uv, 2)
        if uv is not None and uv.shape[0] != vertices.shape[0]:
            raise ValueError(f"uv must have one row per vertex, [{vertices.shape[0]}, 2], got {list(uv.shape)}")
        devices = {t.device for t in (vertices, triangles, uv) if t is not None}
        if len(devices) > 1:
            raise ValueError(f"vertices, triangles and uv must be on one device, got {sorted(map(str, devices))}")
        if fix_winding and _is_inside_out(vertices, triangles):
            warnings.warn("the triangles are wound clockwise seen from outside; reversed them", stacklevel=3)
            triangles = triangles[:, [0, 2, 1]].contiguous()
        for name, value in (("vertices", vertices), ("triangles", triangles), ("uv", uv)):
            object.__setattr__(self, name, value)
        self._warn_about_edges()

    @property
    def num_vertices(self) -> int:
        return self.vertices.shape[0]

    @property
    def num_triangles(self) -> int:
        return self.triangles.shape[0]

    @property
    def device(self) -> torch.device:
        return self.vertices.device

    def edges(self) -> torch.Tensor:
        """Undirected edges, int64 [E, 2]; the smaller index first, rows in ascending order."""
        return torch.from_numpy(self._edges_and_counts[0].copy()).to(self.device)

    def boundary_vertices(self) -> torch.Tensor:
        """True at each vertex of an edge that has exactly one triangle, bool [V]."""
        edges, counts = self._edges_and_counts
        mask = np.zeros(self.num_vertices, dtype=bool)
        mask[edges[counts == 1]] = True
        return torch.from_numpy(mask).to(self.device)

    def adjacency(self) -> scipy.sparse.csr_matrix:
        """Binary symmetric adjacency of the vertices, float64 CSR [V, V] on the CPU, indices ascending, no diagonal."""
        edges = self._edges_and_counts[0]
        rows, columns = np.concatenate([edges, edges[:, ::-1]]).T
        shape = (self.num_vertices, self.num_vertices)
        result = scipy.sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)
        result.sort_indices()
        return result

    def content_hash(self) -> str:
        """SHA-256 of vertices and triangles in hexadecimal; texture coordinates do not count."""
        digest = hashlib.sha256(f"mesh {self.num_vertices} {self.num_triangles}".encode())
        digest.update(self.vertices.cpu().numpy().astype("<f4", copy=False).tobytes())
        digest.update(self.triangles.cpu().numpy().astype("<i4", copy=False).tobytes())
        return digest.hexdigest()

    def to(self, device: torch.device | str) -> Mesh:
        """The same mesh on another device; nothing is checked again."""
        result = copy.copy(self)
        for name in ("vertices", "triangles", "uv"):
            tensor = getattr(self, name)
            object.__setattr__(result, name, None if tensor is None else tensor.to(device))
        return result

    @functools.cached_property
    def _edges_and_counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Undirected edges [E, 2] int64 and the number of triangles at each [E]."""
        directed = _directed_edges(self.triangles)
        keys, counts = np.unique(directed.min(1) * self.num_vertices + directed.max(1), return_counts=True)
        return np.stack(np.divmod(keys, self.num_vertices), axis=1), counts

    def _warn_about_edges(self) -> None:
        counts = self._edges_and_counts[1]
        crowded = int((counts > 2).sum())
        if crowded:
            warnings.warn(
                f"{crowded} non-manifold edges belong to more than two triangles; check the mesh if that is not meant",
                stacklevel=4,
            )
        directed = _directed_edges(self.triangles)
        repeats = len(directed) - len(np.unique(directed[:, 0] * self.num_vertices + directed[:, 1]))
        if repeats and not crowded:
            warnings.warn(
                f"{repeats} edges join triangles of opposite winding; normals are wrong there, so make it consistent",
                stacklevel=4,
            )


def _directed_edges(triangles: torch.Tensor) -> np.ndarray:
    corners = triangles.cpu().numpy().astype(np.int64)
    return np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])


def _checked_floats(name: str, value: torch.Tensor, width: int) -> torch.Tensor:
    """A float32 contiguous private copy of a finite [V, width] tensor."""
    tensor = torch.as_tensor(value)
    if tensor.ndim != 2 or tensor.shape[1] != width or tensor.shape[0] == 0:
        raise ValueError(f"{name} must have shape [V, {width}] with V > 0, got {list(tensor.shape)}")
    if not tensor.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {tensor.dtype}; convert it first")
    tensor = tensor.detach().to(torch.float32, copy=True).contiguous()
    broken = int((~torch.isfinite(tensor)).any(1).sum())
    if broken:
        raise ValueError(f"{name} must be finite in float32, got NaN or infinity in {broken} rows")
    return tensor


def _checked_triangles(value: torch.Tensor, num_vertices: int) -> torch.Tensor:
    """An int32 contiguous private copy of [T, 3] indices, in range and without repetition in a row."""
    triangles = torch.as_tensor(value)
    if triangles.ndim != 2 or triangles.shape[1] != 3 or triangles.shape[0] == 0:
        raise ValueError(f"triangles must have shape [T, 3] with T > 0, got {list(triangles.shape)}")
    if triangles.is_floating_point() or triangles.is_complex() or triangles.dtype == torch.bool:
        raise ValueError(f"triangles must be integers, got {triangles.dtype}; convert them to int32")
    low, high = int(triangles.min()), int(triangles.max())
    if low < 0 or high >= num_vertices:
        raise ValueError(
            f"triangles must index vertices 0 to {num_vertices - 1}, got {low} to {high}; file indices may start at 1"
        )
    a, b, c = triangles.unbind(1)
    repeated = torch.nonzero((a == b) | (b == c) | (c == a)).flatten()
    if len(repeated):
        raise ValueError(
            f"triangles must have three different vertices, {len(repeated)} have not, the first is "
            f"{int(repeated[0])}: {triangles[repeated[0]].tolist()}; remove them"
        )
    return triangles.detach().to(torch.int32, copy=True).contiguous()


def _is_inside_out(vertices: torch.Tensor, triangles: torch.Tensor) -> bool:
    """Whether the area-weighted mean of n.(v - c) is negative by more than rounding."""
    centroid = vertices[torch.unique(triangles).long()].double().mean(0)
    corners = (vertices.double() - centroid)[triangles.long()]
    doubled_area_normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    outward = (doubled_area_normal * corners.mean(1)).sum()
    size = (doubled_area_normal.norm(dim=1) * corners.mean(1).norm(dim=1)).sum()
    return bool(outward < -_FLATNESS * size)
