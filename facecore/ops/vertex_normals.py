"""Unit normals at the vertices of a mesh."""

from __future__ import annotations

from typing import Any

import torch

from facecore import _C
from facecore.ops._debug import check_indices
from facecore.ops._library import FLOATS, INT32, call, check_tensor, check_tensors, make_op, takes_cuda_bodies
from facecore.ops._pixels import sum_at, vertex_corners


def vertex_normals(vertices: torch.Tensor, triangles: torch.Tensor) -> torch.Tensor:
    """Returns the normalised sum of the unit normals of the triangles around each vertex, [N, V, 3].

    Args:
        vertices: float32 or float64 [N, V, 3], in any unit.
        triangles: vertex indices, int32 [T, 3], counter-clockwise seen from outside.

    A direction is not defined, and counts as (0, 0, 0) with zero gradient, when its length is at most 1e-6 times its
    natural scale: a triangle whose sine at its first corner is that small or that has a corner with a NaN or an
    infinity, a vertex whose unit normals cancel or that no triangle touches.

    Twice differentiable (and further) in vertices. Values, gradient and second derivative are deterministic on every
    device and for every number of threads: sums are added in the order of the triangles. Raises ValueError for a wrong
    shape, dtype or device, and for an index that is not a vertex: on the CPU always, on CUDA with
    facecore.ops.set_debug. METHODS 1.5.
    """
    check_tensors(vertices=vertices, triangles=triangles)
    sizes = _check_mesh(vertices, triangles)
    corners = _vertex_corners(triangles, sizes["V"]) if takes_cuda_bodies(vertices) else (None, None)
    return _vertex_normals(vertices, triangles, *corners)[0]


def _check_mesh(vertices: torch.Tensor, triangles: torch.Tensor) -> dict[str, int]:
    sizes = check_tensor("vertices", vertices, ("N", "V", 3), FLOATS)
    check_tensor("triangles", triangles, ("T", 3), INT32, like=vertices, sizes=sizes)
    if 3 * sizes["T"] >= 2**31:
        raise ValueError(f"triangles must have fewer than 2^31 corners, got shape {list(triangles.shape)}")
    return sizes


def _corners_fake(triangles: torch.Tensor, num_vertices: int) -> tuple[torch.Tensor, torch.Tensor]:
    check_tensor("triangles", triangles, ("T", 3), INT32)
    return triangles.new_empty(num_vertices + 1), triangles.new_empty(3 * triangles.shape[0])


def _corners_kernel(triangles: torch.Tensor, num_vertices: int) -> tuple[torch.Tensor, torch.Tensor]:
    """For CUDA; the CPU adds."""
    _corners_fake(triangles, num_vertices)
    check_indices("triangles", triangles, num_vertices)
    return vertex_corners(triangles, num_vertices)


def _check(
    vertices: torch.Tensor,
    triangles: torch.Tensor,
    corner_start: torch.Tensor | None,
    corners: torch.Tensor | None,
) -> dict[str, int]:
    sizes = _check_mesh(vertices, triangles)
    if takes_cuda_bodies(vertices) or corner_start is not None or corners is not None:
        check_tensor("corner_start", corner_start, (sizes["V"] + 1,), INT32, like=vertices)
        check_tensor("corners", corners, (3 * sizes["T"],), INT32, like=vertices)
    return sizes


def _workspaces(vertices: torch.Tensor, num_triangles: int, count: int) -> list[torch.Tensor | None]:
    """What the kernels keep between their steps: the triangles' normals on CUDA, on the CPU up to 64 bytes of images
    side by side."""
    n, v, _ = vertices.shape
    if takes_cuda_bodies(vertices):
        work = [vertices.new_empty(n, num_triangles, 4), None, vertices.new_empty(n, v, 3)]
        return work[:count]
    lanes = min(64 // vertices.element_size(), max(4, 1 << (n - 1).bit_length())) if n > 1 else 1
    # one allocation: the C library gives several large ones back to the system between calls, and each page costs anew
    return list(vertices.new_empty(count, v, 3, lanes).unbind(0))


def _fake(
    vertices: torch.Tensor,
    triangles: torch.Tensor,
    corner_start: torch.Tensor | None,
    corners: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    _check(vertices, triangles, corner_start, corners)
    return vertices.new_empty(vertices.shape), vertices.new_empty(vertices.shape[:2])


def _kernel(
    vertices: torch.Tensor,
    triangles: torch.Tensor,
    corner_start: torch.Tensor | None,
    corners: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The normals, and for the gradient 1 / length of the sum of unit normals."""
    out, inverse = _fake(vertices, triangles, corner_start, corners)
    sizes = _sizes(vertices, triangles)
    inputs = (vertices, triangles, corner_start, corners)
    call("vertex_normals", vertices, sizes, inputs, (*_workspaces(vertices, sizes[2], 2), out, inverse))
    return out, inverse


def _sizes(vertices: torch.Tensor, triangles: torch.Tensor) -> tuple[int, ...]:
    if takes_cuda_bodies(triangles):
        check_indices("triangles", triangles, vertices.shape[1])  # on the CPU the kernel always checks
    return vertices.shape[0], vertices.shape[1], triangles.shape[0], torch.get_num_threads()


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    normals, inverse = output
    ctx.mark_non_differentiable(inverse)
    ctx.save_for_backward(*inputs, normals, inverse)


def _backward(ctx: Any, grad_out: torch.Tensor, _: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
    return _vertex_normals_backward(grad_out, *ctx.saved_tensors), None, None, None


def _backward_fake(
    grad_out: torch.Tensor,
    vertices: torch.Tensor,
    triangles: torch.Tensor,
    corner_start: torch.Tensor | None,
    corners: torch.Tensor | None,
    normals: torch.Tensor,
    inverse: torch.Tensor,
) -> torch.Tensor:
    sizes = _check(vertices, triangles, corner_start, corners)
    check_tensor("grad_out", grad_out, ("N", "V", 3), FLOATS, like=vertices, sizes=sizes)
    check_tensor("normals", normals, ("N", "V", 3), FLOATS, like=vertices, sizes=sizes)
    check_tensor("inverse", inverse, ("N", "V"), FLOATS, like=vertices, sizes=sizes)
    return vertices.new_empty(vertices.shape)


def _backward_kernel(
    grad_out: torch.Tensor,
    vertices: torch.Tensor,
    triangles: torch.Tensor,
    corner_start: torch.Tensor | None,
    corners: torch.Tensor | None,
    normals: torch.Tensor,
    inverse: torch.Tensor,
) -> torch.Tensor:
    inputs = (grad_out, vertices, triangles, corner_start, corners, normals, inverse)
    grad_vertices = _backward_fake(*inputs)
    sizes = _sizes(vertices, triangles)
    call("vertex_normals_backward", vertices, sizes, inputs, (*_workspaces(vertices, sizes[2], 3), grad_vertices))
    return grad_vertices


def _backward_setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs[:3])


def _backward_backward(ctx: Any, direction: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    """Derivatives of vertex_normals_backward in plain torch, so that any further one follows.

    With w = direction and J the Jacobian of the normals: <w, backward(g)> = <g, J w>, whose gradient is J w for g, and
    for the vertices the adjoint of the two normalisations and two cross products below, taken in reverse.
    """
    grad_out, vertices, triangles = ctx.saved_tensors
    is_vertex = ((triangles >= 0) & (triangles < vertices.shape[1])).all(1, keepdim=True)
    index = torch.where(is_vertex, triangles, 0).long()  # three equal corners: no normal, as the kernels leave it out
    edges, edges_along = _edges(vertices, index), _edges(direction, index)
    normal = torch.linalg.cross(*edges)
    scale = edges[0].square().sum(-1, keepdim=True) * edges[1].square().sum(-1, keepdim=True)
    unit, inverse = _normalize(normal, scale)
    edges = _where_positive(inverse, edges[0]), _where_positive(inverse, edges[1])
    normal_along = _cross_along(edges, edges_along)
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
    return for_grad_out, _sum_at_vertices(at_corners, index, vertices), None, None, None, None, None


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
    return _where_positive(inverse, vector * inverse), inverse


def _where_positive(inverse: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """Nothing of an undefined direction gets anywhere, NaN and infinity neither."""
    return torch.where(inverse > 0, vector, 0.0)


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
_MESH = "Tensor vertices, Tensor triangles, Tensor? corner_start, Tensor? corners"
_vertex_normals_backward = make_op(
    "vertex_normals_backward_v2",
    f"(Tensor grad_out, {_MESH}, Tensor normals, Tensor inverse) -> Tensor",
    _backward_kernel,
    _backward_fake,
    setup=_backward_setup,
    backward=_backward_backward,
)
_vertex_normals = make_op(
    "vertex_normals_v2", f"({_MESH}) -> (Tensor, Tensor)", _kernel, _fake, setup=_setup, backward=_backward
)
