"""Measurements for the claims of conditional estimation: 12 to 14 of METHODS 8.3. One number per face.

Photometric error, shading up to scale and the share of directional light are in `facecore.evaluation.claims`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch

from facecore.render import Renderer


def albedo_error_up_to_scale(
    predicted: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Claims 12 and 13: mean absolute difference of the albedo after the best scale, [N].

    The scale is the least-squares factor of the whole face: white light of unknown strength leaves that open, and no
    more.

    Args:
        predicted, truth: albedo at the vertices, [N, V, 3].
        mask: vertices that count, bool [N, V]; None = all. A face without any has the error 0.

    Raises ValueError for shapes that differ.
    """
    if predicted.shape != truth.shape or predicted.ndim != 3 or predicted.shape[2] != 3:
        raise ValueError(f"predicted and truth must be [N, V, 3], got {list(predicted.shape)}, {list(truth.shape)}")
    if mask is not None and mask.shape != predicted.shape[:2]:
        raise ValueError(f"mask must be {list(predicted.shape[:2])}, got {list(mask.shape)}")
    counted = torch.ones_like(predicted[..., 0]) if mask is None else mask.to(predicted.dtype)
    weight = counted[..., None]
    tiny = torch.finfo(predicted.dtype).tiny
    over = (weight * predicted.square()).sum((1, 2)).clamp_min(tiny)
    scale = (weight * predicted * truth).sum((1, 2)) / over
    difference = (scale[:, None, None] * predicted - truth).abs().mean(2)
    return (difference * counted).sum(1) / counted.sum(1).clamp_min(1)


def texture_correlation(reflectance: torch.Tensor, unwrapped: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Claim 13: correlation of A and T over the visible texels, [N] in [-1, 1]; 1 = the reflectance copies the picture.

    Pearson's, about each channel's own mean, pooled over the channels: the colour of skin, which both have, does not
    count. 0 where either is constant.

    Args:
        reflectance, unwrapped: [N, C, Hu, Wu].
        visible: texels that the picture shows, bool [N, Hu, Wu].

    Raises ValueError for shapes that differ.
    """
    n, *texels = visible.shape
    if reflectance.shape != unwrapped.shape or reflectance.ndim != 4 or reflectance.shape[2:] != tuple(texels):
        raise ValueError(
            "reflectance and unwrapped must be [N, C, Hu, Wu] and visible [N, Hu, Wu], got "
            f"{list(reflectance.shape)}, {list(unwrapped.shape)}, {list(visible.shape)}"
        )
    weight = visible[:, None].to(torch.float64)
    count = weight.sum((2, 3), keepdim=True).clamp_min(1)
    centred = []
    for image in (reflectance, unwrapped):
        values = torch.where(visible[:, None], image, 0.0).double()
        centred.append(((values - values.sum((2, 3), keepdim=True) / count) * weight).reshape(n, -1))
    product, first, second = ((a * b).sum(1) for a, b in (centred, centred[:1] * 2, centred[1:] * 2))
    return (product / (first * second).sqrt().clamp_min(torch.finfo(torch.float64).tiny)).to(reflectance.dtype)


@dataclasses.dataclass
class RenderCount:
    """Pictures that a renderer has drawn."""

    pictures: int = 0


@contextlib.contextmanager
def counted_renders(renderer: Renderer) -> Iterator[RenderCount]:
    """Claim 14: counts the pictures that the renderer draws inside of the `with` block, each of a batch as one."""
    count = RenderCount()

    def see(_module: Renderer, _inputs: Any, rendering: Any) -> None:
        count.pictures += len(rendering.image)

    hook = renderer.register_forward_hook(see)
    try:
        yield count
    finally:
        hook.remove()
