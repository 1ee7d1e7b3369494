"""Textures to points and pixels by their texture coordinates."""

from __future__ import annotations

from typing import Any

import torch

from facecore.ops._library import (
    FLOATS,
    call,
    check_tensor,
    check_tensors,
    gathers,
    make_op,
    takes_cuda_bodies,
    wanted_gradients,
)
from facecore.ops._pixels import sum_samples
from facecore.ops.rasterize import MAX_SIZE


def uv_sample(texture: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
    """Returns the texture's bilinear values at texture coordinates, [N, V, C] or [N, H, W, C].

    Args:
        texture: float32 or float64 [N, C, Hu, Wu], at most 16384 texels a side. Row 0 is v near 1: the centre of texel
            (row i, column j) is at u = (j + 0.5) / Wu, v = 1 - (i + 0.5) / Hu.
        uv: dtype of texture, v upwards, in [0, 1]: [V, 2] for all images, [N, V, 2], or [N, H, W, 2] for a picture (as
            facecore.ops.interpolate makes it from the uv of the corners).

    Beyond the outermost centres the border's value continues, so the gradient of uv is 0 there. NaN coordinates give 0
    and no gradient. Differentiable (once) in texture and uv; the second derivative raises RuntimeError. Deterministic
    on the CPU, for any number of threads; on CUDA the gradient of the texture is added with atomics, and gathered in a
    fixed order (slower, with memory for a few numbers per texel and point) under
    torch.use_deterministic_algorithms(True). Raises ValueError for a wrong shape, dtype or device, and for a texture
    without texels. METHODS 1.9.
    """
    check_tensors(texture=texture, uv=uv)
    if uv.ndim not in (2, 3, 4) or uv.shape[-1] != 2:
        raise ValueError(f"uv must have shape [V, 2], [N, V, 2] or [N, H, W, 2], got {list(uv.shape)}")
    points = uv.reshape(1, -1, 2) if uv.ndim == 2 else uv.reshape(uv.shape[0], uv.shape[1:-1].numel(), 2)
    if texture.ndim == 4 and uv.ndim > 2 and uv.shape[0] != texture.shape[0]:
        raise ValueError(f"uv must have {texture.shape[0]} images like texture, got shape {list(uv.shape)}")
    values = _uv_sample(texture, points)
    return values if uv.ndim < 4 else values.reshape(*uv.shape[:-1], texture.shape[1])


def _check(texture: torch.Tensor, points: torch.Tensor) -> dict[str, int]:
    sizes = check_tensor("texture", texture, ("N", "C", "Hu", "Wu"), FLOATS)
    check_tensor("uv", points, ("B", "P", 2), FLOATS, like=texture, sizes=sizes)
    if sizes["B"] not in (1, sizes["N"]):
        raise ValueError(f"uv must have 1 or {sizes['N']} images like texture, got {sizes['B']}")
    if not (1 <= sizes["Hu"] <= MAX_SIZE and 1 <= sizes["Wu"] <= MAX_SIZE):
        raise ValueError(f"texture must have 1 to {MAX_SIZE} texels a side, got shape {list(texture.shape)}")
    return sizes


def _sizes(texture: torch.Tensor, points: torch.Tensor) -> tuple[int, ...]:
    n, c, height, width = texture.shape
    return n, points.shape[1], c, height, width, int(points.shape[0] == 1)


def _fake(texture: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    sizes = _check(texture, points)
    return texture.new_empty(sizes["N"], sizes["P"], sizes["C"])


def _kernel(texture: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    out = _fake(texture, points)
    call("uv_sample", texture, _sizes(texture, points), (texture, points), (out,))
    return out


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    wanted = wanted_gradients(ctx)[:2]
    grads = _uv_sample_backward(grad_out, *ctx.saved_tensors, *wanted)
    return tuple(grad if want else None for grad, want in zip(grads, wanted))


def _backward_fake(
    grad_out: torch.Tensor, texture: torch.Tensor, points: torch.Tensor, to_texture: bool, to_points: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    sizes = _check(texture, points)
    check_tensor("grad_out", grad_out, ("N", "P", "C"), FLOATS, like=texture, sizes=sizes)
    return texture.new_empty(texture.shape if to_texture else 0), points.new_empty(points.shape if to_points else 0)


def _backward_kernel(
    grad_out: torch.Tensor, texture: torch.Tensor, points: torch.Tensor, to_texture: bool, to_points: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    grad_texture, grad_points = _backward_fake(grad_out, texture, points, to_texture, to_points)
    (n, p, c, height, width, shared), inputs = _sizes(texture, points), (grad_out, texture, points)
    gathered = gathers(texture)
    if not gathered:
        grad_texture.zero_()
    elif to_texture:
        cell, fraction = points.new_empty((n, p), dtype=torch.int32), points.new_empty(n, p, 2)
        call("uv_sample_cells", texture, (n, p, height, width, shared), (points,), (cell, fraction))
        sum_samples(grad_out, (1, c), cell, fraction, grad_texture)
    by_channel = not takes_cuda_bodies(texture) and torch.get_num_threads() > n
    if n == 0:  # no image adds to the gradient of points that all images share
        return grad_texture, grad_points.zero_()
    outputs = (grad_texture if to_texture and not gathered else None, grad_points if to_points else None)
    call("uv_sample_backward", texture, (n, p, c, height, width, shared, int(by_channel)), inputs, outputs)
    return grad_texture, grad_points


_uv_sample_backward = make_op(
    "uv_sample_backward",
    "(Tensor grad_out, Tensor texture, Tensor points, bool to_texture, bool to_points) -> (Tensor, Tensor)",
    _backward_kernel,
    _backward_fake,
)
_uv_sample = make_op(
    "uv_sample", "(Tensor texture, Tensor points) -> Tensor", _kernel, _fake, setup=_setup, backward=_backward
)
