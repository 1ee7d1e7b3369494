"""Shape loss: predicted vertices against known ones (labelled data and pairs, METHODS 2.2, 3)."""

from __future__ import annotations

from typing import Any, Literal

import torch

from facecore import reference_losses
from facecore.losses import _triton
from facecore.ops._library import call, check_tensor, make_op, takes_halves_under_autocast, wanted_gradients


@takes_halves_under_autocast
def shape_loss(
    predicted: torch.Tensor,
    target: torch.Tensor,
    scale: float | torch.Tensor = 1.0,
    *,
    norm: Literal["l1", "l2_squared"] = "l1",
) -> torch.Tensor:
    """Returns the mean difference of two batches of shapes, a scalar.

    Args:
        predicted, target: vertices, float32 or float64 [N, V, 3], same units; on CUDA bfloat16 and float16, too,
            computed and returned in float32.
        scale: what differences are divided by: the model's standard deviation sigma_s in those units, or (whitened)
            one of each coordinate, positive, [V, 3], in the dtype of the result.
        norm: "l1", mean |difference| over images, vertices and coordinates; "l2_squared", mean over images and vertices
            of the squared length |difference|^2 (METHODS 3, L_R).

    Once differentiable in predicted and target; a second derivative is refused; scale is a constant. Deterministic:
    sums are made in a fixed order, whatever the number of threads. The CUDA kernels need Triton, as reconstruction_loss
    says. Under torch.autocast half precision is taken as float32. Raises ValueError for a wrong shape, dtype, device or
    norm, or a scale that is not positive; the numbers of a tensor are looked at on the CPU only, and not in a compiled
    graph. METHODS 2.2 (L_shp, L_pair).
    """
    if norm not in ("l1", "l2_squared"):
        raise ValueError(f"norm must be l1 or l2_squared, got {norm!r}")
    sizes = _check_shapes(predicted, target)
    weight = None
    if isinstance(scale, torch.Tensor):
        _triton.check_constant("scale", scale, ("V", 3), predicted, sizes)
        if scale.requires_grad:
            raise ValueError("scale is a constant of the loss and gets no gradient: pass scale.detach()")
        if scale.is_cpu and not torch.compiler.is_compiling() and not bool((scale > 0).all()):
            raise ValueError(f"scale must be positive everywhere, got {float(scale.min())}")
        weight, divisor = 1.0 / scale, 1.0
    else:
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}")
        divisor = float(scale)
    if _triton.missing_for(predicted):
        predicted, target = (shape.to(_triton.sum_dtype(shape.dtype)) for shape in (predicted, target))
        return reference_losses.shape_loss(predicted, target, scale, norm=norm)
    squared = norm == "l2_squared"
    count = max(predicted.numel() // 3 if squared else predicted.numel(), 1)
    return _shape_loss(predicted, target, weight, squared, 1.0 / (count * (divisor**2 if squared else divisor)))


def _check_shapes(predicted: torch.Tensor, target: torch.Tensor) -> dict[str, int]:
    dtypes = _triton.float_dtypes(predicted)
    sizes = check_tensor("predicted", predicted, ("N", "V", 3), dtypes)
    return check_tensor("target", target, ("N", "V", 3), dtypes, like=predicted, sizes=sizes)


def _fake(
    predicted: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None, squared: bool, scale: float
) -> torch.Tensor:
    sizes = _check_shapes(predicted, target)
    if weight is not None:
        _triton.check_constant("weight", weight, ("V", 3), predicted, sizes)
    return predicted.new_empty((), dtype=_triton.sum_dtype(predicted.dtype))


def _kernel(
    predicted: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None, squared: bool, scale: float
) -> torch.Tensor:
    value = _fake(predicted, target, weight, squared, scale)
    if _triton.runs_on(predicted):
        from facecore.losses import _shape_triton as kernels

        launches = kernels.value_launches(predicted, target, weight, (squared, scale), value)
        _triton.run_all(launches, predicted.device)
        return value
    n, v, _ = predicted.shape
    call("shape_loss", predicted, (n, 3 * v, squared, scale), (predicted, target, weight), (value,))
    return value


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    predicted, target, weight, *ctx.options = inputs
    ctx.save_for_backward(predicted, target, weight)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    wanted = wanted_gradients(ctx)[:2]
    grads = _shape_loss_backward(grad, *ctx.saved_tensors, *ctx.options, *wanted)
    return *(g if want else None for g, want in zip(grads, wanted)), None, None, None


def _backward_fake(
    grad: torch.Tensor, predicted: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None, *options: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    _fake(predicted, target, weight, *options[:2])
    _triton.check_constant("grad", grad, (), predicted)
    shapes = [predicted.shape if need else (0,) for need in options[2:]]
    return predicted.new_empty(shapes[0]), predicted.new_empty(shapes[1])


def _backward_kernel(
    grad: torch.Tensor, predicted: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None, *options: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    grads = _backward_fake(grad, predicted, target, weight, *options)
    squared, scale, *needed = options
    outputs = (grads[0] if needed[0] else None, grads[1] if needed[1] else None)
    if _triton.runs_on(predicted):
        from facecore.losses import _shape_triton as kernels

        launches = kernels.gradient_launches(grad, predicted, target, weight, (squared, scale), outputs)
        _triton.run_all(launches, predicted.device)
        return grads
    n, v, _ = predicted.shape
    call("shape_loss_backward", predicted, (n, 3 * v, squared, scale), (grad, predicted, target, weight), outputs)
    return grads


_shape_loss_backward = make_op(
    "shape_loss_backward",
    "(Tensor grad, Tensor predicted, Tensor target, Tensor? weight, bool squared, float scale, bool need_predicted,"
    " bool need_target) -> (Tensor, Tensor)",
    _backward_kernel,
    _backward_fake,
)
_shape_loss = make_op(
    "shape_loss",
    "(Tensor predicted, Tensor target, Tensor? weight, bool squared, float scale) -> Tensor",
    _kernel,
    _fake,
    setup=_setup,
    backward=_backward,
)
