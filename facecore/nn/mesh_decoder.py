"""Graph-convolutional decoder: a code to values at the vertices of a mesh (METHODS 2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from facecore.mesh import Hierarchy
from facecore.mesh.laplacian import LaplacianKind
from facecore.nn.chebyshev import ChebConv, laplacian_buffers


class MeshDecoder(nn.Module):
    """[N, latent_size] -> [N, V, out_channels] on the finest level of a hierarchy.

    FC to channels[0] features on the coarsest level, ReLU; then for each finer level: upsample, graph convolution to
    the next of `channels`, ReLU; last a linear graph convolution without bias to out_channels.

    Args:
        hierarchy: facecore.mesh.build_hierarchy(mesh, factors).
        latent_size: length of a code.
        channels: features of each level, coarsest first; one more than there are factors.
        num_terms: K of every convolution.
        kind: of the Laplacians, "combinatorial" or "symmetric".
        output: "linear", or "sigmoid" for values in (0, 1).

    Meshes and matrices are not in the state dict.
    """

    def __init__(
        self,
        hierarchy: Hierarchy,
        latent_size: int,
        channels: Sequence[int] = (256, 256, 128, 64, 32, 16),
        out_channels: int = 3,
        num_terms: int = 6,
        kind: LaplacianKind = "combinatorial",
        output: Literal["linear", "sigmoid"] = "linear",
    ) -> None:
        super().__init__()
        steps = len(hierarchy.up)
        if len(channels) != steps + 1:
            raise ValueError(f"channels must have one number for each of the {steps + 1} levels, got {list(channels)}")
        if output not in ("linear", "sigmoid"):
            raise ValueError(f'output must be "linear" or "sigmoid", got {output!r}')
        self.output = output
        self.coarse_shape = (hierarchy.levels[-1].num_vertices, channels[0])
        self.linear = nn.Linear(latent_size, self.coarse_shape[0] * self.coarse_shape[1])
        self.convolutions = nn.ModuleList()
        graph = None
        for step, level in enumerate(reversed(range(steps))):
            graph = laplacian_buffers(hierarchy.levels[level], kind)
            self.convolutions.append(
                ChebConv(
                    channels[step],
                    channels[step + 1],
                    num_terms,
                    graph,
                    before=hierarchy.up[level],
                    negative_slope=0.0,
                )
            )
        if graph is None:
            graph = laplacian_buffers(hierarchy.levels[0], kind)
        self.last = ChebConv(channels[-1], out_channels, num_terms, graph, bias=False)

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.linear(code)).view(-1, *self.coarse_shape)
        for convolution in self.convolutions:
            x = convolution(x)
        x = self.last(x)
        return torch.sigmoid(x) if self.output == "sigmoid" else x
