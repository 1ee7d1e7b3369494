"""Symmetry loss: the left and right half of a face have the same albedo, so that side light is not painted into it."""

from __future__ import annotations

from typing import Any

import torch

from facecore import ops, reference_losses
from facecore.losses.smoothness import check_square, mean_absolute_product
from facecore.ops._library import FLOATS, call, check_tensor, make_op
from facecore.structures import SparseMatrix

_INT64 = (torch.int64,)
_BOOL = (torch.bool,)


def symmetry_loss(albedo: torch.Tensor, mirror_map: torch.Tensor | SparseMatrix) -> torch.Tensor:
    """Returns mean |albedo - flip(albedo)| over images, vertices and channels: a scalar.

    Args:
        albedo: per vertex, float32 or float64 [N, V, C].
        mirror_map: the vertex opposite to each, int64 [V]; or the rows of barycentric weights of the opposite points,
            a SparseMatrix [V, V], for a mesh that is not symmetric.

    Once differentiable in albedo (slope 0 where both sides agree); a second derivative is refused on the CPU for a
    list of vertices and for three channels. Deterministic on the CPU: the result does not depend on the number of
    threads. Raises ValueError for a wrong shape, dtype or device, on the CPU also for a vertex that there is not.
    METHODS 1.9, 2.2.
    """
    sizes = check_tensor("albedo", albedo, ("N", "V", "C"))
    if isinstance(mirror_map, SparseMatrix):
        check_square("mirror_map", mirror_map, sizes["V"])
        if sizes["C"] == 3:
            return mean_absolute_product(albedo, mirror_map, 1.0, -1.0, 1.0)
        return (albedo - ops.sparse_matmul(mirror_map, albedo)).abs().sum() / max(albedo.numel(), 1)
    check_tensor("mirror_map", mirror_map, ("V",), _INT64, like=albedo, sizes=sizes)
    if albedo.is_cuda:  # the kernel is the host's
        return reference_losses.symmetry_loss(albedo, mirror_map)
    return _vertex_symmetry(albedo, mirror_map, 1.0 / max(albedo.numel(), 1))


def texture_symmetry_loss(texture: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    """Returns mean |A - A mirrored left to right| over valid texels and channels, per image, then averaged: a scalar.

    Args:
        texture: over the symmetric UV layout, float32 or float64 [N, C, Hu, Wu].
        valid: which texels belong to the face, bool [N, Hu, Wu] or [Hu, Wu]; a texel counts if it and its mirror image
            are valid, others never matter even where NaN. None = all.

    Once differentiable in texture (slope 0 where both sides agree); a second derivative is refused on the CPU.
    Deterministic on the CPU: the result does not depend on the number of threads. Raises ValueError for a wrong shape,
    dtype or device. METHODS 1.9.
    """
    _check_texture(texture, valid)
    if texture.is_cuda:  # the kernel is the host's
        return reference_losses.texture_symmetry_loss(texture, valid)
    return _texture_symmetry(texture, valid)[0]


def _check_vertices(albedo: torch.Tensor, mirror_map: torch.Tensor) -> None:
    sizes = check_tensor("albedo", albedo, ("N", "V", "C"))
    check_tensor("mirror_map", mirror_map, ("V",), _INT64, like=albedo, sizes=sizes)


def _vertex_fake(albedo: torch.Tensor, mirror_map: torch.Tensor, scale: float) -> torch.Tensor:
    _check_vertices(albedo, mirror_map)
    return albedo.new_empty(())


def _vertex_kernel(albedo: torch.Tensor, mirror_map: torch.Tensor, scale: float) -> torch.Tensor:
    value = _vertex_fake(albedo, mirror_map, scale)
    call("vertex_symmetry", albedo, (*albedo.shape, scale), (albedo, mirror_map), (value,))
    return value


def _vertex_setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.scale = inputs[2]
    ctx.save_for_backward(*inputs[:2])


def _vertex_backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
    return _vertex_symmetry_backward(grad, *ctx.saved_tensors, ctx.scale), None, None


def _vertex_backward_fake(
    grad: torch.Tensor, albedo: torch.Tensor, mirror_map: torch.Tensor, scale: float
) -> torch.Tensor:
    _check_vertices(albedo, mirror_map)
    check_tensor("grad", grad, (), FLOATS, like=albedo)
    return albedo.new_empty(albedo.shape)


def _vertex_backward_kernel(
    grad: torch.Tensor, albedo: torch.Tensor, mirror_map: torch.Tensor, scale: float
) -> torch.Tensor:
    out = _vertex_backward_fake(grad, albedo, mirror_map, scale)
    call("vertex_symmetry_backward", albedo, (*albedo.shape, scale), (grad, albedo, mirror_map), (out,))
    return out


def _check_texture(texture: torch.Tensor, valid: torch.Tensor | None) -> None:
    sizes = check_tensor("texture", texture, ("N", "C", "Hu", "Wu"))
    if valid is None:
        return
    shape = ("Hu", "Wu") if isinstance(valid, torch.Tensor) and valid.dim() == 2 else ("N", "Hu", "Wu")
    check_tensor("valid", valid, shape, _BOOL, like=texture, sizes=sizes)


def _texture_sizes(texture: torch.Tensor, valid: torch.Tensor | None) -> tuple[int, ...]:
    return *texture.shape, texture.shape[2] * texture.shape[3] if valid is not None and valid.dim() == 3 else 0


def _texture_fake(texture: torch.Tensor, valid: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    _check_texture(texture, valid)
    return texture.new_empty(()), texture.new_empty(texture.shape[0])


def _texture_kernel(texture: torch.Tensor, valid: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    value, scales = _texture_fake(texture, valid)
    call("texture_symmetry", texture, _texture_sizes(texture, valid), (texture, valid), (value, scales))
    return value, scales


def _texture_setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*inputs, output[1])


def _texture_backward(ctx: Any, grad: torch.Tensor, _: Any) -> tuple[torch.Tensor, None]:
    return _texture_symmetry_backward(grad, *ctx.saved_tensors), None


def _texture_backward_fake(
    grad: torch.Tensor, texture: torch.Tensor, valid: torch.Tensor | None, scales: torch.Tensor
) -> torch.Tensor:
    _check_texture(texture, valid)
    check_tensor("grad", grad, (), FLOATS, like=texture)
    check_tensor("scales", scales, (texture.shape[0],), FLOATS, like=texture)
    return texture.new_empty(texture.shape)


def _texture_backward_kernel(
    grad: torch.Tensor, texture: torch.Tensor, valid: torch.Tensor | None, scales: torch.Tensor
) -> torch.Tensor:
    out = _texture_backward_fake(grad, texture, valid, scales)
    sizes = _texture_sizes(texture, valid)
    call("texture_symmetry_backward", texture, sizes, (grad, texture, valid, scales), (out,))
    return out


_vertex_symmetry_backward = make_op(
    "vertex_symmetry_backward",
    "(Tensor grad, Tensor albedo, Tensor mirror_map, float scale) -> Tensor",
    _vertex_backward_kernel,
    _vertex_backward_fake,
    devices=("CPU",),
)
_vertex_symmetry = make_op(
    "vertex_symmetry",
    "(Tensor albedo, Tensor mirror_map, float scale) -> Tensor",
    _vertex_kernel,
    _vertex_fake,
    setup=_vertex_setup,
    backward=_vertex_backward,
    devices=("CPU",),
)
_texture_symmetry_backward = make_op(
    "texture_symmetry_backward",
    "(Tensor grad, Tensor texture, Tensor? valid, Tensor scales) -> Tensor",
    _texture_backward_kernel,
    _texture_backward_fake,
    devices=("CPU",),
)
_texture_symmetry = make_op(
    "texture_symmetry",
    "(Tensor texture, Tensor? valid) -> (Tensor, Tensor)",
    _texture_kernel,
    _texture_fake,
    setup=_texture_setup,
    backward=_texture_backward,
    devices=("CPU",),
)
