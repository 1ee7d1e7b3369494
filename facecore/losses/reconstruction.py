"""Reconstruction loss: the photometric and the gradient difference loss in one pass, and the operator of all three."""

from __future__ import annotations

from typing import Any, Literal

import torch

from facecore import reference_losses
from facecore.losses import _triton
from facecore.losses._masked import picture_factors, product_of
from facecore.ops._library import call, check_tensor, make_op, takes_halves_under_autocast, wanted_gradients

Norm = Literal["l2_squared", "l2", "l1"]
FACTORS = ("mask", "attention", "coverage")
NORMS = ("l2_squared", "l2", "l1")  # in the order of PictureNorm in csrc/simd/picture_rows.h


def reconstruction_loss(
    rendered: torch.Tensor,
    image: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    norm: Norm = "l2_squared",
    gradient_weight: float = 1.0,
    coverage: torch.Tensor | None = None,
) -> torch.Tensor:
    """Returns photometric_loss + gradient_weight * gradient_difference_loss, both per image: a scalar.

    The two pictures are read once for the value and once for the gradient. The only memory beyond them is the gradient,
    and on the CPU a copy of what is not contiguous and of planes of another dtype.

    Args:
        rendered, image: pictures, float32 or float64 [N, C, H, W]; on CUDA bfloat16 and float16, too, computed and
            returned in float32.
        mask: weight of each pixel, bool or float in [0, 1], [N, H, W]; None = all 1.
        norm: of the photometric part, see photometric_loss.
        gradient_weight: w_g of METHODS 2.2.
        coverage: how much of each pixel the render covers, bool or float in [0, 1], [N, H, W]; None = all 1. The loss
            then compares image + coverage * (rendered - image), the render laid over the photograph, with image; that
            picture is not made in memory. Where coverage is 0, rendered never matters, even if it is NaN.

    Once differentiable in rendered and image; a second derivative is refused; mask and coverage are constants.
    Deterministic: sums are made in a fixed order, whatever the number of threads. The CUDA kernels need Triton: without
    it the definition runs as plain PyTorch and a RuntimeWarning says so once. Under torch.autocast half precision is
    taken as float32. Raises ValueError like its two parts.
    """
    return picture_loss(rendered, image, mask, norm=norm, steps_weight=gradient_weight, coverage=coverage)


@takes_halves_under_autocast
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
    coverage: torch.Tensor | None = None,
) -> torch.Tensor:
    """error_weight * photometric_loss + steps_weight * gradient_difference_loss, a scalar."""
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}")
    mask, attention, coverage = picture_factors(rendered, image, mask=mask, attention=attention, coverage=coverage)
    if _triton.runs_on(rendered):  # its kernel reads one weight; made here, it serves the value and the gradient
        mask, attention = product_of(mask, attention, _triton.sum_dtype(rendered.dtype)), None
    if _triton.missing_for(rendered):
        rendered, image = (picture.to(_triton.sum_dtype(picture.dtype)) for picture in (rendered, image))
        rendered = reference_losses.composited(rendered, image, coverage)
        reduction = "pooled" if pooled else "per_image"
        photometric = reference_losses.photometric_loss(rendered, image, mask, norm=norm, reduction=reduction)
        steps = reference_losses.gradient_difference_loss(rendered, image, mask) if steps_weight else 0.0
        return error_weight * photometric + steps_weight * steps
    options = (NORMS.index(norm), pooled, float(error_weight), float(steps_weight))
    return _picture_loss(rendered, image, mask, attention, coverage, *options)[0]


def _check(rendered: torch.Tensor, image: torch.Tensor, *factors: torch.Tensor | None) -> dict[str, int]:
    dtypes = _triton.float_dtypes(rendered)
    sizes = check_tensor("rendered", rendered, ("N", "C", "H", "W"), dtypes)
    check_tensor("image", image, ("N", "C", "H", "W"), dtypes, like=rendered, sizes=sizes)
    numbers = dtypes if _triton.runs_on(rendered) else (rendered.dtype,)  # Triton's kernel converts them itself
    for name, factor in zip(FACTORS, factors):
        if factor is not None:
            check_tensor(name, factor, ("N", "H", "W"), (torch.bool, *numbers), sizes=sizes)
            _triton.check_device(name, factor, rendered)
    return sizes


def _fake(rendered: torch.Tensor, image: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
    factors, norm = rest[:3], rest[3]
    if not 0 <= norm < len(NORMS):
        raise ValueError(f"norm must be 0 to {len(NORMS) - 1}, got {norm}")
    sizes = _check(rendered, image, *factors)
    dtype = _triton.sum_dtype(rendered.dtype)
    return rendered.new_empty((), dtype=dtype), rendered.new_empty((sizes["N"], 3), dtype=dtype)


def _kernel(rendered: torch.Tensor, image: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
    value, scales = _fake(rendered, image, *rest)
    factors, options = rest[:3], rest[3:]
    if _triton.runs_on(rendered):
        from facecore.losses import _reconstruction_triton as kernels

        planes = _triton_planes(factors, value.dtype)
        launches = kernels.value_launches(rendered, image, *planes, options, value, scales)
        _triton.run_all(launches, rendered.device)
    else:
        sizes = (*rendered.shape, *options, *_are_bools(factors))
        call("picture_loss", rendered, sizes, (rendered, image, *factors), (value, scales))
    return value, scales


def _are_bools(factors: tuple[torch.Tensor | None, ...]) -> list[bool]:
    return [factor is not None and factor.dtype == torch.bool for factor in factors]


def _triton_planes(
    factors: tuple[torch.Tensor | None, ...], dtype: torch.dtype
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Weights and coverage."""
    mask, attention, coverage = factors
    return product_of(mask, attention, dtype), coverage


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.options = inputs[5:]
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*inputs[:5], output[1])


def _backward(ctx: Any, grad: torch.Tensor, _: Any) -> tuple[torch.Tensor | None, ...]:
    wanted = wanted_gradients(ctx)[:2]
    grads = _picture_loss_backward(grad, *ctx.saved_tensors, *ctx.options, *wanted)
    return *(g if want else None for g, want in zip(grads, wanted)), *(None,) * 7


def _backward_fake(
    grad: torch.Tensor, rendered: torch.Tensor, image: torch.Tensor, *rest: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    *factors, scales = rest[:4]
    sizes = _check(rendered, image, *factors)
    _triton.check_constant("grad", grad, (), rendered)
    _triton.check_constant("scales", scales, ("N", 3), rendered, sizes)
    shape = tuple(rendered.shape)
    need_rendered, need_image = rest[-2:]
    return rendered.new_empty(shape if need_rendered else (0,)), rendered.new_empty(shape if need_image else (0,))


def _backward_kernel(
    grad: torch.Tensor, rendered: torch.Tensor, image: torch.Tensor, *rest: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    grads = _backward_fake(grad, rendered, image, *rest)
    factors, scales, options = rest[:3], rest[3], rest[4:-2]
    wanted = (grads[0] if rest[-2] else None, grads[1] if rest[-1] else None)
    if _triton.runs_on(rendered):
        from facecore.losses import _reconstruction_triton as kernels

        planes = _triton_planes(factors, scales.dtype)
        launch = kernels.gradient_launch(grad, rendered, image, *planes, scales, options, wanted)
        launch.run(rendered.device)
        return grads
    sizes = (*rendered.shape, *options, *_are_bools(factors))
    call("picture_loss_backward", rendered, sizes, (grad, rendered, image, *factors, scales), wanted)
    return grads


_FACTORS = "Tensor? mask, Tensor? attention, Tensor? coverage"
_OPTIONS = "int norm, bool pooled, float error_weight, float steps_weight"
_picture_loss_backward = make_op(
    "picture_loss_backward_v2",
    f"(Tensor grad, Tensor rendered, Tensor image, {_FACTORS}, Tensor scales, {_OPTIONS}, bool need_rendered,"
    " bool need_image) -> (Tensor, Tensor)",
    _backward_kernel,
    _backward_fake,
)
_picture_loss = make_op(
    "picture_loss_v2",
    f"(Tensor rendered, Tensor image, {_FACTORS}, {_OPTIONS}) -> (Tensor, Tensor)",
    _kernel,
    _fake,
    setup=_setup,
    backward=_backward,
)
