"""Flattening loss: skin has one albedo, so that shading is not painted into it (METHODS 4, L_tex)."""

from __future__ import annotations

from typing import Any

import torch

from facecore import reference_losses
from facecore.ops._library import FLOATS, call, check_tensor, make_op


def flattening_loss(albedo: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """Returns the sum over channels of the variance of albedo over a region, averaged over images: a scalar.

    Args:
        albedo: per vertex, in [0, 1] by convention, float32 or float64 [N, V, C].
        region: weight of each vertex, bool or float [V]; what is not positive counts as 0 and never matters, in value
            or gradient, even where albedo is NaN. Sums are divided by max(sum of weights, 1).

    Once differentiable in albedo; a second derivative is refused on the CPU; region is a constant. Deterministic: the
    result does not depend on the number of threads. Raises ValueError for a wrong shape, dtype or device.
    """
    sizes = check_tensor("albedo", albedo, ("N", "V", "C"))
    check_tensor("region", region, ("V",), (torch.bool, torch.float32, torch.float64), sizes=sizes)
    if region.device != albedo.device:
        raise ValueError(f"region must be on {albedo.device} like albedo, got {region.device}")
    if region.requires_grad:
        raise ValueError("region is a constant of the loss and gets no gradient: pass region.detach()")
    if albedo.is_cuda:  # the kernel is the host's
        return reference_losses.flattening_loss(albedo, region)
    return _flattening(albedo, region.to(albedo.dtype))[0]


def _check(albedo: torch.Tensor, region: torch.Tensor) -> dict[str, int]:
    sizes = check_tensor("albedo", albedo, ("N", "V", "C"))
    check_tensor("region", region, ("V",), FLOATS, like=albedo, sizes=sizes)
    return sizes


def _fake(albedo: torch.Tensor, region: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    n, _, c = _check(albedo, region).values()
    return albedo.new_empty(()), albedo.new_empty(n, c)


def _kernel(albedo: torch.Tensor, region: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    value, centers = _fake(albedo, region)
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
    check_tensor("grad", grad, (), FLOATS, like=albedo)
    check_tensor("centers", centers, ("N", "C"), FLOATS, like=albedo, sizes=sizes)
    return albedo.new_empty(albedo.shape)


def _backward_kernel(
    grad: torch.Tensor, albedo: torch.Tensor, region: torch.Tensor, centers: torch.Tensor
) -> torch.Tensor:
    grad_albedo = _backward_fake(grad, albedo, region, centers)
    call("flattening_backward", albedo, albedo.shape, (grad, albedo, region, centers), (grad_albedo,))
    return grad_albedo


_flattening_backward = make_op(
    "flattening_backward",
    "(Tensor grad, Tensor albedo, Tensor region, Tensor centers) -> Tensor",
    _backward_kernel,
    _backward_fake,
    devices=("CPU",),
)
_flattening = make_op(
    "flattening",
    "(Tensor albedo, Tensor region) -> (Tensor, Tensor)",
    _kernel,
    _fake,
    setup=_setup,
    backward=_backward,
    devices=("CPU",),
)
