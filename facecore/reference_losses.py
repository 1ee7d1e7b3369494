"""The definitions of facecore.losses in plain PyTorch: test oracle and benchmark baseline.

Each function means the same as the one of its name in facecore.losses, checks nothing and is differentiable as often as
one likes.
"""

from __future__ import annotations

import torch

from facecore import reference
from facecore.losses._masked import batch_mean
from facecore.structures import SparseMatrix

L2_EPSILON = 1e-6  # inside the square root of "l2", METHODS section 4: its slope is then finite where pictures agree


def reconstruction_loss(
    rendered: torch.Tensor,
    image: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    norm: str = "l2_squared",
    gradient_weight: float = 1.0,
) -> torch.Tensor:
    """METHODS 2.2, L_recon."""
    photometric = photometric_loss(rendered, image, mask, norm=norm)
    return photometric + gradient_weight * gradient_difference_loss(rendered, image, mask)


def photometric_loss(
    rendered: torch.Tensor,
    image: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    norm: str = "l2_squared",
    attention: torch.Tensor | None = None,
    reduction: str = "per_image",
) -> torch.Tensor:
    """METHODS 1.1, 2.2, 4."""
    weights = _weights(rendered, mask, attention)
    difference = torch.where(weights[:, None] > 0, rendered - image, 0.0)
    if norm == "l1":
        error = difference.abs().sum(1)
    else:
        squared = (difference * difference).sum(1)
        error = squared if norm == "l2_squared" else torch.sqrt(squared + L2_EPSILON)
    error = weights * error
    if reduction == "pooled":
        return error.sum() / weights.sum().clamp_min(1.0)
    return batch_mean(error.sum((1, 2)) / weights.sum((1, 2)).clamp_min(1.0))


def gradient_difference_loss(
    rendered: torch.Tensor, image: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """METHODS 1.11."""
    weights = _weights(rendered, mask)
    return sum((_steps(rendered, image, weights, axis) for axis in (-1, -2)), rendered.new_zeros(()))


def smoothness_loss(
    displacement: torch.Tensor, random_walk_laplacian: SparseMatrix, *, scale: float = 1.0
) -> torch.Tensor:
    """METHODS 2.2, L_smth."""
    product = reference.sparse_matmul(random_walk_laplacian, displacement)
    return product.abs().sum() / (max(displacement.numel(), 1) * scale)


def _weights(rendered: torch.Tensor, mask: torch.Tensor | None, attention: torch.Tensor | None = None) -> torch.Tensor:
    weights = torch.ones_like(rendered[:, 0])
    for factor in (mask, attention):
        if factor is not None:
            weights = weights * torch.where(factor > 0, factor.to(rendered.dtype), 0.0)
    return weights


def _steps(rendered: torch.Tensor, image: torch.Tensor, weights: torch.Tensor, axis: int) -> torch.Tensor:
    """The gradient difference over horizontal (axis -1) or vertical (axis -2) pairs of pixels."""
    count = weights.shape[axis] - 1
    if count < 1:
        return rendered.new_zeros(())

    def neighbours(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return values.narrow(axis, 1, count), values.narrow(axis, 0, count)

    weight_a, weight_b = neighbours(weights)
    pairs = weight_a * weight_b
    steps = []
    for picture in (rendered, image):
        a, b = neighbours(picture)
        steps.append(torch.where(pairs[:, None] > 0, a - b, 0.0).abs())
    error = (steps[0] - steps[1]).abs().sum(1) / rendered.shape[1]
    return batch_mean((pairs * error).sum((1, 2)) / pairs.sum((1, 2)).clamp_min(1.0))
