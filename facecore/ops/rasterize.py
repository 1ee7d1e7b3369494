"""Clip-space triangles to the nearest triangle and its barycentrics at each pixel."""

from __future__ import annotations

from typing import Any

import torch

from facecore.ops._debug import check_indices
from facecore.ops._library import FLOATS, INT32, call, check_tensor, check_tensors, gathers, make_op, takes_cuda_bodies
from facecore.ops._pixels import corners_at_pixels, group_by, sum_at, vertex_corners
from facecore.structures import Fragments

MAX_SIZE = 16384  # pixels a side: keeps the snapped coordinates of csrc/core/triangle.h in range
_SERIAL_WORK = 1 << 15  # vertices + triangles + pixels below which starting threads costs more than it saves
_KEY_BYTES = 256 << 20  # of the CPU threads' keys, 8 to a pixel each: fewer threads where they would not fit
# When a triangle has barycentrics: PixelTriangle in csrc/core/pixel_triangle.h.
_SMALLEST_S, _FARTHEST_FROM_HALF = 1e-9, 1.5


def rasterize(
    vertices_clip: torch.Tensor, triangles: torch.Tensor, height: int, width: int, *, cull_backfaces: bool = False
) -> Fragments:
    """Returns the nearest triangle at each pixel centre, with its perspective-correct barycentrics and depth.

    Args:
        vertices_clip: homogeneous clip coordinates (x, y, z, w), float32 or float64 [N, V, 4]; NDC = xyz / w, x right,
            y up, z smaller = nearer, seen where all are in [-1, 1].
        triangles: vertex indices, int32 [T, 3], shared by the images; counter-clockwise seen from the front.
        height, width: the picture's size in pixels, 0 to 16384. Row 0 is the top; the centre of pixel (i, j) is at NDC
            x = 2 (j + 0.5) / width - 1, y = 1 - 2 (i + 0.5) / height.
        cull_backfaces: leave out triangles that are clockwise on the screen.

    Returns Fragments: triangle_id int32 [N, H, W], -1 = uncovered; barycentric [N, H, W, 3], 0 where uncovered;
    z_ndc [N, H, W] with float32 accuracy, 1 where uncovered.

    Coverage is exact: vertices are snapped to 1/256 pixel, a centre on a shared edge belongs to one triangle (top-left
    rule), the nearest float32 depth wins, then the lowest triangle. Triangles that cross |z| = w or reach further than
    64 half pictures from the centre are clipped. Triangles with a vertex that is NaN, infinite or (0, 0, 0, 0), or with
    an index out of range, are not drawn (facecore.ops.set_debug makes the last an error). Barycentrics come from the
    unsnapped vertices, so they may be slightly negative at an edge; a triangle thinner than the snapping gives the
    snapped ones. facecore/reference_rasterize.py states the rule in full.

    barycentric is twice differentiable in vertices_clip, with triangle_id held fixed (zero where a triangle is thinner
    than the snapping, none through occlusion); triangle_id and z_ndc are not differentiable. triangle_id and z_ndc are
    bit-equal on every device and for any number of threads. The gradient is deterministic on the CPU, for any number of
    threads; on CUDA it is added with atomics, and gathered in a fixed order (slower, with memory to sort
    the ids) under torch.use_deterministic_algorithms(True). The second derivative is deterministic on every device.
    Raises ValueError for a wrong shape, dtype, device or size. METHODS 1.8.
    """
    for name, size in (("height", height), ("width", width)):
        if isinstance(size, bool) or not isinstance(size, (int, torch.SymInt)):
            raise ValueError(f"{name} must be an int, got {type(size).__name__}")
    check_tensors(vertices_clip=vertices_clip, triangles=triangles)
    barycentric, z_ndc, triangle_id = _rasterize(vertices_clip, triangles, height, width, bool(cull_backfaces))
    return Fragments(triangle_id, barycentric, z_ndc)


def _check(vertices_clip: torch.Tensor, triangles: torch.Tensor) -> dict[str, int]:
    sizes = check_tensor("vertices_clip", vertices_clip, ("N", "V", 4), FLOATS)
    check_tensor("triangles", triangles, ("T", 3), INT32, like=vertices_clip, sizes=sizes)
    if sizes["T"] >= 2**31:
        raise ValueError(f"triangles must have fewer than 2^31 rows, got {sizes['T']}")
    return sizes


def _fake(
    vertices_clip: torch.Tensor, triangles: torch.Tensor, height: int, width: int, cull_backfaces: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    n = _check(vertices_clip, triangles)["N"]
    for name, size in (("height", height), ("width", width)):
        if size < 0 or size > MAX_SIZE:
            raise ValueError(f"{name} must be from 0 to {MAX_SIZE}, got {size}")
    return (
        vertices_clip.new_empty((n, height, width, 3)),
        vertices_clip.new_empty((n, height, width)),
        vertices_clip.new_empty((n, height, width), dtype=torch.int32),
    )


def _kernel(
    vertices_clip: torch.Tensor, triangles: torch.Tensor, height: int, width: int, cull_backfaces: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    outputs = _fake(vertices_clip, triangles, height, width, cull_backfaces)
    n, v, t, pixels = *vertices_clip.shape[:2], triangles.shape[0], height * width
    check_indices("triangles", triangles, v)
    threads = 1
    snapped = None
    if takes_cuda_bodies(vertices_clip):
        keys = vertices_clip.new_full((n, pixels), -1, dtype=torch.int64)  # all bits set: uncovered
    else:
        if n * (v + t + pixels) > _SERIAL_WORK:
            threads = min(torch.get_num_threads(), max(1, _KEY_BYTES // (8 * max(1, pixels))))
        keys = vertices_clip.new_empty((threads, pixels), dtype=torch.int64)
        snapped = vertices_clip.new_empty((threads if n >= threads else 1, v, 4), dtype=torch.int32)
    call(
        "rasterize",
        vertices_clip,
        (n, v, t, height, width, int(cull_backfaces), threads),
        (vertices_clip, triangles),
        (snapped, keys, *outputs),
    )
    return outputs


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    vertices_clip, triangles = inputs[:2]
    _, z_ndc, triangle_id = output
    ctx.mark_non_differentiable(z_ndc, triangle_id)
    ctx.save_for_backward(vertices_clip, triangles, triangle_id)
    ctx.save_for_forward(vertices_clip, triangles, triangle_id)


def _jvp(ctx: Any, tangent: torch.Tensor, *others: Any) -> tuple[torch.Tensor | None, ...]:
    """Forward mode: db_i = -c_i . sum_j b_j dq_j."""
    vertices_clip, triangles, triangle_id = ctx.saved_tensors
    if _is_empty(vertices_clip, triangles, triangle_id):
        return tangent.new_zeros(*triangle_id.shape, 3), None, None
    pixels = _PixelTriangles(vertices_clip, triangles, triangle_id)
    u = (pixels.b * pixels.gather(tangent)).sum(1, keepdim=True)
    return -(pixels.c * u).sum(-1).reshape(*triangle_id.shape, 3), None, None


def _vmap(info: Any, in_dims: Any, vertices_clip: torch.Tensor, triangles: torch.Tensor, *options: Any) -> Any:
    """Mapped images are more images of the batch; one set of triangles serves all."""
    if in_dims[1] is not None:
        raise ValueError("triangles cannot be mapped by vmap: all images share them; call rasterize once per mesh")
    mapped = vertices_clip.movedim(in_dims[0], 0)
    outputs = _rasterize(mapped.flatten(0, 1), triangles, *options)
    return tuple(x.unflatten(0, mapped.shape[:2]) for x in outputs), (0, 0, 0)


def _backward(
    ctx: Any, grad_barycentric: torch.Tensor, grad_z_ndc: torch.Tensor | None, grad_triangle_id: torch.Tensor | None
) -> tuple[torch.Tensor | None, ...]:
    return _rasterize_backward(grad_barycentric, *ctx.saved_tensors), None, None, None, None


def _backward_fake(
    grad_barycentric: torch.Tensor, vertices_clip: torch.Tensor, triangles: torch.Tensor, triangle_id: torch.Tensor
) -> torch.Tensor:
    sizes = _check(vertices_clip, triangles)
    check_tensor("triangle_id", triangle_id, ("N", "H", "W"), INT32, like=vertices_clip, sizes=sizes)
    check_tensor("grad_barycentric", grad_barycentric, ("N", "H", "W", 3), FLOATS, like=vertices_clip, sizes=sizes)
    return torch.empty_like(vertices_clip, memory_format=torch.contiguous_format)


def _backward_kernel(
    grad_barycentric: torch.Tensor, vertices_clip: torch.Tensor, triangles: torch.Tensor, triangle_id: torch.Tensor
) -> torch.Tensor:
    grad_vertices = _backward_fake(grad_barycentric, vertices_clip, triangles, triangle_id)
    n, h, w = triangle_id.shape
    sizes = (n, vertices_clip.shape[1], triangles.shape[0], h, w)
    inputs = (grad_barycentric, vertices_clip, triangles, triangle_id)
    if gathers(vertices_clip):
        corners = vertex_corners(triangles, sizes[1])
        groups = group_by(triangle_id.flatten(1), sizes[2])
        call("rasterize_vertex_gradient", vertices_clip, sizes, (*inputs, *corners, *groups), (grad_vertices,))
    else:
        call("rasterize_backward", vertices_clip, (*sizes, torch.get_num_threads()), inputs, (grad_vertices.zero_(),))
    return grad_vertices


def _is_empty(vertices_clip: torch.Tensor, triangles: torch.Tensor, triangle_id: torch.Tensor) -> bool:
    return triangle_id.numel() == 0 or triangles.shape[0] == 0 or vertices_clip.shape[1] == 0


class _PixelTriangles:
    """b [P, 3, 1] and c [P, 3, 2] of csrc/core/pixel_triangle.h at every pixel, in differentiable torch operations.

    db_i = -sum_j b_j (c_i . dq_j),  dc_i = -sum_j (c_i . dq_j) c_j  for dq_j = (dx_j - px dw_j, dy_j - py dw_j):
    b and c are closed under differentiation, so every derivative of the barycentrics is made of the two. Both are 0
    where there is no gradient (not `regular`): at uncovered pixels and for triangles thinner than the snapping. What is
    multiplied by them is set to 0 there too: a NaN at such a pixel or at the vertex that stands in for its corners goes
    nowhere, as in the kernel.
    """

    def __init__(self, vertices_clip: torch.Tensor, triangles: torch.Tensor, triangle_id: torch.Tensor) -> None:
        n, height, width = triangle_id.shape
        self.shape = vertices_clip.shape
        pixel = torch.arange(n * height * width, device=triangle_id.device)
        column, row = pixel % width, pixel // width % height
        x = (2 * column + 1 - width).to(vertices_clip.dtype) / width
        y = (height - 2 * row - 1).to(vertices_clip.dtype) / height
        self.center = torch.stack((x, y), -1).unsqueeze(1)  # [P, 1, 2]
        covered, self.index = corners_at_pixels(triangles, triangle_id, self.shape[1])
        position = vertices_clip.reshape(-1, 4)[self.index]  # [P, 3, 4]
        q, w = self._move(position), position[..., 3]
        next_q, last_q, next_w, last_w = q[:, [1, 2, 0]], q[:, [2, 0, 1]], w[:, [1, 2, 0]], w[:, [2, 0, 1]]
        edge = next_q[..., 0] * last_q[..., 1] - last_q[..., 0] * next_q[..., 1]
        total, determinant = edge.sum(-1, keepdim=True), (edge * w).sum(-1, keepdim=True)
        b = edge / torch.where(total == 0, 1.0, total)
        regular = covered & (total.abs() >= _SMALLEST_S * determinant.abs()) & (determinant != 0)
        regular = (regular & ((b - 0.5).abs() <= _FARTHEST_FROM_HALF).all(-1, keepdim=True)).unsqueeze(-1)
        self.regular = regular  # [P, 1, 1]
        rows = torch.stack(
            (next_q[..., 1] * last_w - last_q[..., 1] * next_w, last_q[..., 0] * next_w - next_q[..., 0] * last_w), -1
        )
        rows = rows / torch.where(determinant == 0, 1.0, determinant).unsqueeze(-1)  # x, y of the rows of M^-1
        self.b = torch.where(regular, b.unsqueeze(-1), 0.0)
        self.c = torch.where(regular, rows - self.b * rows.sum(1, keepdim=True), 0.0)

    def gather(self, vertices: torch.Tensor) -> torch.Tensor:
        """dq of [N, V, 4]: [P, 3, 2]."""
        return torch.where(self.regular, self._move(vertices.reshape(-1, 4)[self.index]), 0.0)

    def gradient(self, grad_barycentric: torch.Tensor) -> torch.Tensor:
        """G = sum_i grad_b_i c_i, [P, 1, 2]."""
        grad = torch.where(self.regular, grad_barycentric.reshape(-1, 3, 1), 0.0)
        return (grad * self.c).sum(1, keepdim=True)

    def scatter(self, grad_q: torch.Tensor) -> torch.Tensor:
        """The transpose of gather: [P, 3, 2] to [N, V, 4], added in a fixed order."""
        along_w = -(self.center * grad_q).sum(-1, keepdim=True)
        grad_corners = torch.cat((grad_q, torch.zeros_like(along_w), along_w), -1)
        return sum_at(self.index.flatten(), grad_corners.flatten(0, 1), self.shape[0] * self.shape[1]).view(self.shape)

    def _move(self, position: torch.Tensor) -> torch.Tensor:
        return position[..., :2] - self.center * position[..., 3:]


def _backward_setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _backward_backward(ctx: Any, grad_grad_vertices: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    """For phi = <grad_grad, rasterize_backward> = -G . u with u = sum_j b_j gq_j, gq = dq of grad_grad:

    dphi/dgrad_b_i = -c_i . u,   dphi/dq_k = (c_k . u) G + b_k sum_j (G . gq_j) c_j
    """
    grad_barycentric, vertices_clip, triangles, triangle_id = ctx.saved_tensors
    if _is_empty(vertices_clip, triangles, triangle_id):
        return torch.zeros_like(grad_barycentric), torch.zeros_like(vertices_clip), None, None
    pixels = _PixelTriangles(vertices_clip, triangles, triangle_id)
    b, c, gq = pixels.b, pixels.c, pixels.gather(grad_grad_vertices)
    gradient = pixels.gradient(grad_barycentric)
    along_u = (c * (b * gq).sum(1, keepdim=True)).sum(-1, keepdim=True)
    to_q = along_u * gradient + b * ((gradient * gq).sum(-1, keepdim=True) * c).sum(1, keepdim=True)
    return -along_u.reshape(grad_barycentric.shape), pixels.scatter(to_q), None, None


def _backward_vmap(info: Any, in_dims: Any, *tensors: torch.Tensor) -> Any:
    if in_dims[2] is not None:
        raise ValueError("triangles cannot be mapped by vmap: all images share them")
    triangles = tensors[2]
    mapped = [
        tensors[i].expand(info.batch_size, *tensors[i].shape)
        if in_dims[i] is None
        else tensors[i].movedim(in_dims[i], 0)
        for i in (0, 1, 3)
    ]
    grad_barycentric, vertices_clip, triangle_id = (x.flatten(0, 1) for x in mapped)
    grad = _rasterize_backward(grad_barycentric, vertices_clip, triangles, triangle_id)
    return grad.unflatten(0, mapped[1].shape[:2]), 0


_rasterize_backward = make_op(
    "rasterize_backward",
    "(Tensor grad_barycentric, Tensor vertices_clip, Tensor triangles, Tensor triangle_id) -> Tensor",
    _backward_kernel,
    _backward_fake,
    setup=_backward_setup,
    backward=_backward_backward,
    vmap=_backward_vmap,
)
_rasterize = make_op(
    "rasterize",
    "(Tensor vertices_clip, Tensor triangles, SymInt height, SymInt width, bool cull_backfaces)"
    " -> (Tensor, Tensor, Tensor)",
    _kernel,
    _fake,
    setup=_setup,
    backward=_backward,
    jvp=_jvp,
    vmap=_vmap,
)
