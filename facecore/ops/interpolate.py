"""Per-vertex attributes to pixels."""

from __future__ import annotations

from typing import Any

import torch

from facecore.ops._debug import check_indices
from facecore.ops._library import FLOATS, INT32, call, check_tensor, check_tensors, gathers, make_op, wanted_gradients
from facecore.ops._pixels import group_by, vertex_corners


def interpolate(
    attributes: torch.Tensor, triangles: torch.Tensor, triangle_id: torch.Tensor, barycentric: torch.Tensor
) -> torch.Tensor:
    """Returns the attribute value at each pixel, [N, H, W, C]; 0 where no triangle covers the pixel.

    Args:
        attributes: per-vertex values, float32 or float64 [N, V, C].
        triangles: vertex indices, int32 [T, 3]; a triangle with an index that is not a vertex covers nothing (an error
            with facecore.ops.set_debug; Mesh validates its triangles once).
        triangle_id: rasterizer output, int32 [N, H, W]; -1 marks an uncovered pixel, and so does any value that is not
            a triangle, of another mesh say (an error with facecore.ops.set_debug).
        barycentric: rasterizer output, dtype of attributes, [N, H, W, 3], in the order of `triangles`.

    Twice differentiable in attributes and barycentric. Deterministic on the CPU and bit-equal for any number of
    threads: the gradient of a vertex is added up in the order of the pixels. On CUDA it is added with atomics, and
    gathered in a fixed order (slower, with memory to sort the ids) under
    torch.use_deterministic_algorithms(True).
    Raises ValueError for a wrong shape, dtype or device. METHODS 1.8.
    """
    check_tensors(attributes=attributes, triangles=triangles, triangle_id=triangle_id, barycentric=barycentric)
    return _interpolate(attributes, triangles, triangle_id, barycentric)


def _check(
    attributes: torch.Tensor, triangles: torch.Tensor, triangle_id: torch.Tensor, barycentric: torch.Tensor
) -> dict[str, int]:
    sizes = check_tensor("attributes", attributes, ("N", "V", "C"), FLOATS)
    check_tensor("triangles", triangles, ("T", 3), INT32, like=attributes)
    check_tensor("triangle_id", triangle_id, ("N", "H", "W"), INT32, like=attributes, sizes=sizes)
    if sizes["H"] * sizes["W"] >= 2**31:
        raise ValueError(f"triangle_id must have fewer than 2^31 pixels an image, got shape {list(triangle_id.shape)}")
    return check_tensor("barycentric", barycentric, ("N", "H", "W", 3), FLOATS, like=attributes, sizes=sizes)


def _fake(
    attributes: torch.Tensor, triangles: torch.Tensor, triangle_id: torch.Tensor, barycentric: torch.Tensor
) -> torch.Tensor:
    size = _check(attributes, triangles, triangle_id, barycentric)
    return attributes.new_empty(size["N"], size["H"], size["W"], size["C"])


def _kernel(
    attributes: torch.Tensor, triangles: torch.Tensor, triangle_id: torch.Tensor, barycentric: torch.Tensor
) -> torch.Tensor:
    out = _fake(attributes, triangles, triangle_id, barycentric)
    _check_indices(attributes, triangles, triangle_id)
    sizes = _sizes(attributes, triangles, out)
    call("interpolate", attributes, sizes, (attributes, triangles, triangle_id, barycentric), (out,))
    return out


def _check_indices(attributes: torch.Tensor, triangles: torch.Tensor, triangle_id: torch.Tensor) -> None:
    check_indices("triangles", triangles, attributes.shape[1])
    check_indices("triangle_id", triangle_id, triangles.shape[0], "triangles", lowest=-1)


def _sizes(attributes: torch.Tensor, triangles: torch.Tensor, grad_out: torch.Tensor) -> tuple[int, ...]:
    n, h, w, c = grad_out.shape
    return n, h * w, attributes.shape[1], triangles.shape[0], c


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    wanted = [wanted_gradients(ctx)[i] for i in (0, 3)]
    grads = _interpolate_backward(grad_out, *ctx.saved_tensors, *wanted)
    grad_attributes, grad_barycentric = (grad if want else None for grad, want in zip(grads, wanted))
    return grad_attributes, None, None, grad_barycentric


def _backward_fake(
    grad_out: torch.Tensor,
    attributes: torch.Tensor,
    triangles: torch.Tensor,
    triangle_id: torch.Tensor,
    barycentric: torch.Tensor,
    to_attributes: bool,
    to_barycentric: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    sizes = _check(attributes, triangles, triangle_id, barycentric)
    check_tensor("grad_out", grad_out, ("N", "H", "W", "C"), FLOATS, like=attributes, sizes=sizes)
    return (
        attributes.new_empty(attributes.shape if to_attributes else 0),
        barycentric.new_empty(barycentric.shape if to_barycentric else 0),
    )


def _backward_kernel(
    grad_out: torch.Tensor,
    attributes: torch.Tensor,
    triangles: torch.Tensor,
    triangle_id: torch.Tensor,
    barycentric: torch.Tensor,
    to_attributes: bool,
    to_barycentric: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    grad_attributes, grad_barycentric = _backward_fake(
        grad_out, attributes, triangles, triangle_id, barycentric, to_attributes, to_barycentric
    )
    _check_indices(attributes, triangles, triangle_id)
    sizes = _sizes(attributes, triangles, grad_out)
    gathered = to_attributes and gathers(attributes)
    if gathered:
        lists = (*vertex_corners(triangles, sizes[2]), *group_by(triangle_id.flatten(1), sizes[3]))
        tables = (grad_out, triangles, triangle_id, barycentric, *lists)
        call("interpolate_vertex_gradient", attributes, sizes, tables, (grad_attributes,))
    added = to_attributes and not gathered
    if added or to_barycentric:
        inputs = (grad_out, attributes, triangles, triangle_id, barycentric)
        outputs = (grad_attributes.zero_() if added else None, grad_barycentric if to_barycentric else None)
        call("interpolate_backward", attributes, (*sizes, torch.get_num_threads()), inputs, outputs)
    return grad_attributes, grad_barycentric


def _backward_setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs[:5])
    ctx.wanted = inputs[5:]


def _backward_backward(
    ctx: Any, grad_grad_attributes: torch.Tensor | None, grad_grad_barycentric: torch.Tensor | None
) -> tuple[torch.Tensor | None, ...]:
    """interpolate_backward is bilinear, so its derivatives are interpolate and interpolate_backward again."""
    grad_out, attributes, triangles, triangle_id, barycentric = ctx.saved_tensors
    to_grad_out = to_attributes = to_barycentric = None
    if grad_grad_attributes is not None and ctx.wanted[0]:
        to_grad_out = _interpolate(grad_grad_attributes, triangles, triangle_id, barycentric)
        inputs = grad_out, grad_grad_attributes, triangles, triangle_id, barycentric
        to_barycentric = _interpolate_backward(*inputs, False, True)[1]
    if grad_grad_barycentric is not None and ctx.wanted[1]:
        term = _interpolate(attributes, triangles, triangle_id, grad_grad_barycentric)
        to_grad_out = term if to_grad_out is None else to_grad_out + term
        inputs = grad_out, attributes, triangles, triangle_id, grad_grad_barycentric
        to_attributes = _interpolate_backward(*inputs, True, False)[0]
    return to_grad_out, to_attributes, None, None, to_barycentric, None, None


_interpolate_backward = make_op(
    "interpolate_backward_v2",
    "(Tensor grad_out, Tensor attributes, Tensor triangles, Tensor triangle_id, Tensor barycentric,"
    " bool to_attributes, bool to_barycentric) -> (Tensor, Tensor)",
    _backward_kernel,
    _backward_fake,
    setup=_backward_setup,
    backward=_backward_backward,
)
_interpolate = make_op(
    "interpolate",
    "(Tensor attributes, Tensor triangles, Tensor triangle_id, Tensor barycentric) -> Tensor",
    _kernel,
    _fake,
    setup=_setup,
    backward=_backward,
)
