"""Heads of codes, solved: ridge regression of what the codes should be on the encoder's features.

Their inputs are strongly correlated (all points move with the pose), so an optimiser's steps come last to the small
differences in which identity lies, or never.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import nn
from tqdm import tqdm

from facecore.data import LabelledBatch, LabelledRenders
from facecore.training import distributed

RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0)  # of a feature's variance
CHECKED = 8  # one render in so many chooses among them
SMALLEST_VARIANCE = 1e-4  # of the features' mean variance: what varies less is not made as large as the others


class Headed(Protocol):
    """A system whose codes are linear in what its encoder sees."""

    aligned: bool

    @property
    def template(self) -> torch.Tensor:
        """Any tensor on the device of the features."""

    @property
    def training(self) -> bool: ...

    @property
    def encoder(self) -> nn.Module: ...

    def eval(self) -> object: ...

    def code_heads(self) -> tuple[nn.Linear, ...]:
        """Maps that read the same features; side by side, their outputs are the codes."""

    def corrections(self) -> tuple[nn.Linear, ...]:
        """One for each of code_heads, which adds what it reads of features of its own; or none at all."""

    @property
    def head_features(self) -> Callable[..., torch.Tensor]:
        """Of pictures, and where the system is `aligned` their 68 points: what the code heads read, and after it what
        the corrections do, [N, F + C]."""


def solve_on_renders(
    system: Headed,
    codes_of: Callable[[LabelledBatch], torch.Tensor],
    error: Callable[[torch.Tensor], torch.Tensor],
    renders: LabelledRenders,
    numbers: range,
    batch_size: int,
    optimizer: torch.optim.Optimizer,
) -> None:
    """solve_code_heads on the renders of these numbers; the optimiser forgets the heads' moments. Nothing for none.

    Leaves the system in eval mode. Of several processes each looks at its own renders.
    """
    if not numbers:
        return
    share = distributed.own_share()
    starts = range(share.index * batch_size, len(numbers), share.count * batch_size)
    shown = tqdm(starts, desc="heads", leave=False, disable=not distributed.is_first())
    batches = (renders.batch(torch.tensor(numbers[start : start + batch_size])) for start in shown)
    system.eval()
    distributed.take_first_buffers(system.encoder)
    ridge = solve_code_heads(system, codes_of, error, batches)
    for head in system.code_heads():
        for parameter in head.parameters():
            optimizer.state.pop(parameter, None)
    if distributed.is_first():
        tqdm.write(f"heads of the codes solved on {len(numbers)} renders, ridge {ridge} of a feature's variance")


@torch.no_grad()
def solve_code_heads(
    system: Headed,
    codes_of: Callable[[LabelledBatch], torch.Tensor],
    error: Callable[[torch.Tensor], torch.Tensor],
    batches: Iterable[LabelledBatch],
) -> float:
    """The linear heads of a system's codes, and their corrections, that fit the batches' codes best. Returns the ridge.

    codes_of: what all code heads together should say of a batch, [N, K]; error: of differences of such codes, [N].

    The ridge is that of RIDGES which, on the other renders, gives the smallest error of the first eighth of each batch;
    all renders then make the heads. Deterministic; float64. Of several processes each brings its own batches; the heads
    become the same in all.
    """
    if system.training:
        raise ValueError("call .eval() first: features must be those of inference")
    heads, corrections = system.code_heads(), system.corrections()
    inputs = [layers[0].in_features for layers in (heads, corrections) if layers]
    equations = NormalEquations(sum(inputs), sum(head.out_features for head in heads), system.template.device)
    checks = []
    for batch in batches:
        known = (batch.image, batch.landmarks) if system.aligned else (batch.image,)
        features, codes = system.head_features(*known), codes_of(batch)
        count = -(-len(codes) // CHECKED)
        checks.append((features[:count], codes[:count]))
        equations.add(features[count:], codes[count:])
    equations.sum_over_processes()
    ridge = _best_ridge(equations, error, checks)
    checked = NormalEquations(*equations.sizes, system.template.device)
    for features, codes in checks:
        checked.add(features, codes)
    equations.join(checked.sum_over_processes())
    weight, bias = equations.solve(ridge)
    outputs = [head.out_features for head in heads]
    for i, (part, constant) in enumerate(zip(weight.float().split(outputs, 1), bias.float().split(outputs))):
        parts = part.split(inputs)
        heads[i].weight.copy_(parts[0].T)
        heads[i].bias.copy_(constant)
        if corrections:
            corrections[i].weight.copy_(parts[1].T)
    return ridge


def _best_ridge(
    equations: NormalEquations,
    error: Callable[[torch.Tensor], torch.Tensor],
    checks: list[tuple[torch.Tensor, torch.Tensor]],
) -> float:
    errors = torch.zeros(len(RIDGES), dtype=torch.float64, device=equations.gram.device)
    for i, ridge in enumerate(RIDGES):
        weight, bias = (part.float() for part in equations.solve(ridge))
        for features, codes in checks:
            errors[i] += error(features @ weight + bias - codes).sum()
    return RIDGES[int(distributed.summed(errors).argmin())]


class NormalEquations:
    """Sums over samples, from which linear maps of F features to K targets follow for every ridge; float64."""

    def __init__(self, num_features: int, num_targets: int, device: torch.device) -> None:
        self.sizes = (num_features, num_targets)
        self.gram = torch.zeros(num_features + 1, num_features + 1, dtype=torch.float64, device=device)
        self.product = self.gram.new_zeros(num_features + 1, num_targets)

    def add(self, features: torch.Tensor, targets: torch.Tensor) -> None:
        """Samples: features [N, F], targets [N, K]."""
        wide = torch.nn.functional.pad(features, (0, 1), value=1.0).double()  # the last is the constant
        self.gram.addmm_(wide.T, wide)
        self.product.addmm_(wide.T, targets.double())

    def join(self, other: NormalEquations) -> None:
        """The samples of others of the same sizes, too."""
        self.gram += other.gram
        self.product += other.product

    def sum_over_processes(self) -> NormalEquations:
        distributed.summed(self.gram)
        distributed.summed(self.product)
        return self

    def solve(self, ridge: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights [F, K] and constants [K] that minimise the mean squared error plus `ridge` times the squared weights
        of the features over their deviations (of SMALLEST_VARIANCE at least). The constant is not shrunk.
        """
        count = self.gram[-1, -1].clamp_min(1)
        mean, target_mean = self.gram[-1, :-1] / count, self.product[-1] / count
        covariance = self.gram[:-1, :-1] / count - mean[:, None] * mean
        variance = covariance.diagonal()
        least = (SMALLEST_VARIANCE * variance.mean()).clamp_min(torch.finfo(variance.dtype).tiny)
        scale = variance.maximum(least).rsqrt()
        correlation = covariance.mul_(scale[:, None]).mul_(scale)
        correlation.diagonal().add_(ridge)
        cross = (self.product[:-1] / count - mean[:, None] * target_mean) * scale[:, None]
        weight = torch.cholesky_solve(cross, torch.linalg.cholesky(correlation)) * scale[:, None]
        return weight, target_mean - mean @ weight
