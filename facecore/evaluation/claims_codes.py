"""Measurements for claims about codes: 5 (disentangled) and 6 (one shape per person) of METHODS 8.3."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch

from facecore.evaluation.alignment import similarity_align, vertex_error

if TYPE_CHECKING:
    from facecore.morphable import MorphableModel

RIDGES = tuple(10.0**power for power in range(-3, 7))  # of the linear probe, on standardised features
TRAIN_SHARE = 0.7


def swap_errors(
    decode: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    codes: tuple[torch.Tensor, torch.Tensor],
    model: MorphableModel,
    truth: tuple[torch.Tensor, torch.Tensor],
    partner: torch.Tensor | None = None,
) -> torch.Tensor:
    """Claim 5: error in mm of decode(c_id of A, c_exp of B) against the true face of A with B's expression, [N].

    Mean vertex distance after similarity alignment.

    Args:
        decode: (identity codes, expression codes) -> vertices [N, V, 3] mm.
        codes: of N pictures, (identity [N, I], expression [N, E]).
        truth: the pictures' coefficients in `model`, (identity [N, Ki], expression [N, Ke]).
        partner: which picture B goes with picture A = i, int64 [N]; default: the next one, the last with the first.
            arange(N) gives the error without swapping, with which to compare.

    Raises ValueError for numbers of pictures that differ.
    """
    counts = {len(part) for part in (*codes, *truth)}
    if len(counts) != 1:
        raise ValueError(f"codes and truth must be of the same pictures, got {sorted(counts)} of them")
    if partner is None:
        partner = torch.arange(len(codes[0]), device=codes[0].device).roll(-1)
    with torch.no_grad():
        swapped = decode(codes[0], codes[1][partner])
    return vertex_error(swapped, model.shape(truth[0], truth[1][partner]))


def linear_probe(features: torch.Tensor, targets: torch.Tensor, *, train_share: float = TRAIN_SHARE) -> float:
    """Claim 5, leakage: the share of the targets' variance that a linear map of the features explains, R^2.

    Features are standardised, the map is found by ridge regression on the first `train_share` of the samples, with the
    one of RIDGES whose leave-one-out error there is the smallest, and R^2 is that of the other samples:
    1 - (squared error) / (squared distance from the training mean), summed over all targets. 0 = nothing leaks; it can
    be a little below. With c_id as features and expression coefficients as targets, less is better; with c_exp as
    features it is the reading that the expression code allows.

    features: [N, F]; targets: [N, T]. Computed in float64. Deterministic. Raises ValueError for shapes that differ, a
    share outside (0, 1), or fewer than two samples on either side.
    """
    if features.ndim != 2 or targets.ndim != 2 or len(features) != len(targets):
        raise ValueError(f"features [N, F] and targets [N, T], got {list(features.shape)}, {list(targets.shape)}")
    if not 0 < train_share < 1:
        raise ValueError(f"train_share must lie in (0, 1), got {train_share}")
    count = round(train_share * len(features))
    if count < 2 or len(features) - count < 2:
        raise ValueError(f"a probe needs two samples on either side, got {count} and {len(features) - count}")
    x, y = features.double(), targets.double()
    mean, std = x[:count].mean(0), x[:count].std(0, correction=0)
    x = torch.where(std > 0, (x - mean) / std.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
    middle = y[:count].mean(0)
    weight = _ridge(x[:count], y[:count] - middle)
    left = (y[count:] - middle - x[count:] @ weight).square().sum()
    return float(1 - left / (y[count:] - middle).square().sum())


def _ridge(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Weights [F, T] of centred samples, by the ridge with the least leave-one-out error (closed form: r / (1 - h))."""
    u, singular, vt = torch.linalg.svd(x, full_matrices=False)
    projected = u.T @ y
    best, chosen = torch.inf, torch.zeros_like(singular)
    for ridge in RIDGES:
        shrink = singular.square() / (singular.square() + ridge)
        leverage = (u.square() * shrink).sum(1) + 1 / len(x)  # the mean is fitted, too
        error = float(((y - u @ (shrink[:, None] * projected)) / (1 - leverage)[:, None]).square().sum())
        if error < best:
            best, chosen = error, singular / (singular.square() + ridge)
    return vt.T @ (chosen[:, None] * projected)


class Spread(NamedTuple):
    """Variances over pictures of several people. ratio = within / between: 0 = one code per person."""

    within: float
    between: float

    @property
    def ratio(self) -> float:
        return self.within / self.between


def identity_spread(values: torch.Tensor, identity: torch.Tensor) -> Spread:
    """Claim 6: variance of codes within an identity against that between identities.

    within: mean over pictures of the squared distance to the mean of their person, times n / (n - 1) of that person;
    between: mean over people of the squared distance of their means to the mean of the means. People with one picture
    do not count.

    values: [N, F]; identity: int64 [N]. Computed in float64. Raises ValueError for other shapes or fewer than two
    people with two pictures each.
    """
    if values.ndim != 2 or identity.shape != (len(values),):
        raise ValueError(f"values [N, F] and identity [N], got {list(values.shape)}, {list(identity.shape)}")
    people, row, count = torch.unique(identity, return_inverse=True, return_counts=True)
    if int((count > 1).sum()) < 2:
        raise ValueError("at least two people need at least two pictures each")
    x = values.double()
    means = torch.zeros(len(people), x.shape[1]).to(x).index_add_(0, row, x) / count[:, None]
    squared = (x - means[row]).square().sum(1) * (count / (count - 1).clamp_min(1))[row]
    several = count > 1
    within = float(squared[several[row]].mean())
    means = means[several]
    return Spread(within, float((means - means.mean(0)).square().sum(1).mean()))


def shape_spread_mm(neutral_vertices: torch.Tensor, identity: torch.Tensor) -> Spread:
    """Claim 6: the same of identity shapes, as RMS vertex distances in mm instead of variances.

    Every shape [N, V, 3] is first aligned with the mean of all by a similarity. within: RMS distance of a vertex from
    its person's mean shape; between: of the persons' mean shapes from the mean of these.
    """
    mean = neutral_vertices.double().mean(0, keepdim=True)
    aligned = similarity_align(neutral_vertices.double(), mean.expand(len(neutral_vertices), -1, -1))
    spread = identity_spread(aligned.flatten(1), identity)
    count = neutral_vertices.shape[1]
    return Spread((spread.within / count) ** 0.5, (spread.between / count) ** 0.5)
