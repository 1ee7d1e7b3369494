"""Reconstruction loss: the photometric and the gradient difference loss in one pass, and the operator of all three."""

from __future__ import annotations

from typing import Any, Literal

import torch

from facecore import reference_losses
from facecore.losses import _triton
from facecore.losses._masked import pixel_weights
from facecore.ops._library import call, check_tensor, make_op, wanted_gradients

Norm = Literal["l2_squared", "l2", "l1"]
NORMS = ("l2_squared", "l2", "l1")  # in the order of PictureNorm in csrc/simd/picture_rows.h


def reconstruction_loss(
    rendered: torch.Tensor,
    image: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    norm: Norm = "l2_squared",
    gradient_weight: float = 1.0,
) -> torch.Tensor:
    """Returns photometric_loss + gradient_weight * gradient_difference_loss, both per image: a scalar.

    The two pictures are read once for the value and once for the gradient.

    Args:
        rendered, image: pictures, float32 or float64 [N, C, H, W]; on CUDA bfloat16 and float16, too, computed and
            returned in float32.
        mask: weight of each pixel, bool or float in [0, 1], [N, H, W]; None = all 1.
        norm: of the photometric part, see photometric_loss.
        gradient_weight: w_g of METHODS 2.2.

    Once differentiable in rendered and image; a second derivative is refused. Deterministic: sums are made in a fixed
    order, whatever the number of threads. The CUDA kernels need Triton: without it the definition runs as plain PyTorch
    and a RuntimeWarning says so once. Raises ValueError like its two parts.
    """
    return picture_loss(rendered, image, mask, norm=norm, steps_weight=gradient_weight)


def picture_loss(
    rendered: torch.Tensor,
    image: torch.Tensor,
    mask: torch.Tensor | None,
    attention: torch.Tensor | None = None,
    *,
    norm: str = "l2_squared",
    pooled: bool = False,
    error_weight: float = 1.0,
    steps_weight: float = 0.0,
) -> torch.Tensor:
    """error_weight * photometric_loss + steps_weight * gradient_difference_loss, a scalar."""
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}")
    weights = pixel_weights(rendered, image, mask, attention)
    if _triton.missing_for(rendered):
        rendered, image = (picture.to(_triton.sum_dtype(picture.dtype)) for picture in (rendered, image))
        reduction = "pooled" if pooled else "per_image"
        photometric = reference_losses.photometric_loss(rendered, image, weights, norm=norm, reduction=reduction)
        steps = reference_losses.gradient_difference_loss(rendered, image, weights) if steps_weight else 0.0
        return error_weight * photometric + steps_weight * steps
    options = (NORMS.index(norm), pooled, float(error_weight), float(steps_weight))
    return _picture_loss(rendered, image, weights, *options)[0]


def _check(rendered: torch.Tensor, image: torch.Tensor, weights: torch.Tensor | None) -> dict[str, int]:
    dtypes = _triton.float_dtypes(rendered)
    sizes = check_tensor("rendered", rendered, ("N", "C", "H", "W"), dtypes)
    check_tensor("image", image, ("N", "C", "H", "W"), dtypes, like=rendered, sizes=sizes)
    if weights is not None:
        if _triton.runs_on(rendered):  # that kernel converts them itself
            check_tensor("weights", weights, ("N", "H", "W"), (torch.bool, *dtypes), sizes=sizes)
            _check_device("weights", weights, rendered)
        else:
            check_tensor("weights", weights, ("N", "H", "W"), like=rendered, sizes=sizes)
    return sizes


def _check_device(name: str, tensor: torch.Tensor, like: torch.Tensor) -> None:
    if tensor.device != like.device:
        raise ValueError(f"{name} must be on {like.device} like rendered, got {tensor.device}")


def _fake(
    rendered: torch.Tensor, image: torch.Tensor, weights: torch.Tensor | None, *options: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    if options and not 0 <= options[0] < len(NORMS):
        raise ValueError(f"norm must be 0 to {len(NORMS) - 1}, got {options[0]}")
    sizes = _check(rendered, image, weights)
    dtype = _triton.sum_dtype(rendered.dtype)
    return rendered.new_empty((), dtype=dtype), rendered.new_empty((sizes["N"], 3), dtype=dtype)


def _kernel(
    rendered: torch.Tensor, image: torch.Tensor, weights: torch.Tensor | None, *options: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    value, scales = _fake(rendered, image, weights, *options)
    if _triton.runs_on(rendered):
        from facecore.losses import _reconstruction_triton as kernels

        for launch in kernels.value_launches(rendered, image, weights, options, value, scales):
            launch.run(rendered.device)
    else:
        call("picture_loss", rendered, (*rendered.shape, *options), (rendered, image, weights), (value, scales))
    return value, scales


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    rendered, image, weights, *ctx.options = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(rendered, image, weights, output[1])


def _backward(ctx: Any, grad: torch.Tensor, _: Any) -> tuple[torch.Tensor | None, ...]:
    wanted = wanted_gradients(ctx)[:2]
    grads = _picture_loss_backward(grad, *ctx.saved_tensors, *ctx.options, *wanted)
    return *(g if want else None for g, want in zip(grads, wanted)), *(None,) * 5


def _backward_fake(
    grad: torch.Tensor,
    rendered: torch.Tensor,
    image: torch.Tensor,
    weights: torch.Tensor | None,
    scales: torch.Tensor,
    norm: int,
    pooled: bool,
    error_weight: float,
    steps_weight: float,
    need_rendered: bool,
    need_image: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    sizes = _check(rendered, image, weights)
    dtype = _triton.sum_dtype(rendered.dtype)
    for name, tensor, size in (("grad", grad, ()), ("scales", scales, ("N", 3))):
        check_tensor(name, tensor, size, (dtype,), sizes=sizes)
        _check_device(name, tensor, rendered)
    shape = tuple(rendered.shape)
    return tuple(rendered.new_empty(shape if need else (0,)) for need in (need_rendered, need_image))  # type: ignore[return-value]


def _backward_kernel(
    grad: torch.Tensor,
    rendered: torch.Tensor,
    image: torch.Tensor,
    weights: torch.Tensor | None,
    scales: torch.Tensor,
    *options: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    grads = _backward_fake(grad, rendered, image, weights, scales, *options)
    *loss_options, need_rendered, need_image = options
    wanted = (grads[0] if need_rendered else None, grads[1] if need_image else None)
    inputs = (grad, rendered, image, weights, scales)
    if _triton.runs_on(rendered):
        from facecore.losses import _reconstruction_triton as kernels

        launch = kernels.gradient_launch(*inputs, tuple(loss_options), wanted)
        launch.run(rendered.device)
        return grads
    call("picture_loss_backward", rendered, (*rendered.shape, *loss_options), inputs, wanted)
    return grads


_OPTIONS = "int norm, bool pooled, float error_weight, float steps_weight"
_picture_loss_backward = make_op(
    "picture_loss_backward",
    f"(Tensor grad, Tensor rendered, Tensor image, Tensor? weights, Tensor scales, {_OPTIONS}, bool need_rendered,"
    " bool need_image) -> (Tensor, Tensor)",
    _backward_kernel,
    _backward_fake,
)
_picture_loss = make_op(
    "picture_loss",
    f"(Tensor rendered, Tensor image, Tensor? weights, {_OPTIONS}) -> (Tensor, Tensor)",
    _kernel,
    _fake,
    setup=_setup,
    backward=_backward,
)
