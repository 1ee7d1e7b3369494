"""What derivatives in plain torch need: the corners seen at every pixel, and sums in a fixed order on every device."""

from __future__ import annotations

import torch


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


def sample_corners(place: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The four pixels of bilinear samples and their weights, int64 [N, P, 4] of [N * H * W] and [N, P, 4].

    place: (x, y) in pixels, [N, P, 2], in the picture; the formulas are those of csrc/core/bilinear.h.
    """
    limits = place.new_tensor([width - 1, height - 1])
    first = (place - 0.5).floor()
    along, down = (place - 0.5 - first).unbind(-1)
    left, top = first.clamp_min(0).long().unbind(-1)
    right, bottom = (first + 1).minimum(limits).long().unbind(-1)
    image = torch.arange(place.shape[0], device=place.device).view(-1, 1) * height
    index = [(image + row) * width + column for row in (top, bottom) for column in (left, right)]
    weight = [vertical * side for vertical in (1 - down, down) for side in (1 - along, along)]
    return torch.stack(index, -1), torch.stack(weight, -1)
