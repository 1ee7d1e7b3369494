"""Landmark losses: distances of projected landmarks, and of the distances between them (METHODS 2.2, L_lmk)."""

from __future__ import annotations

from typing import Any, Literal

import torch

from facecore import reference_losses
from facecore.losses import _triton
from facecore.losses._landmark_pairs import pair_matrix
from facecore.losses._masked import batch_mean
from facecore.ops._library import FLOATS, call, check_tensor, make_op, takes_halves_under_autocast


@takes_halves_under_autocast
def landmark_loss(
    predicted: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    *,
    norm: Literal["l2_squared", "l1"] = "l2_squared",
) -> torch.Tensor:
    """Returns (1/P) sum_k w_k |predicted_k - target_k|^2, averaged over images: a scalar.

    Args:
        predicted, target: points, float32 or float64 [N, P, 2], in NDC or pixels.
        weight: w [N, P], 0 = unknown: such a point never matters, in value or gradient, even where it is NaN.
            None = all 1. The sum is divided by P, not by the weights.
        norm: "l2_squared", or "l1" for the sum of absolute coordinate differences (METHODS 5, L_kp).

    Differentiable in predicted and target; weight is a constant. Deterministic. Under torch.autocast half precision is
    taken as float32. Raises ValueError for a wrong shape, dtype, device or norm.
    """
    if norm not in ("l2_squared", "l1"):
        raise ValueError(f"norm must be l2_squared or l1, got {norm!r}")
    weight = _check_points(predicted, target, weight, "P")
    difference = torch.where(weight[..., None] > 0, predicted - target, 0.0)
    error = difference.abs() if norm == "l1" else difference * difference
    return batch_mean((weight * error.sum(-1)).sum(-1) / max(predicted.shape[1], 1))


@takes_halves_under_autocast
def landmark_structure_loss(
    predicted: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Returns the weighted mean over pairs of | |p_a - p_b| - |t_a - t_b| |, averaged over images: a scalar.

    All 2,278 pairs of the 68 landmarks weigh 1, the seven lid and inner-lip pairs 20; each times the weights of its
    two points. The mean divides by max(sum of the pair weights, 1).

    Args:
        predicted, target: the 68 iBUG landmarks, float32 or float64 [N, 68, 2]; on CUDA bfloat16 and float16, too,
            computed and returned in float32.
        weight: [N, 68], 0 = unknown: pairs with such a point never matter, even where it is NaN. None = all 1.

    Once differentiable in predicted and target (slope 0 where two points coincide); a second derivative is refused;
    weight is a constant. Deterministic: the gradient of a point is gathered from its own distances. The CUDA kernels
    need Triton, as reconstruction_loss says. Raises ValueError for a wrong shape, dtype or device. METHODS 2.2
    (L_gdl,lmk).
    """
    weights = _check_points(predicted, target, weight, 68, _triton.float_dtypes(predicted))
    dtype = _triton.sum_dtype(predicted.dtype)
    if _triton.missing_for(predicted):
        points = (predicted.to(dtype), target.to(dtype))
        return reference_losses.landmark_structure_loss(*points, weights.to(dtype))
    with_gradient = torch.is_grad_enabled() and (predicted.requires_grad or target.requires_grad)
    pairs = pair_matrix(predicted.device, dtype)
    return _landmark_structure(predicted, target, weights, pairs, with_gradient)[0]


def _check_points(
    predicted: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None,
    count: int | str,
    dtypes: tuple[torch.dtype, ...] = FLOATS,
) -> torch.Tensor:
    """Checks the arguments; returns the weights [N, P], 0 where not positive."""
    sizes = check_tensor("predicted", predicted, ("N", count, 2), dtypes)
    check_tensor("target", target, ("N", count, 2), dtypes, like=predicted, sizes=sizes)
    if weight is None:
        return predicted.new_ones(predicted.shape[:2])
    check_tensor("weight", weight, ("N", count), dtypes, like=predicted, sizes=sizes)
    if weight.requires_grad:
        raise ValueError("weight is a constant of the loss and gets no gradient: pass weight.detach()")
    return torch.where(weight > 0, weight, 0.0)


def _fake(
    predicted: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, pairs: torch.Tensor, with_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    dtypes = _triton.float_dtypes(predicted)
    sizes = check_tensor("predicted", predicted, ("N", "P", 2), dtypes)
    check_tensor("target", target, ("N", "P", 2), dtypes, like=predicted, sizes=sizes)
    check_tensor("weight", weight, ("N", "P"), dtypes, like=predicted, sizes=sizes)
    _triton.check_constant("pairs", pairs, ("P", "P"), predicted, sizes)
    shape = (2, *predicted.shape) if with_gradient else (0,)
    dtype = _triton.sum_dtype(predicted.dtype)
    return predicted.new_empty((), dtype=dtype), predicted.new_empty(shape, dtype=dtype)


def _kernel(
    predicted: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, pairs: torch.Tensor, with_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    value, gradient = _fake(predicted, target, weight, pairs, with_gradient)
    outputs = (value, gradient if with_gradient else None)
    if _triton.runs_on(predicted):
        from facecore.losses import _landmark_triton as kernels

        _triton.run_all(kernels.value_launches(predicted, target, weight, pairs, *outputs), predicted.device)
        return value, gradient
    call("landmark_structure", predicted, predicted.shape[:2], (predicted, target, weight, pairs), outputs)
    return value, gradient


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    if not inputs[4]:
        return
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1], *inputs[:2])


def _backward(ctx: Any, grad: torch.Tensor, _: Any) -> tuple[torch.Tensor | None, ...]:
    saved = ctx.saved_tensors  # once: activation checkpointing refuses a second time
    if not saved:
        raise RuntimeError("landmark_structure: called with with_gradient=False, so it has no derivative")
    grads = _landmark_structure_backward(grad, *saved)
    return (*(g if need else None for g, need in zip(grads.unbind(), ctx.needs_input_grad)), None, None, None)


# The points are arguments only so that a second derivative by them is refused: without them it would be a silent zero.
def _backward_fake(
    grad: torch.Tensor, gradient: torch.Tensor, predicted: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    _triton.check_constant("grad", grad, (), predicted)
    _triton.check_constant("gradient", gradient, (2, *predicted.shape), predicted)
    return predicted.new_empty(gradient.shape)


def _backward_kernel(
    grad: torch.Tensor, gradient: torch.Tensor, predicted: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    _backward_fake(grad, gradient, predicted, target)
    return (gradient * grad).to(predicted.dtype)


_landmark_structure_backward = make_op(
    "landmark_structure_backward",
    "(Tensor grad, Tensor gradient, Tensor predicted, Tensor target) -> Tensor",
    _backward_kernel,
    _backward_fake,
)
_landmark_structure = make_op(
    "landmark_structure",
    "(Tensor predicted, Tensor target, Tensor weight, Tensor pairs, bool with_gradient) -> (Tensor, Tensor)",
    _kernel,
    _fake,
    setup=_setup,
    backward=_backward,
)
