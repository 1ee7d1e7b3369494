"""What derivatives need: the corners seen at every pixel, sums in a fixed order on every device, items by what they
touch."""

from __future__ import annotations

import torch

from facecore.ops._library import call


def corners_at_pixels(
    triangles: torch.Tensor, triangle_id: torch.Tensor, num_vertices: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which pixels are covered, bool [P, 1], and the corners seen there, int64 [P, 3] of [N * V], P = N * H * W.

    Uncovered pixels (any triangle_id that is not a triangle, or is one with an index that is not a vertex) are to add
    zeros: their corners are spread over the vertices, so that not all of them meet at one. There must be triangles and
    vertices.
    """
    n, height, width = triangle_id.shape
    pixel = torch.arange(n * height * width, device=triangle_id.device)
    triangle = triangle_id.reshape(-1, 1).long()
    covered = (triangle >= 0) & (triangle < triangles.shape[0])
    corners = triangles.long()[torch.where(covered, triangle, 0).squeeze(-1)]
    covered = covered & ((corners >= 0) & (corners < num_vertices)).all(-1, keepdim=True)
    vertex = torch.where(covered, corners, (pixel % num_vertices).unsqueeze(-1))
    return covered, (pixel // (height * width)).unsqueeze(-1) * num_vertices + vertex


def sum_at(index: torch.Tensor, values: torch.Tensor, num_rows: int) -> torch.Tensor:
    """[num_rows, C]: row i is the sum of the values [M, C] whose index [M] is i, always added in the same order.

    On CUDA index_put sorts before it adds. On the CPU it may add from several threads in any order, but index_add on
    one dimension is a plain loop.
    """
    width = values.shape[1]
    if values.is_cuda:
        return values.new_zeros(num_rows, width).index_put((index,), values, accumulate=True)
    flat = (index.unsqueeze(-1) * width + torch.arange(width, device=index.device)).flatten()
    return values.new_zeros(num_rows * width).index_add(0, flat, values.flatten()).view(num_rows, width)


def group_by(keys: torch.Tensor, num_groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Items [N, P] by their keys, int32 from 0 to num_groups - 1; any other key: in no group. Nothing waits for a GPU.

    Returns start, int64 [N * num_groups + 1], and items, int64 [N * P]: the items of group g of image n, as n * P + p
    and ascending, are items[start[n * num_groups + g]] up to the next start.
    """
    total = keys.shape[0] * num_groups
    dtype = torch.int32 if total < 2**31 - 1 else torch.int64
    first = torch.arange(0, total, num_groups, dtype=dtype, device=keys.device) if total else keys.new_zeros(len(keys))
    group = torch.where((keys >= 0) & (keys < num_groups), keys.to(dtype) + first.unsqueeze(1), total)
    ordered, items = torch.sort(group.flatten(), stable=True)
    bounds = torch.arange(total + 1, dtype=dtype, device=keys.device)
    return torch.searchsorted(ordered, bounds), items


def vertex_corners(triangles: torch.Tensor, num_vertices: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The corners (3 * triangle + place) of each vertex in ascending order: int32 [V+1], where each vertex's begin, and
    int32 [3T]."""
    vertex, order = torch.sort(triangles.flatten(), stable=True)
    bounds = torch.arange(num_vertices + 1, dtype=torch.int32, device=triangles.device)
    return torch.searchsorted(vertex, bounds, out_int32=True), order.int()


def sum_samples(
    grad: torch.Tensor, strides: tuple[int, int], cell: torch.Tensor, fraction: torch.Tensor, out: torch.Tensor
) -> None:
    """Writes the gradient of the pictures [N, C, H, W] that were sampled: csrc/core/sample_sums.h.

    grad: of the samples, N images of C * P numbers whose channels and samples lie `strides` apart. cell, fraction:
    where the samples lie, int32 [N, P] and [N, P, 2].
    """
    n, c, height, width = out.shape
    start, samples = group_by(cell, (height + 1) * (width + 1))
    sizes = (n, cell.shape[1], c, height, width, *strides)
    call("sample_sums", out, sizes, (grad, fraction, start, samples), (out,))
