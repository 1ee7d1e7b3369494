"""Graph-convolutional discriminator: values at the vertices of a mesh to one score (METHODS 2.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from facecore.mesh import Hierarchy
from facecore.mesh.laplacian import LaplacianKind
from facecore.nn.chebyshev import ChebConv, laplacian_buffers
from facecore.structures import SparseMatrix

_SLOPE = 0.2  # of the LeakyReLUs


class MeshDiscriminator(nn.Module):
    """[N, V, in_channels] on the finest level of a hierarchy -> scores [N]; the mirror image of MeshDecoder.

    For each level: graph convolution, LeakyReLU(0.2), downsample to the next level; last one FC. No normalisation
    layer, and every operator is twice differentiable: a gradient penalty can be trained.

    Args:
        hierarchy: facecore.mesh.build_hierarchy(mesh, factors).
        channels: features after each convolution, finest level first; one for each factor.
        num_terms: K of every convolution.
        kind: of the Laplacians, "combinatorial" or "symmetric".
        in_channels: features of the input.

    Meshes and matrices are not in the state dict.
    """

    def __init__(
        self,
        hierarchy: Hierarchy,
        channels: Sequence[int] = (16, 32, 64, 128, 256),
        num_terms: int = 6,
        kind: LaplacianKind = "combinatorial",
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        steps = len(hierarchy.down)
        if len(channels) != steps or steps == 0:
            raise ValueError(
                f"channels must have one number for each of the {steps} factors of the hierarchy (at least one), "
                f"got {list(channels)}"
            )
        self.convolutions = nn.ModuleList()
        for level, (fan_in, fan_out) in enumerate(zip((in_channels, *channels), channels)):
            graph, down = laplacian_buffers(hierarchy.levels[level], kind), _selection(hierarchy.down[level])
            self.convolutions.append(ChebConv(fan_in, fan_out, num_terms, graph, after=down, negative_slope=_SLOPE))
        self.linear = nn.Linear(hierarchy.down[-1].shape[0] * channels[-1], 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for convolution in self.convolutions:  # to the kept vertices first: the activation of the others is not needed
            x = convolution(x)
        return self.linear(x.flatten(1)).squeeze(1)


def _selection(matrix: SparseMatrix) -> SparseMatrix:
    """The matrix, if it selects vertices: only then may the activation follow it."""
    one_per_row = bool((matrix.crow_indices.diff() == 1).all())
    if not one_per_row or bool((matrix.values != 1).any()):
        raise ValueError("hierarchy.down must select vertices: one 1 in each row")
    return matrix
