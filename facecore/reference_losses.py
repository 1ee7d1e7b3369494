"""The definitions of facecore.losses in plain PyTorch: test oracle and benchmark baseline.

Each function means the same as the one of its name in facecore.losses, checks nothing and is differentiable as often as
one likes.
"""

from __future__ import annotations

import math

import torch

from facecore import reference
from facecore.losses._landmark_pairs import landmark_pairs
from facecore.losses._masked import batch_mean
from facecore.losses._skin_model import SKIN_PRIOR, gaussians
from facecore.structures import SparseMatrix

L2_EPSILON = 1e-6  # inside the square root of "l2", METHODS section 4: its slope is then finite where pictures agree


def reconstruction_loss(
    rendered: torch.Tensor,
    image: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    norm: str = "l2_squared",
    gradient_weight: float = 1.0,
    coverage: torch.Tensor | None = None,
) -> torch.Tensor:
    """METHODS 2.2, L_recon."""
    rendered = composited(rendered, image, coverage)
    photometric = photometric_loss(rendered, image, mask, norm=norm)
    return photometric + gradient_weight * gradient_difference_loss(rendered, image, mask)


def composited(rendered: torch.Tensor, image: torch.Tensor, coverage: torch.Tensor | None) -> torch.Tensor:
    """The render laid over the image [N, C, H, W]: image + coverage (rendered - image)."""
    if coverage is None:
        return rendered
    coverage = torch.where(coverage > 0, coverage.to(rendered.dtype), 0.0)[:, None]
    return torch.where(coverage > 0, torch.lerp(image, rendered, coverage), image)


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


def symmetry_loss(albedo: torch.Tensor, mirror_map: torch.Tensor | SparseMatrix) -> torch.Tensor:
    """METHODS 2.2, L_symm."""
    if isinstance(mirror_map, SparseMatrix):
        flipped = reference.sparse_matmul(mirror_map, albedo)
    else:
        flipped = albedo.index_select(1, mirror_map)
    return (albedo - flipped).abs().sum() / max(albedo.numel(), 1)


def texture_symmetry_loss(texture: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    """METHODS 1.9, flip."""
    n, c, h, w = texture.shape
    valid = texture.new_ones(h, w, dtype=torch.bool) if valid is None else valid
    both = (valid & valid.flip(-1)).expand(n, h, w)
    error = torch.where(both[:, None], texture - texture.flip(3), 0.0).abs().sum((1, 2, 3)) / max(c, 1)
    return batch_mean(error / both.sum((1, 2)).clamp_min(1))


def shape_loss(
    predicted: torch.Tensor, target: torch.Tensor, scale: float | torch.Tensor = 1.0, *, norm: str = "l1"
) -> torch.Tensor:
    """METHODS 2.2, L_shp; METHODS 3, L_R."""
    difference = (predicted - target) / scale
    if norm == "l1":
        return difference.abs().sum() / max(difference.numel(), 1)
    return (difference * difference).sum() / max(difference.numel() // 3, 1)


def flattening_loss(albedo: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """METHODS 4, L_tex."""
    weight = torch.where(region > 0, region.to(albedo.dtype), 0.0)[:, None]
    inside = torch.where(weight > 0, albedo, 0.0)
    divisor = weight.sum().clamp_min(1.0)
    mean = (weight * inside).sum(1, keepdim=True) / divisor
    return batch_mean((weight * (inside - mean) ** 2).sum((1, 2)) / divisor)


def landmark_structure_loss(
    predicted: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """METHODS 2.2, L_gdl,lmk."""
    weight = torch.ones_like(predicted[..., 0]) if weight is None else torch.where(weight > 0, weight, 0.0)
    first, second, pair_weight = landmark_pairs(predicted.device, predicted.dtype)
    weights = pair_weight * weight[:, first] * weight[:, second]

    def lengths_of(points: torch.Tensor) -> torch.Tensor:
        # index_select, not indexing: torch promises a fixed order of sums for its gradient on the CPU only.
        vectors = points.index_select(1, first) - points.index_select(1, second)
        return _length(torch.where(weights[..., None] > 0, vectors, 0.0))

    error = weights * (lengths_of(predicted) - lengths_of(target)).abs()
    return batch_mean(error.sum(-1) / weights.sum(-1).clamp_min(1.0))


def skin_probability(image: torch.Tensor) -> torch.Tensor:
    """METHODS 1.10."""
    linear, offset, log_weight = gaussians(image.device, image.dtype)
    red, green, blue = image[:, None].unbind(2)
    exponents = []
    for gaussian in range(log_weight.numel()):
        # Elementwise: a matrix product may run in TF32, which is too coarse for exponents of order 100.
        whitened = torch.addcmul(offset[gaussian], linear[gaussian, :, 0], red)
        whitened = torch.addcmul(torch.addcmul(whitened, linear[gaussian, :, 1], green), linear[gaussian, :, 2], blue)
        exponents.append(log_weight[gaussian] - 0.5 * whitened.square().sum(1))
    skin, other = (torch.stack(half).logsumexp(0) for half in (exponents[:4], exponents[4:]))
    # P = 0.8 p_s / (0.8 p_s + 0.2 p_n) as a logistic function of logarithms: both densities may underflow
    return torch.sigmoid(skin - other + math.log(SKIN_PRIOR / (1.0 - SKIN_PRIOR)))


def _length(vectors: torch.Tensor) -> torch.Tensor:
    squared = (vectors * vectors).sum(-1)
    positive = squared > 0
    return torch.where(positive, torch.sqrt(torch.where(positive, squared, 1.0)), 0.0)


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
