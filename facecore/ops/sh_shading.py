"""Second-order spherical harmonic shading."""

from __future__ import annotations

from typing import Any

import torch

from facecore import _C
from facecore.ops._library import FLOATS, call, check_tensor, check_tensors, make_op, takes_cuda_bodies

# Points whose share of the coefficients' gradient is added up by one thread: fixed, so that the order of summation is.
CPU_BLOCK, CUDA_BLOCK = 1024, 16


def sh_shading(normals: torch.Tensor, sh_coefficients: torch.Tensor) -> torch.Tensor:
    """Returns the shading sum_b H_b(normal) sh_coefficients[n, b, :] at each normal, [N, ..., 3].

    Args:
        normals: float32 or float64 [N, ..., 3], in the axes of the light; used as they are, unit or not.
        sh_coefficients: the effective coefficients (offset included), [N, 9, 3], for red, green, blue.

    H_b are the nine polynomials of METHODS 1.5. The result is not clamped and may be negative.

    Twice differentiable (and further) in both. Deterministic on every device and for every number of threads: the
    coefficients' gradient is added up over blocks of fixed size. Raises ValueError for a wrong shape, dtype or device.
    """
    check_tensors(normals=normals, sh_coefficients=sh_coefficients)
    shape = normals.shape
    if len(shape) < 2:
        raise ValueError(f"normals must have shape [N, ..., 3], got {list(shape)}")
    points = normals.flatten(1, -2) if len(shape) > 3 else normals.unsqueeze(1) if len(shape) == 2 else normals
    return _sh_shading(points, sh_coefficients).view(shape)


def _check(normals: torch.Tensor, sh_coefficients: torch.Tensor) -> dict[str, int]:
    sizes = check_tensor("normals", normals, ("N", "P", 3), FLOATS)
    return check_tensor("sh_coefficients", sh_coefficients, ("N", 9, 3), FLOATS, like=normals, sizes=sizes)


def _fake(normals: torch.Tensor, sh_coefficients: torch.Tensor) -> torch.Tensor:
    _check(normals, sh_coefficients)
    return normals.new_empty(normals.shape)


def _kernel(normals: torch.Tensor, sh_coefficients: torch.Tensor) -> torch.Tensor:
    out = _fake(normals, sh_coefficients)
    call("sh_shading", normals, normals.shape[:2], (normals, sh_coefficients), (out,))
    return out


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad_out: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return sh_shading_gradients(grad_out, *ctx.saved_tensors)


def _backward_fake(
    grad_out: torch.Tensor, normals: torch.Tensor, sh_coefficients: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    sizes = _check(normals, sh_coefficients)
    check_tensor("grad_out", grad_out, ("N", "P", 3), FLOATS, like=normals, sizes=sizes)
    return normals.new_empty(normals.shape), sh_coefficients.new_empty(sh_coefficients.shape)


def _backward_kernel(
    grad_out: torch.Tensor, normals: torch.Tensor, sh_coefficients: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    grad_normals, grad_coefficients = _backward_fake(grad_out, normals, sh_coefficients)
    n, p = normals.shape[:2]
    block = CUDA_BLOCK if takes_cuda_bodies(normals) else CPU_BLOCK
    num_blocks = -(-p // block)
    partial = normals.new_empty(n, num_blocks, 9, 3)
    sizes, inputs = (n, p, num_blocks, block), (grad_out, normals, sh_coefficients)
    call("sh_shading_backward", normals, sizes, inputs, (grad_normals, partial))
    torch.sum(partial, dim=1, out=grad_coefficients)
    return grad_normals, grad_coefficients


def _backward_backward(
    ctx: Any, to_normals: torch.Tensor, to_coefficients: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Derivatives of sh_shading_backward in plain torch, so that any further one follows.

    With u, w the gradients with respect to its two results, the scalar is sum_pbc g_pc (dH_b(n_p).u_p) G_bc +
    sum_pbc g_pc H_b(n_p) w_bc. H is quadratic, so the first part's gradient in n is the quadratic part of dH at u.
    """
    grad_out, normals, coefficients = ctx.saved_tensors
    differential = _basis_differential(normals, to_normals)  # [N, P, 9]
    with torch.autocast(normals.device.type, enabled=False):  # it would take the products in half precision
        for_grad_out = differential @ coefficients + _sh_shading(normals, to_coefficients)
        for_coefficients = differential.transpose(1, 2) @ grad_out
        weight = grad_out @ coefficients.transpose(1, 2)  # [N, P, 9]
    for_normals = _quadratic_gradient(to_normals, weight)
    for_normals = for_normals + sh_shading_gradients(grad_out, normals, to_coefficients)[0]
    return for_grad_out, for_normals, for_coefficients


def _basis_differential(normals: torch.Tensor, along: torch.Tensor) -> torch.Tensor:
    """dH_b(normals) . along, [N, P, 9]."""
    _, band1, band2, h6, h8 = _C.sh_constants
    x, y, z = normals.unbind(-1)
    a, b, c = along.unbind(-1)
    columns = (
        torch.zeros_like(x),
        -band1 * b,
        band1 * c,
        -band1 * a,
        band2 * (a * y + x * b),
        -band2 * (b * z + y * c),
        6 * h6 * (z * c),
        -band2 * (a * z + x * c),
        2 * h8 * (x * a - y * b),
    )
    return torch.stack(columns, dim=-1)


def _quadratic_gradient(vector: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """sum_b weight_b Hessian(H_b) vector, [N, P, 3]."""
    _, _, band2, h6, h8 = _C.sh_constants
    x, y, z = vector.unbind(-1)
    xy, yz, zz, xz, difference = weight[..., 4:].unbind(-1)
    columns = (
        band2 * (y * xy - z * xz) + 2 * h8 * (x * difference),
        band2 * (x * xy - z * yz) - 2 * h8 * (y * difference),
        6 * h6 * (z * zz) - band2 * (y * yz + x * xz),
    )
    return torch.stack(columns, dim=-1)


sh_shading_gradients = make_op(
    "sh_shading_backward",
    "(Tensor grad_out, Tensor normals, Tensor sh_coefficients) -> (Tensor, Tensor)",
    _backward_kernel,
    _backward_fake,
    setup=_setup,
    backward=_backward_backward,
)
_sh_shading = make_op(
    "sh_shading",
    "(Tensor normals, Tensor sh_coefficients) -> Tensor",
    _kernel,
    _fake,
    setup=_setup,
    backward=_backward,
)
