"""Symmetry loss: the left and right half of a face have the same albedo, so that side light is not painted into it."""

from __future__ import annotations

from typing import Any

import torch

from facecore import ops, reference_losses
from facecore.losses import _triton
from facecore.losses._masked import check_floating_point
from facecore.losses.smoothness import check_square, mean_absolute_product
from facecore.ops._debug import check_indices
from facecore.ops._library import call, check_tensor, make_op, takes_halves_under_autocast
from facecore.structures import SparseMatrix

_INT64 = (torch.int64,)
_BOOL = (torch.bool,)


@takes_halves_under_autocast
def symmetry_loss(albedo: torch.Tensor, mirror_map: torch.Tensor | SparseMatrix) -> torch.Tensor:
    """Returns mean |albedo - flip(albedo)| over images, vertices and channels: a scalar.

    Args:
        albedo: per vertex, float32 or float64 [N, V, C]; on CUDA bfloat16 and float16, too, computed and returned in
            float32.
        mirror_map: the vertex opposite to each, int64 [V]; or the rows of barycentric weights of the opposite points,
            a SparseMatrix [V, V] in the dtype of the result, for a mesh that is not symmetric.

    Once differentiable in albedo (slope 0 where both sides agree); a second derivative is refused for a list of
    vertices and for three channels. Deterministic: sums are made in a fixed order, whatever the number of threads. The
    gradient is gathered: for a matrix by its stored transpose, for a list that is its own inverse by the list; for
    another list on CUDA it is a sum of signs as integers, which has no order. The CUDA kernels need Triton, as
    reconstruction_loss says. Under torch.autocast half precision is taken as float32. Raises ValueError for a wrong
    shape, dtype or device, on the CPU also for a vertex that there is not; on CUDA only after facecore.ops.set_debug,
    else it makes the loss NaN. METHODS 1.9, 2.2.
    """
    sizes = check_tensor("albedo", albedo, ("N", "V", "C"), _triton.float_dtypes(albedo))
    if isinstance(mirror_map, SparseMatrix):
        check_square("mirror_map", mirror_map, sizes["V"])
        if sizes["C"] == 3:
            return mean_absolute_product(albedo, mirror_map, 1.0, -1.0, 1.0)
        albedo = albedo.to(_triton.sum_dtype(albedo.dtype))
        return (albedo - ops.sparse_matmul(mirror_map, albedo)).abs().sum() / max(albedo.numel(), 1)
    check_tensor("mirror_map", mirror_map, ("V",), _INT64, like=albedo, sizes=sizes)
    check_indices("mirror_map", mirror_map, sizes["V"])
    if _triton.missing_for(albedo):
        return reference_losses.symmetry_loss(albedo.to(_triton.sum_dtype(albedo.dtype)), mirror_map)
    return _vertex_symmetry(albedo, mirror_map, 1.0 / max(albedo.numel(), 1))


@takes_halves_under_autocast
def texture_symmetry_loss(texture: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    """Returns mean |A - A mirrored left to right| over valid texels and channels, per image, then averaged: a scalar.

    Args:
        texture: over the symmetric UV layout, float32 or float64 [N, C, Hu, Wu]; on CUDA bfloat16 and float16, too,
            computed and returned in float32.
        valid: which texels belong to the face, bool [N, Hu, Wu] or [Hu, Wu]; a texel counts if it and its mirror image
            are valid, others never matter even where NaN. None = all.

    Once differentiable in texture (slope 0 where both sides agree); a second derivative is refused.
    Deterministic: sums are made in a fixed order, whatever the number of threads. The CUDA kernels need Triton, as
    reconstruction_loss says. Raises ValueError for a wrong shape, dtype or device. METHODS 1.9.
    """
    check_floating_point(texture=texture)
    _check_texture(texture, valid)
    if _triton.missing_for(texture):
        return reference_losses.texture_symmetry_loss(texture.to(_triton.sum_dtype(texture.dtype)), valid)
    return _texture_symmetry(texture, valid)[0]


def _check_vertices(albedo: torch.Tensor, mirror_map: torch.Tensor) -> None:
    sizes = check_tensor("albedo", albedo, ("N", "V", "C"), _triton.float_dtypes(albedo))
    check_tensor("mirror_map", mirror_map, ("V",), _INT64, like=albedo, sizes=sizes)


def _vertex_fake(albedo: torch.Tensor, mirror_map: torch.Tensor, scale: float) -> torch.Tensor:
    _check_vertices(albedo, mirror_map)
    return albedo.new_empty((), dtype=_triton.sum_dtype(albedo.dtype))


def _vertex_kernel(albedo: torch.Tensor, mirror_map: torch.Tensor, scale: float) -> torch.Tensor:
    value = _vertex_fake(albedo, mirror_map, scale)
    if _triton.runs_on(albedo):
        from facecore.losses import _symmetry_triton as kernels

        _triton.run_all(kernels.value_launches(albedo, mirror_map, scale, value), albedo.device)
    else:
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
    _triton.check_constant("grad", grad, (), albedo)
    return albedo.new_empty(albedo.shape)


def _vertex_backward_kernel(
    grad: torch.Tensor, albedo: torch.Tensor, mirror_map: torch.Tensor, scale: float
) -> torch.Tensor:
    out = _vertex_backward_fake(grad, albedo, mirror_map, scale)
    if _triton.runs_on(albedo):
        from facecore.losses import _symmetry_triton as kernels

        _triton.run_all(kernels.gradient_launches(grad, albedo, mirror_map, scale, out), albedo.device)
    else:
        call("vertex_symmetry_backward", albedo, (*albedo.shape, scale), (grad, albedo, mirror_map), (out,))
    return out


def _check_texture(texture: torch.Tensor, valid: torch.Tensor | None) -> None:
    sizes = check_tensor("texture", texture, ("N", "C", "Hu", "Wu"), _triton.float_dtypes(texture))
    if valid is None:
        return
    shape = ("Hu", "Wu") if isinstance(valid, torch.Tensor) and valid.dim() == 2 else ("N", "Hu", "Wu")
    check_tensor("valid", valid, shape, _BOOL, like=texture, sizes=sizes)


def _texture_sizes(texture: torch.Tensor, valid: torch.Tensor | None) -> tuple[int, ...]:
    return *texture.shape, texture.shape[2] * texture.shape[3] if valid is not None and valid.dim() == 3 else 0


def _texture_fake(texture: torch.Tensor, valid: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    _check_texture(texture, valid)
    dtype = _triton.sum_dtype(texture.dtype)
    return texture.new_empty((), dtype=dtype), texture.new_empty(texture.shape[0], dtype=dtype)


def _texture_kernel(texture: torch.Tensor, valid: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    value, scales = _texture_fake(texture, valid)
    if _triton.runs_on(texture):
        from facecore.losses import _texture_symmetry_triton as kernels

        _triton.run_all(kernels.value_launches(texture, valid, value, scales), texture.device)
    else:
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
    _triton.check_constant("grad", grad, (), texture)
    _triton.check_constant("scales", scales, (texture.shape[0],), texture)
    return texture.new_empty(texture.shape)


def _texture_backward_kernel(
    grad: torch.Tensor, texture: torch.Tensor, valid: torch.Tensor | None, scales: torch.Tensor
) -> torch.Tensor:
    out = _texture_backward_fake(grad, texture, valid, scales)
    if _triton.runs_on(texture):
        from facecore.losses import _texture_symmetry_triton as kernels

        _triton.run_all(kernels.gradient_launches(grad, texture, valid, scales, out), texture.device)
    else:
        sizes = _texture_sizes(texture, valid)
        call("texture_symmetry_backward", texture, sizes, (grad, texture, valid, scales), (out,))
    return out


_vertex_symmetry_backward = make_op(
    "vertex_symmetry_backward",
    "(Tensor grad, Tensor albedo, Tensor mirror_map, float scale) -> Tensor",
    _vertex_backward_kernel,
    _vertex_backward_fake,
)
_vertex_symmetry = make_op(
    "vertex_symmetry",
    "(Tensor albedo, Tensor mirror_map, float scale) -> Tensor",
    _vertex_kernel,
    _vertex_fake,
    setup=_vertex_setup,
    backward=_vertex_backward,
)
_texture_symmetry_backward = make_op(
    "texture_symmetry_backward",
    "(Tensor grad, Tensor texture, Tensor? valid, Tensor scales) -> Tensor",
    _texture_backward_kernel,
    _texture_backward_fake,
)
_texture_symmetry = make_op(
    "texture_symmetry",
    "(Tensor texture, Tensor? valid) -> (Tensor, Tensor)",
    _texture_kernel,
    _texture_fake,
    setup=_texture_setup,
    backward=_texture_backward,
)
