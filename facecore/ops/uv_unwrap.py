"""Pictures of a mesh to its texture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from facecore import _C
from facecore.ops._debug import check_indices
from facecore.ops._library import (
    FLOATS,
    INT32,
    call,
    check_tensor,
    check_tensors,
    gathers,
    make_op,
    takes_cuda_bodies,
    wanted_gradients,
)
from facecore.ops._pixels import sum_samples
from facecore.ops.rasterize import MAX_SIZE
from facecore.structures import Fragments, UVMap

_CPU_BLOCK, _CUDA_BLOCK = 256, 16  # vertices that one thread searches for the depth range


def uv_unwrap(
    image: torch.Tensor, vertices_clip: torch.Tensor, uv_map: UVMap, fragments: Fragments | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the texture that pictures show, [N, C, Hu, Wu], 0 where it is not visible, and valid, bool [N, Hu, Wu].

    Args:
        image: float32 or float64 [N, C, H, W], at most 16384 pixels a side.
        vertices_clip: the mesh in the pictures, clip coordinates as facecore.ops.rasterize takes them, dtype of image,
            [N, V, 4].
        uv_map: the mesh's texels (facecore.mesh.build_uv_map), on the same device and of the same dtype (UVMap.to).
        fragments: facecore.ops.rasterize(vertices_clip, uv_map.triangles, H, W), for self-occlusion. None: every texel
            that faces the camera counts as seen, hidden ones too.

    A texel's clip coordinates are interpolated by the table and divided by w; its value is bilinear at that place, the
    border's pixels continued outwards from their centres. It is valid when it is in the table, inside of the picture
    and the clip volume, its triangle is counter-clockwise on the screen, and at the centre of the pixel that holds it
    the triangle's plane (no slope steeper than 10 % of the mesh's depth range per pixel) lies at most 0.5 % of the
    depth range behind z_ndc, or the pixel shows the triangle or one that shares a vertex with it. A texel at a vertex
    that is NaN or infinite is not valid.

    Differentiable (once) in image and vertices_clip, with valid held fixed; the second derivative raises RuntimeError,
    and valid is not differentiable. Texels that are not valid have no gradient, whatever comes in for them.
    Deterministic on the CPU, for any number of threads; on CUDA the gradients are added with atomics, and gathered
    in a fixed order (slower, with memory for a dozen numbers per texel) under torch.use_deterministic_algorithms(True).
    Raises ValueError for a wrong shape, dtype or device, and with facecore.ops.set_debug for a table whose indices do
    not fit together or a triangle_id that is not a triangle; otherwise such texels and pixels count as empty.
    METHODS 1.9.
    """
    check_tensors(image=image, vertices_clip=vertices_clip)
    if not isinstance(uv_map, UVMap):
        raise ValueError(f"uv_map must be a UVMap of facecore.mesh.build_uv_map, got {type(uv_map).__name__}")
    fields = ("triangles", "corners", "barycentric", "vertex_start", "vertex_texels")
    check_tensors(**{f"uv_map.{name}": getattr(uv_map, name) for name in fields})
    check_tensor("uv_map.corners", uv_map.corners, ("Hu", "Wu", 3), INT32)
    check_tensor("uv_map.barycentric", uv_map.barycentric, ("Hu", "Wu", 3), FLOATS)
    z_ndc = triangle_id = None
    if fragments is not None:
        if not isinstance(fragments, Fragments):
            raise ValueError(f"fragments must be the Fragments of rasterize or None, got {type(fragments).__name__}")
        check_tensors(**{"fragments.z_ndc": fragments.z_ndc, "fragments.triangle_id": fragments.triangle_id})
        z_ndc, triangle_id = fragments.z_ndc.detach(), fragments.triangle_id
    return _uv_unwrap(
        image,
        vertices_clip,
        uv_map.corners.permute(2, 0, 1),
        uv_map.barycentric.permute(2, 0, 1),
        uv_map.triangles,
        uv_map.vertex_start,
        uv_map.vertex_texels,
        z_ndc,
        triangle_id,
    )


def _check(
    image: torch.Tensor,
    vertices_clip: torch.Tensor,
    corners: torch.Tensor,
    barycentric: torch.Tensor,
    vertex_start: torch.Tensor,
    vertex_texels: torch.Tensor,
) -> dict[str, int]:
    sizes = check_tensor("image", image, ("N", "C", "H", "W"), FLOATS)
    check_tensor("vertices_clip", vertices_clip, ("N", "V", 4), FLOATS, like=image, sizes=sizes)
    if sizes["H"] > MAX_SIZE or sizes["W"] > MAX_SIZE:
        raise ValueError(f"image must have at most {MAX_SIZE} pixels a side, got shape {list(image.shape)}")
    check_tensor("uv_map.corners", corners, (3, "Hu", "Wu"), INT32, like=image, sizes=sizes)
    if sizes["Hu"] > MAX_SIZE or sizes["Wu"] > MAX_SIZE:
        raise ValueError(f"uv_map must have at most {MAX_SIZE} texels a side, got {sizes['Hu']} x {sizes['Wu']}")
    check_tensor("uv_map.barycentric", barycentric, (3, "Hu", "Wu"), FLOATS, like=image, sizes=sizes)
    check_tensor("uv_map.vertex_texels", vertex_texels, ("E",), INT32, like=image)
    check_tensor("uv_map.vertex_start", vertex_start, ("V+1",), INT32, like=image)
    if vertex_start.shape[0] != sizes["V"] + 1:
        raise ValueError(
            f"vertices_clip must have the {vertex_start.shape[0] - 1} vertices of uv_map, got shape "
            f"{list(vertices_clip.shape)}"
        )
    return sizes


def _fake(
    image: torch.Tensor,
    vertices_clip: torch.Tensor,
    corners: torch.Tensor,
    barycentric: torch.Tensor,
    triangles: torch.Tensor,
    vertex_start: torch.Tensor,
    vertex_texels: torch.Tensor,
    z_ndc: torch.Tensor | None,
    triangle_id: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    sizes = _check(image, vertices_clip, corners, barycentric, vertex_start, vertex_texels)
    check_tensor("uv_map.triangles", triangles, ("T", 3), INT32, like=image)
    if z_ndc is not None and triangle_id is not None:
        check_tensor("fragments.z_ndc", z_ndc, ("N", "H", "W"), FLOATS, like=image, sizes=sizes)
        check_tensor("fragments.triangle_id", triangle_id, ("N", "H", "W"), INT32, like=image, sizes=sizes)
    n, texture_size = sizes["N"], (sizes["Hu"], sizes["Wu"])
    return image.new_empty(n, sizes["C"], *texture_size), image.new_empty(n, *texture_size, dtype=torch.bool)


def _kernel(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
    texture, valid = _fake(*arguments)
    image, vertices_clip, corners, barycentric, triangles, vertex_start, vertex_texels, z_ndc, triangle_id = arguments
    check_indices("uv_map.corners", corners, vertices_clip.shape[1], lowest=-1)
    check_indices("uv_map.triangles", triangles, vertices_clip.shape[1])
    check_indices("uv_map.vertex_start", vertex_start, vertex_texels.shape[0] + 1, "entries of uv_map.vertex_texels")
    check_indices("uv_map.vertex_texels", vertex_texels, corners.numel(), "corners of texels")
    depth_range = None
    if z_ndc is not None and triangle_id is not None:
        check_indices("fragments.triangle_id", triangle_id, triangles.shape[0], "triangles", lowest=-1)
        depth_range = _depth_range(vertices_clip)
    (n, c, height, width), v = image.shape, vertices_clip.shape[1]
    call(
        "uv_unwrap",
        image,
        (n, corners[0].numel(), v, triangles.shape[0], c, height, width),
        (image, vertices_clip, corners, barycentric, triangles, z_ndc, triangle_id, depth_range),
        (texture, valid),
    )
    return texture, valid


def _depth_range(vertices_clip: torch.Tensor) -> torch.Tensor:
    """Largest minus smallest z_ndc of the vertices in front of the camera and in [-1, 1], [N]; 0 without any."""
    n, v = vertices_clip.shape[:2]
    if n * v == 0:
        return vertices_clip.new_zeros(n)
    block = _CUDA_BLOCK if takes_cuda_bodies(vertices_clip) else _CPU_BLOCK
    ranges = vertices_clip.new_empty(n, -(-v // block), 2)
    call("uv_unwrap_depth_ranges", vertices_clip, (n, v, ranges.shape[1], block), (vertices_clip,), (ranges,))
    return (ranges[..., 1].amax(1) - ranges[..., 0].amin(1)).clamp_min_(0)


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    image, vertices_clip, corners, barycentric, _, vertex_start, vertex_texels, _, _ = inputs
    valid = output[1]
    ctx.mark_non_differentiable(valid)
    ctx.save_for_backward(image, vertices_clip, corners, barycentric, vertex_start, vertex_texels, valid)


def _backward(ctx: Any, grad_texture: torch.Tensor, grad_valid: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
    wanted = wanted_gradients(ctx)[:2]
    grads = _uv_unwrap_backward(grad_texture, *ctx.saved_tensors, *wanted)
    return *(grad if want else None for grad, want in zip(grads, wanted)), *(None,) * 7


def _backward_fake(
    grad_texture: torch.Tensor,
    image: torch.Tensor,
    vertices_clip: torch.Tensor,
    corners: torch.Tensor,
    barycentric: torch.Tensor,
    vertex_start: torch.Tensor,
    vertex_texels: torch.Tensor,
    valid: torch.Tensor,
    to_image: bool,
    to_vertices: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    sizes = _check(image, vertices_clip, corners, barycentric, vertex_start, vertex_texels)
    check_tensor("grad_texture", grad_texture, ("N", "C", "Hu", "Wu"), FLOATS, like=image, sizes=sizes)
    check_tensor("valid", valid, ("N", "Hu", "Wu"), (torch.bool,), like=image, sizes=sizes)
    return (
        image.new_empty(image.shape if to_image else 0),
        vertices_clip.new_empty(vertices_clip.shape if to_vertices else 0),
    )


def _backward_kernel(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
    grad_image, grad_vertices = _backward_fake(*arguments)
    grad_texture, image, vertices_clip, corners, barycentric, *lists, valid, to_image, to_vertices = arguments
    if gathers(image):
        _gather((grad_texture, image, vertices_clip, corners, barycentric, valid), lists, grad_image, grad_vertices)
        return grad_image, grad_vertices
    (n, c, height, width), v, texels = image.shape, vertices_clip.shape[1], corners[0].numel()
    # with more threads than images, they share the work of one image through a table of its texels
    records = None
    if not takes_cuda_bodies(image) and torch.get_num_threads() > n:
        bytes_each = _C.uv_unwrap_record_bytes[image.dtype == torch.float64]
        records = image.new_empty(texels * bytes_each, dtype=torch.uint8)
    call(
        "uv_unwrap_backward",
        image,
        (n, texels, v, c, height, width, lists[1].shape[0]),
        (grad_texture, image, vertices_clip, corners, barycentric, *lists, valid),
        (
            grad_image.zero_() if to_image else None,
            grad_vertices.zero_() if to_vertices else None,
            records,
        ),
    )
    return grad_image, grad_vertices


def _gather(
    inputs: tuple[torch.Tensor, ...],
    lists: Sequence[torch.Tensor],
    grad_image: torch.Tensor,
    grad_vertices: torch.Tensor,
) -> None:
    """Writes the gradients that are not empty, without atomics."""
    _, image, vertices_clip, corners, barycentric, _ = inputs
    (n, c, height, width), v, texels = image.shape, vertices_clip.shape[1], corners[0].numel()
    clip, fraction = image.new_empty(n, texels, 3), image.new_empty(n, texels, 2)
    cell = image.new_empty((n, texels), dtype=torch.int32)
    call("uv_unwrap_texel_gradient", image, (n, texels, v, c, height, width), inputs, (clip, cell, fraction))
    if grad_vertices.ndim == 3:
        sizes, tables = (n, texels, v, lists[1].shape[0]), (barycentric, *lists, clip)
        call("uv_unwrap_vertex_gradient", image, sizes, tables, (grad_vertices,))
    if grad_image.ndim == 4:
        sum_samples(inputs[0], (texels, 1), cell, fraction, grad_image)


_uv_unwrap_backward = make_op(
    "uv_unwrap_backward",
    "(Tensor grad_texture, Tensor image, Tensor vertices_clip, Tensor corners, Tensor barycentric, Tensor vertex_start,"
    " Tensor vertex_texels, Tensor valid, bool to_image, bool to_vertices) -> (Tensor, Tensor)",
    _backward_kernel,
    _backward_fake,
)
_uv_unwrap = make_op(
    "uv_unwrap",
    "(Tensor image, Tensor vertices_clip, Tensor corners, Tensor barycentric, Tensor triangles, Tensor vertex_start,"
    " Tensor vertex_texels, Tensor? z_ndc, Tensor? triangle_id) -> (Tensor, Tensor)",
    _kernel,
    _fake,
    setup=_setup,
    backward=_backward,
)
