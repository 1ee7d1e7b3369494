"""Unit normals at the vertices of a mesh."""

from __future__ import annotations

from typing import Any

import torch

from facecore import _C
from facecore.ops._debug import check_indices
from facecore.ops._library import FLOATS, INT32, call, check_tensor, check_tensors, make_op
from facecore.ops._pixels import sum_at


def vertex_normals(vertices: torch.Tensor, triangles: torch.Tensor) -> torch.Tensor:
    """Returns the normalised sum of the unit normals of the triangles around each vertex, [N, V, 3].

    Args:
        vertices: float32 or float64 [N, V, 3], in any unit.
        triangles: vertex indices, int32 [T, 3], counter-clockwise seen from outside.

    A direction is not defined, and counts as (0, 0, 0) with zero gradient, when its length is at most 1e-6 times its
    natural scale: a triangle whose sine at its first corner is that small, a vertex whose unit normals cancel or that
    no triangle touches.

    Twice differentiable (and further) in vertices. Values, gradient and second derivative are deterministic on every
    device and for every number of threads: sums are added in the order of the triangles. Raises ValueError for a wrong
    shape, dtype or device, and for an index that is not a vertex: on the CPU always, on CUDA with
    facecore.ops.set_debug. METHODS 1.5.
    """
    check_tensors(vertices=vertices, triangles=triangles)
    sizes = _check_mesh(vertices, triangles)
    corner_start, corners = _vertex_corners(triangles, sizes["V"])
    return _vertex_normals(vertices, triangles, corner_start, corners)


def _check_mesh(vertices: torch.Tensor, triangles: torch.Tensor) -> dict[str, int]:
    sizes = check_tensor("vertices", vertices, ("N", "V", 3), FLOATS)
    return check_tensor("triangles", triangles, ("T", 3), INT32, like=vertices, sizes=sizes)


def _corners_fake(triangles: torch.Tensor, num_vertices: int) -> tuple[torch.Tensor, torch.Tensor]:
    check_tensor("triangles", triangles, ("T", 3), INT32)
    return triangles.new_empty(num_vertices + 1), triangles.new_empty(3 * triangles.shape[0])


def _corners_kernel(triangles: torch.Tensor, num_vertices: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The corners (3 * triangle + place) of each vertex in ascending order, as a CSR list."""
    corner_start, corners = _corners_fake(triangles, num_vertices)
    if triangles.is_cuda:
        check_indices("triangles", triangles, num_vertices)  # on the CPU the kernel always checks
        vertex, order = torch.sort(triangles.flatten(), stable=True)
        bounds = torch.arange(num_vertices + 1, dtype=torch.int32, device=triangles.device)
        corner_start.copy_(torch.searchsorted(vertex, bounds))
        corners.copy_(order)
    else:
        call("vertex_corners", triangles, (num_vertices, triangles.shape[0]), (triangles,), (corner_start, corners))
    return corner_start, corners


def _check(
    vertices: torch.Tensor, triangles: torch.Tensor, corner_start: torch.Tensor, corners: torch.Tensor
) -> dict[str, int]:
    sizes = _check_mesh(vertices, triangles)
    check_tensor("corner_start", corner_start, (sizes["V"] + 1,), INT32, like=vertices)
    check_tensor("corners", corners, (3 * sizes["T"],), INT32, like=vertices)
    return sizes


def _fake(
    vertices: torch.Tensor, triangles: torch.Tensor, corner_start: torch.Tensor, corners: torch.Tensor
) -> torch.Tensor:
    _check(vertices, triangles, corner_start, corners)
    return vertices.new_empty(vertices.shape)


def _kernel(
    vertices: torch.Tensor, triangles: torch.Tensor, corner_start: torch.Tensor, corners: torch.Tensor
) -> torch.Tensor:
    out = _fake(vertices, triangles, corner_start, corners)
    n, v, t = vertices.shape[0], vertices.shape[1], triangles.shape[0]
    check_indices("triangles", triangles, v)
    unit = vertices.new_empty(n, t, 4)
    call("vertex_normals", vertices, (n, v, t), (vertices, triangles, corner_start, corners), (unit, out))
    return out


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    return _vertex_normals_backward(grad_out, *ctx.saved_tensors), None, None, None


def _backward_fake(
    grad_out: torch.Tensor,
    vertices: torch.Tensor,
    triangles: torch.Tensor,
    corner_start: torch.Tensor,
    corners: torch.Tensor,
) -> torch.Tensor:
    sizes = _check(vertices, triangles, corner_start, corners)
    check_tensor("grad_out", grad_out, ("N", "V", 3), FLOATS, like=vertices, sizes=sizes)
    return vertices.new_empty(vertices.shape)


def _backward_kernel(
    grad_out: torch.Tensor,
    vertices: torch.Tensor,
    triangles: torch.Tensor,
    corner_start: torch.Tensor,
    corners: torch.Tensor,
) -> torch.Tensor:
    grad_vertices = _backward_fake(grad_out, vertices, triangles, corner_start, corners)
    n, v, t = vertices.shape[0], vertices.shape[1], triangles.shape[0]
    check_indices("triangles", triangles, v)
    unit, grad_sum = vertices.new_empty(n, t, 4), vertices.new_empty(n, v, 3)
    inputs = (grad_out, vertices, triangles, corner_start, corners)
    call("vertex_normals_backward", vertices, (n, v, t), inputs, (unit, grad_sum, grad_vertices))
    return grad_vertices


def _backward_backward(ctx: Any, direction: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    """Derivatives of vertex_normals_backward in plain torch, so that any further one follows.

    With w = direction and J the Jacobian of the normals: <w, backward(g)> = <g, J w>, whose gradient is J w for g, and
    for the vertices the adjoint of the two normalisations and two cross products below, taken in reverse.
    """
    grad_out, vertices, triangles, *_ = ctx.saved_tensors
    index = triangles.long()
    edges, edges_along = _edges(vertices, index), _edges(direction, index)
    normal = torch.linalg.cross(*edges)
    normal_along = _cross_along(edges, edges_along)
    scale = edges[0].square().sum(-1, keepdim=True) * edges[1].square().sum(-1, keepdim=True)
    unit, inverse = _normalize(normal, scale)
    total = _sum_at_vertices(unit.unsqueeze(2), index, vertices)
    total_along = _sum_at_vertices(_project(unit, inverse, normal_along).unsqueeze(2), index, vertices)
    unit_total, inverse_total = _normalize(total, torch.ones_like(total[..., :1]))
    for_grad_out = _project(unit_total, inverse_total, total_along)

    bar_total = _project_backward(unit_total, inverse_total, grad_out, total_along)
    bar_unit = bar_total[:, index].sum(2)
    bar_along = _project(unit_total, inverse_total, grad_out)[:, index].sum(2)
    bar_normal = _project(unit, inverse, bar_unit) + _project_backward(unit, inverse, bar_along, normal_along)
    bar_normal_along = _project(unit, inverse, bar_along)
    at_corners = _cross_backward(edges, bar_normal) + _cross_backward(edges_along, bar_normal_along)
    return for_grad_out, _sum_at_vertices(at_corners, index, vertices), None, None, None


_Edges = tuple[torch.Tensor, torch.Tensor]  # b - a and c - a of the triangles (a, b, c), [N, T, 3]


def _edges(vertices: torch.Tensor, index: torch.Tensor) -> _Edges:
    corners = vertices[:, index]
    return corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]


def _cross_along(edges: _Edges, edges_along: _Edges) -> torch.Tensor:
    return torch.linalg.cross(edges_along[0], edges[1]) + torch.linalg.cross(edges[0], edges_along[1])


def _cross_backward(edges: _Edges, grad: torch.Tensor) -> torch.Tensor:
    """The gradient of <grad, ab x ac> at the three corners, [N, T, 3, 3]."""
    at_b, at_c = torch.linalg.cross(edges[1], grad), torch.linalg.cross(grad, edges[0])
    return torch.stack([-at_b - at_c, at_b, at_c], dim=2)


def _sum_at_vertices(at_corners: torch.Tensor, index: torch.Tensor, vertices: torch.Tensor) -> torch.Tensor:
    """[N, V, 3] from values at the corners of the triangles, [N, T, 3, 3], or of the triangles, [N, T, 1, 3]."""
    n, v, _ = vertices.shape
    image = torch.arange(n, device=index.device).view(n, 1, 1)
    at_corners = at_corners.expand(-1, -1, 3, -1).reshape(-1, 3)
    return sum_at((index + v * image).flatten(), at_corners, n * v).view(n, v, 3)


def _normalize(vector: torch.Tensor, squared_scale: torch.Tensor) -> _Edges:
    """The unit vector and 1 / length, both 0 by the kernel's rule for undefined directions."""
    squared = vector.square().sum(-1, keepdim=True)
    defined = squared > _C.normal_epsilon**2 * squared_scale
    inverse = torch.where(defined, torch.where(defined, squared, 1.0).rsqrt(), 0.0)
    return vector * inverse, inverse


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a * b).sum(-1, keepdim=True)


def _project(unit: torch.Tensor, inverse: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """The derivative of v / |v| applied to `vector`, which is also its adjoint: (vector - u (u . vector)) / |v|."""
    return inverse * (vector - _dot(unit, vector) * unit)


def _project_backward(unit: torch.Tensor, inverse: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """d <a, _project(v, b)> / dv = (3 (u.a) (u.b) u - (a.b) u - (u.a) b - (u.b) a) / |v|^2."""
    along_a, along_b = _dot(unit, a), _dot(unit, b)
    return inverse.square() * ((3 * along_a * along_b - _dot(a, b)) * unit - along_a * b - along_b * a)


_vertex_corners = make_op(
    "vertex_corners", "(Tensor triangles, SymInt num_vertices) -> (Tensor, Tensor)", _corners_kernel, _corners_fake
)
_vertex_normals_backward = make_op(
    "vertex_normals_backward",
    "(Tensor grad_out, Tensor vertices, Tensor triangles, Tensor corner_start, Tensor corners) -> Tensor",
    _backward_kernel,
    _backward_fake,
    setup=_setup,
    backward=_backward_backward,
)
_vertex_normals = make_op(
    "vertex_normals",
    "(Tensor vertices, Tensor triangles, Tensor corner_start, Tensor corners) -> Tensor",
    _kernel,
    _fake,
    setup=_setup,
    backward=_backward,
)
