"""Plain containers of tensors that operators take and return."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
import torch


class Texture(NamedTuple):
    """A picture on a surface: image [N, C, Hu, Wu], row 0 near v = 1; uv [V, 2], a place for each vertex, v upwards."""

    image: torch.Tensor
    uv: torch.Tensor


class Fragments(NamedTuple):
    """What the rasterizer found at each pixel.

    triangle_id: int32 [N, H, W]; -1 = uncovered.
    barycentric: [N, H, W, 3], perspective-correct, in the order of `triangles`, sums to 1; 0 where uncovered.
    z_ndc: [N, H, W], z/w at the pixel centre, smaller = nearer; 1 where uncovered. Not differentiable.
    """

    triangle_id: torch.Tensor
    barycentric: torch.Tensor
    z_ndc: torch.Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class SparseMatrix:
    """A static sparse matrix [R, V] in CSR form, with its transpose, so that a backward pass needs no atomics.

    crow_indices int32 [R+1], col_indices int32 [nnz] (ascending in a row), values [nnz]; the `transposed_` arrays are
    the CSR form of the transpose. `lambda_max` is the largest eigenvalue of the Laplacian a scaled matrix came from.

    Built from arrays instead of by from_scipy, they are checked once: ValueError for arrays that are not the CSR form
    of a matrix of this shape, and for `transposed_` arrays of another matrix than its transpose, with which every
    gradient would be wrong. (Not while torch compiles, nor for tensors without values, on the meta device.)
    """

    shape: tuple[int, int]
    crow_indices: torch.Tensor
    col_indices: torch.Tensor
    values: torch.Tensor
    transposed_crow_indices: torch.Tensor
    transposed_col_indices: torch.Tensor
    transposed_values: torch.Tensor
    lambda_max: float | None = None

    def __post_init__(self) -> None:
        plain = type(self.values) in (torch.Tensor, torch.nn.Parameter)  # others have no numbers to look at
        if torch.compiler.is_compiling() or not plain or self.values.is_meta:
            return
        rows, columns = self.shape
        _check_csr("", (self.crow_indices, self.col_indices, self.values), rows, columns)
        given = (self.transposed_crow_indices, self.transposed_col_indices, self.transposed_values)
        _check_csr("transposed_", given, columns, rows)
        transpose = _csr_of_transpose(self.crow_indices, self.col_indices, self.values, columns)
        if not all(_identical(a, b) for a, b in zip(given, transpose)):
            raise ValueError(
                "transposed_crow_indices, transposed_col_indices and transposed_values must be the CSR form of the "
                "transpose, with the same values; SparseMatrix.from_scipy builds both"
            )

    @classmethod
    def from_scipy(
        cls, matrix: scipy.sparse.spmatrix, *, dtype: torch.dtype = torch.float32, lambda_max: float | None = None
    ) -> SparseMatrix:
        """From any scipy sparse matrix. Raises ValueError for non-finite values or more than 2^31 non-zeros."""
        forward = scipy.sparse.csr_matrix(matrix, copy=True)
        forward.sum_duplicates()
        if not np.isfinite(forward.data).all():
            raise ValueError("matrix must have finite values, got NaN or infinity")
        if forward.nnz >= 2**31:
            raise ValueError(f"matrix must have fewer than 2^31 non-zeros, got {forward.nnz}")
        arrays = [
            torch.from_numpy(np.ascontiguousarray(array)).to(kind)
            for csr in (forward, _transposed(forward))
            for array, kind in ((csr.indptr, torch.int32), (csr.indices, torch.int32), (csr.data, dtype))
        ]
        crow, col, values, transposed_crow, transposed_col, transposed_values = arrays
        return cls(
            forward.shape, crow, col, values, transposed_crow, transposed_col, transposed_values, lambda_max=lambda_max
        )

    def to_scipy(self) -> scipy.sparse.csr_matrix:
        arrays = [t.detach().cpu().numpy() for t in (self.values, self.col_indices, self.crow_indices)]
        return scipy.sparse.csr_matrix(tuple(arrays), shape=self.shape)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> SparseMatrix:
        """The same matrix on another device or with values of another dtype."""
        return dataclasses.replace(self, **_moved(self, device, dtype))

    @property
    def transposed(self) -> SparseMatrix:
        """The transpose; shares the arrays."""
        return TrustedSparseMatrix(
            (self.shape[1], self.shape[0]),
            self.transposed_crow_indices,
            self.transposed_col_indices,
            self.transposed_values,
            self.crow_indices,
            self.col_indices,
            self.values,
            self.lambda_max,
        )

    @property
    def num_nonzeros(self) -> int:
        return int(self.col_indices.numel())

    @property
    def dtype(self) -> torch.dtype:
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        return self.values.device


class TrustedSparseMatrix(SparseMatrix):
    """A SparseMatrix of arrays that have been checked before: for every forward pass of a layer."""

    def __post_init__(self) -> None:
        pass


@dataclasses.dataclass(frozen=True, eq=False)
class UVMap:
    """Which point of a mesh each texel of a texture shows. facecore.mesh.build_uv_map makes it, once and checked.

    triangle_id: int32 [Hu, Wu]; -1 = empty texel. Row 0 is v near 1; the centre of texel (row i, column j) is at
        u = (j + 0.5) / Wu, v = 1 - (i + 0.5) / Hu.
    barycentric: floating point [Hu, Wu, 3], in the order of `triangles`; 0 where empty.
    triangles: the mesh's, int32 [T, 3].
    uv, uv_triangles: the layout, floating point [M, 2] with v upwards and int32 [T, 3]; corner k of triangle t has the
        texture coordinates uv[uv_triangles[t, k]]. Without seams uv_triangles is triangles.
    corners: the vertices of the texel's triangle, int32 [Hu, Wu, 3]; -1 where empty.
    vertex_start, vertex_texels: the texels around each vertex, int32 [V+1] and [E]: entries vertex_start[v] to
        vertex_start[v+1] are 3 * texel + place of v in its corners, ascending.

    barycentric and corners are stored as three planes each (strides (Wu, 1, Hu Wu)), as the kernels read them.
    """

    triangle_id: torch.Tensor
    barycentric: torch.Tensor
    triangles: torch.Tensor
    uv: torch.Tensor
    uv_triangles: torch.Tensor
    corners: torch.Tensor
    vertex_start: torch.Tensor
    vertex_texels: torch.Tensor

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> UVMap:
        """The same table on another device or with floating-point numbers of another dtype."""
        return dataclasses.replace(self, **_moved(self, device, dtype))

    @property
    def height(self) -> int:
        return self.triangle_id.shape[0]

    @property
    def width(self) -> int:
        return self.triangle_id.shape[1]

    @property
    def num_vertices(self) -> int:
        return self.vertex_start.shape[0] - 1

    @property
    def dtype(self) -> torch.dtype:
        return self.barycentric.dtype

    @property
    def device(self) -> torch.device:
        return self.triangle_id.device


def _moved(container: Any, device: torch.device | str | None, dtype: torch.dtype | None) -> dict[str, Any]:
    """The tensors of a dataclass on a device, the floating-point ones with a dtype."""
    fields = {f.name: getattr(container, f.name) for f in dataclasses.fields(container)}
    return {
        name: value.to(device=device, dtype=dtype if value.is_floating_point() else None)
        for name, value in fields.items()
        if isinstance(value, torch.Tensor)
    }


def _transposed(matrix: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    result = matrix.T.tocsr()
    result.sort_indices()
    return result


def _check_csr(part: str, arrays: tuple[torch.Tensor, ...], rows: int, columns: int) -> None:
    """ValueError unless the arrays are the CSR form of some matrix [rows, columns]."""
    crow, col, values = arrays
    nonzeros = values.numel()
    if values.dim() != 1 or not values.is_floating_point() or not bool(values.isfinite().all()):
        raise ValueError(
            f"{part}values must be finite floating-point numbers [nnz], got {values.dtype} {list(values.shape)}"
        )
    for name, tensor, shape in (("crow", crow, (rows + 1,)), ("col", col, (nonzeros,))):
        if tensor.dtype != torch.int32 or tuple(tensor.shape) != shape or tensor.device != values.device:
            raise ValueError(
                f"{part}{name}_indices must be int32 {list(shape)} on {values.device} for {nonzeros} values and "
                f"{rows} rows, got {tensor.dtype} {list(tensor.shape)} on {tensor.device}"
            )
    if int(crow[0]) != 0 or int(crow[-1]) != nonzeros or bool((crow.diff() < 0).any()):
        raise ValueError(f"{part}crow_indices must ascend from 0 to {nonzeros}, the number of values")
    rows_of = torch.arange(rows, device=col.device).repeat_interleave(crow.diff())
    if bool(((col.diff() <= 0) & (rows_of.diff() == 0)).any()):
        raise ValueError(f"{part}col_indices must ascend within each row")
    if nonzeros and (int(col.min()) < 0 or int(col.max()) >= columns):
        raise ValueError(
            f"{part}col_indices must be 0 to {columns - 1}, got values from {int(col.min())} to {int(col.max())}"
        )


def _csr_of_transpose(
    crow: torch.Tensor, col: torch.Tensor, values: torch.Tensor, columns: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows = torch.arange(len(crow) - 1, device=crow.device, dtype=torch.int32)
    rows = rows.repeat_interleave(crow.diff())
    order = col.argsort(stable=True)  # rows ascend already, and stay so within each column
    counts = torch.bincount(col, minlength=columns)
    starts = torch.nn.functional.pad(counts.cumsum(0), [1, 0]).to(torch.int32)
    return starts, rows[order], values.detach()[order]


def _identical(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.dtype == second.dtype and first.device == second.device and torch.equal(first, second)
