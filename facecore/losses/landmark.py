"""Landmark losses: distances of projected landmarks, and of the distances between them (METHODS 2.2, L_lmk)."""

from __future__ import annotations

import functools
from typing import Literal

import torch

from facecore.losses._masked import batch_mean
from facecore.ops._library import check_tensor

# Upper and lower lids, upper and lower inner lip: whether eyes and mouth are open. METHODS 2.2.
APERTURE_PAIRS = ((37, 41), (38, 40), (43, 47), (44, 46), (61, 67), (62, 66), (63, 65))
APERTURE_WEIGHT = 20.0


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

    Differentiable in predicted and target; weight is a constant. Deterministic. Raises ValueError for a wrong shape,
    dtype, device or norm.
    """
    if norm not in ("l2_squared", "l1"):
        raise ValueError(f"norm must be l2_squared or l1, got {norm!r}")
    weight = _check_points(predicted, target, weight, "P")
    difference = torch.where(weight[..., None] > 0, predicted - target, 0.0)
    error = difference.abs() if norm == "l1" else difference * difference
    return batch_mean((weight * error.sum(-1)).sum(-1) / max(predicted.shape[1], 1))


def landmark_structure_loss(
    predicted: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Returns the weighted mean over pairs of | |p_a - p_b| - |t_a - t_b| |, averaged over images: a scalar.

    All 2,278 pairs of the 68 landmarks weigh 1, the seven lid and inner-lip pairs 20; each times the weights of its
    two points. The mean divides by max(sum of the pair weights, 1).

    Args:
        predicted, target: the 68 iBUG landmarks, float32 or float64 [N, 68, 2].
        weight: [N, 68], 0 = unknown: pairs with such a point never matter, even where it is NaN. None = all 1.

    Differentiable in predicted and target (slope 0 where two points coincide); weight is a constant. Deterministic on
    the CPU. Raises ValueError for a wrong shape, dtype or device. METHODS 2.2 (L_gdl,lmk).
    """
    weight = _check_points(predicted, target, weight, 68)
    first, second, pair_weight = _pairs(predicted.device, predicted.dtype)
    weights = pair_weight * weight[:, first] * weight[:, second]

    def lengths_of(points: torch.Tensor) -> torch.Tensor:
        # index_select, not indexing: torch promises a fixed order of sums for its gradient on the CPU only.
        vectors = points.index_select(1, first) - points.index_select(1, second)
        return _length(torch.where(weights[..., None] > 0, vectors, 0.0))

    error = weights * (lengths_of(predicted) - lengths_of(target)).abs()
    return batch_mean(error.sum(-1) / weights.sum(-1).clamp_min(1.0))


def _check_points(
    predicted: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None, count: int | str
) -> torch.Tensor:
    """Checks the arguments; returns the weights [N, P], 0 where not positive."""
    sizes = check_tensor("predicted", predicted, ("N", count, 2))
    check_tensor("target", target, ("N", count, 2), like=predicted, sizes=sizes)
    if weight is None:
        return predicted.new_ones(predicted.shape[:2])
    check_tensor("weight", weight, ("N", count), like=predicted, sizes=sizes)
    if weight.requires_grad:
        raise ValueError("weight is a constant of the loss and gets no gradient: pass weight.detach()")
    return torch.where(weight > 0, weight, 0.0)


def _length(vectors: torch.Tensor) -> torch.Tensor:
    squared = (vectors * vectors).sum(-1)
    positive = squared > 0
    return torch.where(positive, torch.sqrt(torch.where(positive, squared, 1.0)), 0.0)


@functools.lru_cache(maxsize=8)
@torch.inference_mode(False)  # kept for later calls, so it must not become an inference tensor
def _pairs(device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    first, second = torch.triu_indices(68, 68, offset=1)
    weights = torch.ones(first.numel(), dtype=dtype)
    for a, b in APERTURE_PAIRS:
        weights[(first == a) & (second == b)] = APERTURE_WEIGHT
    return first.to(device), second.to(device), weights.to(device)
