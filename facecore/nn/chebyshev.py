"""Chebyshev graph convolution as a layer, and sparse matrices as part of a module."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from facecore.mesh import Mesh, laplacian
from facecore.mesh.laplacian import LaplacianKind
from facecore.mesh.laplacian import check_spectrum as _check_spectrum
from facecore.ops import chebyshev_conv
from facecore.ops._chebyshev import Csr, Graph, convolve
from facecore.ops._library import FLOATS
from facecore.ops.chebyshev_conv import check_slope
from facecore.structures import SparseMatrix, TrustedSparseMatrix

_ARRAYS = (
    "crow_indices",
    "col_indices",
    "values",
    "transposed_crow_indices",
    "transposed_col_indices",
    "transposed_values",
)


# Laplacians whose spectrum is known to be in [-1, 1]: layers are often given the same one.
_measured: weakref.WeakSet[SparseMatrix | SparseBuffers] = weakref.WeakSet()


class SparseBuffers(nn.Module):
    """A SparseMatrix that moves and changes its dtype with the module it is in, and is not part of the state dict."""

    crow_indices: torch.Tensor
    col_indices: torch.Tensor
    values: torch.Tensor
    transposed_crow_indices: torch.Tensor
    transposed_col_indices: torch.Tensor
    transposed_values: torch.Tensor

    def __init__(self, matrix: SparseMatrix) -> None:
        super().__init__()
        if not isinstance(matrix, SparseMatrix):
            raise ValueError(f"matrix must be a SparseMatrix, got {type(matrix).__name__}")
        self.shape = matrix.shape
        self.lambda_max = matrix.lambda_max
        for name in _ARRAYS:
            self.register_buffer(name, getattr(matrix, name), persistent=False)

    @property
    def matrix(self) -> SparseMatrix:
        return TrustedSparseMatrix(
            self.shape,
            self.crow_indices,
            self.col_indices,
            self.values,
            self.transposed_crow_indices,
            self.transposed_col_indices,
            self.transposed_values,
            self.lambda_max,
        )

    @property
    def csr(self) -> Csr:
        """crow_indices, col_indices and values alone."""
        buffers = self._buffers  # a forward pass without gradients is short enough to notice nn.Module's own way
        return buffers["crow_indices"], buffers["col_indices"], buffers["values"]  # type: ignore[return-value]

    def extra_repr(self) -> str:
        return f"{self.shape[0]} x {self.shape[1]}"


def laplacian_buffers(mesh: Mesh, kind: LaplacianKind) -> SparseBuffers:
    """The scaled Laplacian of a mesh for a module. Raises ValueError for a kind whose spectrum leaves [-1, 1]."""
    if kind not in ("combinatorial", "symmetric"):
        raise ValueError(f'kind must be "combinatorial" or "symmetric" for a Chebyshev convolution, got {kind!r}')
    buffers = SparseBuffers(laplacian(mesh, kind))
    _measured.add(buffers)  # by the construction of these kinds (METHODS 1.6)
    return buffers


class ChebConv(nn.Module):
    """y = sum_k T_k(laplacian) x weight[k] + bias on the vertices of one mesh: [N, V, Fin] -> [N, V, Fout].

    With `before` [V, Vin] or `after` [Vout, V] the input lies on, or the result is taken to, the vertices of another
    level; that is much cheaper than a sparse_matmul of its own (see facecore.ops.chebyshev_conv).

    Args:
        in_features, out_features: Fin, Fout.
        num_terms: K >= 1, the orders 0 to K-1.
        laplacian: facecore.mesh.laplacian(mesh), eigenvalues in [-1, 1]; or SparseBuffers to share one among layers.
        bias: one number per output feature.
        before, after: SparseMatrix, or None for no change of resolution.
        negative_slope: of an activation fused into the layer: 0 for ReLU, 0.2 for LeakyReLU(0.2); None for none.
        check_spectrum: measure the Laplacian's eigenvalues, once per matrix (0.1 s for 37,000 vertices). No arithmetic
            here assumes symmetry: a Laplacian that is not symmetric, whose spectrum cannot be measured so, is exact
            with exact gradients; give it with False.

    `weight` [K, Fin, Fout] starts Glorot-uniform with fan_in K * Fin and fan_out Fout, `bias` [Fout] at zero. The
    matrices follow .to(device) and .double(), and are not in the state dict. Under torch.no_grad and
    torch.inference_mode the result has the same bits and comes sooner. Raises ValueError for sizes that do not
    fit, and for a Laplacian that is not symmetric or has an eigenvalue outside [-1, 1], with the one that was measured
    (facecore.mesh.check_spectrum). METHODS 1.6.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_terms: int,
        laplacian: SparseMatrix | SparseBuffers,
        bias: bool = True,
        *,
        before: SparseMatrix | None = None,
        after: SparseMatrix | None = None,
        negative_slope: float | None = None,
        check_spectrum: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("in_features", in_features), ("out_features", out_features), ("num_terms", num_terms)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.laplacian = laplacian if isinstance(laplacian, SparseBuffers) else SparseBuffers(laplacian)
        _check_shapes(self.laplacian, before, after)
        if check_spectrum and laplacian not in _measured and not self.laplacian.values.is_meta:
            _check_spectrum("laplacian", self.laplacian.matrix)
            _measured.add(laplacian)
        self.before = None if before is None else SparseBuffers(before)
        self.after = None if after is None else SparseBuffers(after)
        check_slope(negative_slope)
        self.negative_slope = negative_slope
        self.weight = nn.Parameter(torch.empty(num_terms, in_features, out_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        num_terms, in_features, out_features = self.weight.shape
        bound = math.sqrt(6 / (num_terms * in_features + out_features))
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def load_torch_geometric(self, source: nn.Module | Mapping[str, torch.Tensor], name: str = "") -> None:
        """Takes over the weights of a torch_geometric.nn.ChebConv; torch_geometric itself is not needed.

        Args:
            source: such a layer, a model that contains it, or the state dict of either.
            name: of the layer in the model, such as "decoder.conv1"; "" when `source` is the layer or its state dict.

        There, `lins.k.weight` is [Fout, Fin]; here weight[k] is [Fin, Fout]. The layers then agree when theirs has
        normalization="sym" and is called with the mesh's edges in both directions, without edge_weight, and with the
        default lambda_max (2), and this one has laplacian(mesh, "symmetric"): both scale L to -D^-1/2 A D^-1/2 with an
        empty diagonal. A vertex without neighbours differs: there it has 0 on that diagonal, here -1. Weights for
        another normalization fit a Laplacian that is scaled alike: copy them to `weight` and `bias`.

        Raises ValueError, and changes nothing, for a layer of other sizes, of another normalization, or with a bias
        where this has none; and for a combinatorial Laplacian here.
        """
        lambda_max = self.laplacian.lambda_max
        if lambda_max is not None and lambda_max != 2:
            raise ValueError(
                f'laplacian must be the "symmetric" one (lambda_max 2) to use weights of a torch_geometric ChebConv, '
                f"got one with lambda_max {lambda_max:g}"
            )
        weight, bias = torch_geometric_parameters(source, name)
        for key, mine, theirs in (("weight", self.weight, weight), ("bias", self.bias, bias)):
            shapes = [None if t is None else list(t.shape) for t in (mine, theirs)]
            if shapes[0] != shapes[1]:
                raise ValueError(f"source must have a {key} of shape {shapes[0]} as this layer, got {shapes[1]}")
        with torch.no_grad():
            self.weight.copy_(weight)
            if self.bias is not None and bias is not None:
                self.bias.copy_(bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled() and _nobody_watches(x):
            out = self._without_gradients(x)
            if out is not None:
                return out
        return chebyshev_conv(
            x,
            self.laplacian.matrix,
            self.weight,
            self.bias,
            before=None if self.before is None else self.before.matrix,
            after=None if self.after is None else self.after.matrix,
            negative_slope=self.negative_slope,
        )

    def _without_gradients(self, x: torch.Tensor) -> torch.Tensor | None:
        """The operator's own computation without the way to it, which takes 6 % of a decoder's time at batch 1.

        None where an argument does not fit: the operator says which.
        """
        weight, bias, before, after = self.weight, self.bias, self.before, self.after
        graph = Graph(
            self.laplacian.shape[0],
            self.laplacian.csr,
            () if before is None else before.csr,
            () if after is None else after.csr,
        )
        source = self.laplacian if before is None else before
        numbers = (weight, bias, *(csr[2] for csr in graph[1:] if csr))
        if (
            x.dim() != 3
            or x.shape[1:] != (source.shape[1], weight.shape[1])
            or x.dtype not in FLOATS
            or any(t is not None and (t.dtype != x.dtype or t.device != x.device) for t in numbers)
            or any(csr[2].requires_grad for csr in graph[1:] if csr)
            or type(weight) not in (torch.Tensor, nn.Parameter)
        ):
            return None
        rows = self.laplacian.shape[0] if after is None else after.shape[0]
        out = x.new_empty(x.shape[0], rows, weight.shape[2])
        convolve(x, weight, bias, graph, out, check_slope(self.negative_slope))
        return out

    def extra_repr(self) -> str:
        num_terms, in_features, out_features = self.weight.shape
        activation = "" if self.negative_slope is None else f", negative_slope={self.negative_slope}"
        return f"{in_features}, {out_features}, num_terms={num_terms}, bias={self.bias is not None}{activation}"


def _nobody_watches(x: Any) -> bool:
    """Whether operators may be passed by: no compiler, transform, tracer, forward gradient, mode or tensor subclass."""
    return (
        type(x) is torch.Tensor
        and (x.is_cpu or x.is_cuda)
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._len_torch_dispatch_stack()
        and torch._C._get_tracing_state() is None
        and torch.autograd.forward_ad._current_level < 0
    )


def torch_geometric_parameters(
    source: nn.Module | Mapping[str, torch.Tensor], name: str
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weight [K, Fin, Fout] and bias [Fout] or None of the torch_geometric ChebConv called `name` in a model."""
    if isinstance(source, nn.Module):
        try:
            layer = source.get_submodule(name)
        except AttributeError as error:
            raise ValueError(f"name must be that of a layer of the model, got {name!r} ({error})") from None
        normalization = getattr(layer, "normalization", "sym")
        if normalization != "sym":
            raise ValueError(f'source must have normalization "sym", got {normalization!r}')
        state, prefix = layer.state_dict(), ""
    else:
        state, prefix = dict(source), f"{name}." if name else ""
    lins: list[torch.Tensor] = []
    while (weight := state.get(f"{prefix}lins.{len(lins)}.weight")) is not None:
        lins.append(weight.t())
    if not lins:
        raise ValueError(
            f"source must hold {prefix}lins.0.weight, as a torch_geometric ChebConv of version 2 does, "
            f"got {sorted(state)[:8]}"
        )
    return torch.stack(lins), state.get(f"{prefix}bias")


def _check_shapes(laplacian: SparseBuffers, before: SparseMatrix | None, after: SparseMatrix | None) -> None:
    """The operator's own checks, when a layer is built instead of when it is used."""
    rows, columns = laplacian.shape
    if rows != columns:
        raise ValueError(f"laplacian must be square, got shape {[rows, columns]}")
    for name, matrix, dim, fits in (("before", before, 0, "[V, Vin]"), ("after", after, 1, "[Vout, V]")):
        if matrix is not None and matrix.shape[dim] != rows:
            raise ValueError(f"{name} must have shape {fits} with V = {rows}, got {list(matrix.shape)}")
