"""Deferred shading of surface points: normalisation, spherical-harmonics light and albedo in one operator."""

from __future__ import annotations

from typing import Any

import torch

from facecore import _C
from facecore.ops._library import FLOATS, call, check_tensor, check_tensors, make_op, takes_cuda_bodies
from facecore.ops.sh_shading import CPU_BLOCK, CUDA_BLOCK, sh_shading, sh_shading_gradients

Triple = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def surface_shading(
    normals: torch.Tensor, albedo: torch.Tensor, sh_coefficients: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns the colour, the shading and the unit normal of each point, [N, ..., 3] each.

    Args:
        normals: float32 or float64 [N, ..., 3], in the axes of the light, of any length, as interpolation leaves them.
        albedo: reflectance, [N, ..., 3].
        sh_coefficients: the effective coefficients (offset included), [N, 9, 3], for red, green, blue.

    The unit normal is normal / |normal|, the shading that of sh_shading at it, the colour albedo * shading; nothing is
    clamped. A normal that is no longer than 1e-6, or is NaN or infinite, has no direction: there all three are 0,
    whatever albedo and light are, and so are its gradients; pixels that nothing covers are such points.

    Twice differentiable (and further) in all. Deterministic on every device and for every number of threads: the
    coefficients' gradient is added up over blocks of fixed size. Raises ValueError for a wrong shape, dtype or device.
    METHODS 1.5.
    """
    check_tensors(normals=normals, albedo=albedo, sh_coefficients=sh_coefficients)
    shape = normals.shape
    if len(shape) < 2:
        raise ValueError(f"normals must have shape [N, ..., 3], got {list(shape)}")
    if albedo.shape != shape:
        raise ValueError(f"albedo must have shape {list(shape)} like normals, got {list(albedo.shape)}")
    points = (t.flatten(1, -2) if t.ndim > 3 else t.unsqueeze(1) if t.ndim == 2 else t for t in (normals, albedo))
    color, shading, unit_normals = _surface_shading(*points, sh_coefficients)
    return color.view(shape), shading.view(shape), unit_normals.view(shape)


def _check(normals: torch.Tensor, albedo: torch.Tensor, sh_coefficients: torch.Tensor) -> dict[str, int]:
    sizes = check_tensor("normals", normals, ("N", "P", 3), FLOATS)
    check_tensor("albedo", albedo, ("N", "P", 3), FLOATS, like=normals, sizes=sizes)
    return check_tensor("sh_coefficients", sh_coefficients, ("N", 9, 3), FLOATS, like=normals, sizes=sizes)


def _fake(normals: torch.Tensor, albedo: torch.Tensor, sh_coefficients: torch.Tensor) -> Triple:
    _check(normals, albedo, sh_coefficients)
    return normals.new_empty(normals.shape), normals.new_empty(normals.shape), normals.new_empty(normals.shape)


def _kernel(normals: torch.Tensor, albedo: torch.Tensor, sh_coefficients: torch.Tensor) -> Triple:
    outputs = _fake(normals, albedo, sh_coefficients)
    call("surface_shading", normals, normals.shape[:2], (normals, albedo, sh_coefficients), outputs)
    return outputs


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.set_materialize_grads(False)  # training asks for the colour's alone
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
    if all(grad is None for grad in grads):
        return None, None, None
    if torch.is_grad_enabled():  # to be differentiated again
        return _differentiable_gradients(grads, *ctx.saved_tensors)
    return _surface_shading_backward(*grads, *ctx.saved_tensors)


def _backward_fake(
    grad_color: torch.Tensor | None,
    grad_shading: torch.Tensor | None,
    grad_unit_normals: torch.Tensor | None,
    normals: torch.Tensor,
    albedo: torch.Tensor,
    sh_coefficients: torch.Tensor,
) -> Triple:
    sizes = _check(normals, albedo, sh_coefficients)
    grads = {"grad_color": grad_color, "grad_shading": grad_shading, "grad_unit_normals": grad_unit_normals}
    for name, grad in grads.items():
        if grad is not None:
            check_tensor(name, grad, ("N", "P", 3), FLOATS, like=normals, sizes=sizes)
    return (
        normals.new_empty(normals.shape),
        albedo.new_empty(albedo.shape),
        sh_coefficients.new_empty(sh_coefficients.shape),
    )


def _backward_kernel(*arguments: Any) -> Triple:
    grad_normals, grad_albedo, grad_coefficients = _backward_fake(*arguments)
    normals = arguments[3]
    n, p = normals.shape[:2]
    block = CUDA_BLOCK if takes_cuda_bodies(normals) else CPU_BLOCK
    num_blocks = -(-p // block)
    partial = normals.new_empty(n, num_blocks, 9, 3)
    outputs = (grad_normals, grad_albedo, partial)
    call("surface_shading_backward", normals, (n, p, num_blocks, block), arguments, outputs)
    torch.sum(partial, dim=1, out=grad_coefficients)
    return grad_normals, grad_albedo, grad_coefficients


def _differentiable_gradients(
    grads: tuple[torch.Tensor | None, ...], normals: torch.Tensor, albedo: torch.Tensor, sh_coefficients: torch.Tensor
) -> Triple:
    """surface_shading_backward in differentiable operations: with u the unit normal, L its light, G the coefficients,
    dL = g_color * albedo + g_shading, du = dL . dL/du + g_unit, dn = (du - u (u . du)) / |n|."""
    grad_color, grad_shading, grad_unit = (torch.zeros_like(normals) if grad is None else grad for grad in grads)
    length = normals.detach().square().sum(-1, keepdim=True).sqrt()
    defined = (length > _C.normal_epsilon) & (length < torch.inf)
    safe = torch.where(defined, normals, 0.0)
    inverse = torch.where(defined, torch.where(defined, safe.square().sum(-1, keepdim=True), 1.0).rsqrt(), 0.0)
    unit = safe * inverse
    light = torch.where(defined, sh_shading(unit, sh_coefficients), 0.0)
    grad_light = torch.where(defined, grad_color * albedo + grad_shading, 0.0)
    from_light, grad_coefficients = sh_shading_gradients(grad_light, unit, sh_coefficients)
    to_unit = from_light + grad_unit
    grad_normals = inverse * (to_unit - unit * (unit * to_unit).sum(-1, keepdim=True))
    return torch.where(defined, grad_normals, 0.0), grad_color * light, grad_coefficients


_surface_shading_backward = make_op(
    "surface_shading_backward",
    "(Tensor? grad_color, Tensor? grad_shading, Tensor? grad_unit_normals, Tensor normals, Tensor albedo,"
    " Tensor sh_coefficients) -> (Tensor, Tensor, Tensor)",
    _backward_kernel,
    _backward_fake,
)
_surface_shading = make_op(
    "surface_shading",
    "(Tensor normals, Tensor albedo, Tensor sh_coefficients) -> (Tensor, Tensor, Tensor)",
    _kernel,
    _fake,
    setup=_setup,
    backward=_backward,
)
