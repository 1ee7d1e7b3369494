"""Flattening loss: skin has one albedo, so that shading is not painted into it (METHODS 4, L_tex)."""

from __future__ import annotations

from typing import Any

import torch

from facecore import reference_losses
from facecore.losses import _triton
from facecore.ops._library import FLOATS, call, check_tensor, make_op, takes_halves_under_autocast


@takes_halves_under_autocast
def flattening_loss(albedo: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """Returns the sum over channels of the variance of albedo over a region, averaged over images: a scalar.

    Args:
        albedo: per vertex, in [0, 1] by convention, float32 or float64 [N, V, C]; on CUDA bfloat16 and float16,
            too, computed and returned in float32.
        region: weight of each vertex, bool or float [V]; what is not positive counts as 0 and never matters, in value
            or gradient, even where albedo is NaN. Sums are divided by max(sum of weights, 1).

    Once differentiable in albedo; a second derivative is refused; region is a constant. Deterministic: sums are made in
    a fixed order, whatever the number of threads. The CUDA kernels need Triton, as reconstruction_loss says. Under
    torch.autocast half precision is taken as float32. Raises ValueError for a wrong shape, dtype or device.
    """
    dtypes = _triton.float_dtypes(albedo)
    sizes = check_tensor("albedo", albedo, ("N", "V", "C"), dtypes)
    check_tensor("region", region, ("V",), (torch.bool, *dtypes), sizes=sizes)
    _triton.check_device("region", region, albedo)
    if region.requires_grad:
        raise ValueError("region is a constant of the loss and gets no gradient: pass region.detach()")
    if _triton.missing_for(albedo):
        return reference_losses.flattening_loss(albedo.to(_triton.sum_dtype(albedo.dtype)), region)
    return _flattening(albedo, region if _triton.runs_on(albedo) else region.to(albedo.dtype))[0]


def _check(albedo: torch.Tensor, region: torch.Tensor) -> dict[str, int]:
    dtypes = _triton.float_dtypes(albedo)
    sizes = check_tensor("albedo", albedo, ("N", "V", "C"), dtypes)
    if _triton.runs_on(albedo):  # that kernel converts the weights itself
        check_tensor("region", region, ("V",), (torch.bool, *dtypes), sizes=sizes)
        _triton.check_device("region", region, albedo)
    else:
        check_tensor("region", region, ("V",), FLOATS, like=albedo, sizes=sizes)
    return sizes


def _fake(albedo: torch.Tensor, region: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    n, _, c = _check(albedo, region).values()
    dtype = _triton.sum_dtype(albedo.dtype)
    return albedo.new_empty((), dtype=dtype), albedo.new_empty((n, c), dtype=dtype)


def _kernel(albedo: torch.Tensor, region: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    value, centers = _fake(albedo, region)
    if _triton.runs_on(albedo):
        from facecore.losses import _flattening_triton as kernels

        _triton.run_all(kernels.value_launches(albedo, region, value, centers), albedo.device)
    else:
        call("flattening", albedo, albedo.shape, (albedo, region), (value, centers))
    return value, centers


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*inputs, output[1])


def _backward(ctx: Any, grad: torch.Tensor, _: Any) -> tuple[torch.Tensor, None]:
    return _flattening_backward(grad, *ctx.saved_tensors), None


def _backward_fake(
    grad: torch.Tensor, albedo: torch.Tensor, region: torch.Tensor, centers: torch.Tensor
) -> torch.Tensor:
    sizes = _check(albedo, region)
    _triton.check_constant("grad", grad, (), albedo)
    _triton.check_constant("centers", centers, ("N", "C"), albedo, sizes)
    return albedo.new_empty(albedo.shape)


def _backward_kernel(
    grad: torch.Tensor, albedo: torch.Tensor, region: torch.Tensor, centers: torch.Tensor
) -> torch.Tensor:
    grad_albedo = _backward_fake(grad, albedo, region, centers)
    if _triton.runs_on(albedo):
        from facecore.losses import _flattening_triton as kernels

        _triton.run_all(kernels.gradient_launches(grad, albedo, region, centers, grad_albedo), albedo.device)
    else:
        call("flattening_backward", albedo, albedo.shape, (grad, albedo, region, centers), (grad_albedo,))
    return grad_albedo


_flattening_backward = make_op(
    "flattening_backward",
    "(Tensor grad, Tensor albedo, Tensor region, Tensor centers) -> Tensor",
    _backward_kernel,
    _backward_fake,
)
_flattening = make_op(
    "flattening",
    "(Tensor albedo, Tensor region) -> (Tensor, Tensor)",
    _kernel,
    _fake,
    setup=_setup,
    backward=_backward,
)
