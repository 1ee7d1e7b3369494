"""How wrong whitened coefficients are by what they make: shape and albedo errors without a vertex being computed."""

from __future__ import annotations

import torch

from facecore.morphable import MorphableModel

SIMILARITY_SHARE = 0.1  # weight of the part of a shape difference that moving, turning and scaling would undo


class CoefficientMetric:
    """Squared errors over the prior's variance, as quadratic forms in differences of whitened coefficients.

    What a similarity undoes (size above all, which a weak-perspective picture does not show) counts SIMILARITY_SHARE.
    """

    def __init__(self, model: MorphableModel) -> None:
        prior = model.prior
        shape = torch.cat(
            [
                model.identity_basis * prior.identity_std[:, None, None],
                model.expression_basis * prior.expression_std[:, None, None],
            ]
        )
        self._shape_factor = _metric_factor(shape, model.template)
        self._albedo_factor = _metric_factor(model.require("albedo_basis") * prior.albedo_std[:, None, None], None)

    def shape_error(self, difference: torch.Tensor) -> torch.Tensor:
        """Of identity and expression coefficients side by side, [N, Ki + Ke] -> [N]. Differentiable."""
        return (difference @ self._shape_factor).square().sum(1)

    def albedo_error(self, difference: torch.Tensor) -> torch.Tensor:
        """Of albedo coefficients, [N, Ka] -> [N]. Differentiable."""
        return (difference @ self._albedo_factor).square().sum(1)


def _metric_factor(basis: torch.Tensor, template: torch.Tensor | None) -> torch.Tensor:
    """F [K, K] with |d F|^2 = mean square of d @ basis over the total variance, for whitened d [N, K].

    With a template, the part of the basis in its similarity directions counts SIMILARITY_SHARE.
    """
    flat = basis.flatten(1).double()
    gram = flat @ flat.T
    if template is not None:
        points = template.double()
        axes = torch.eye(3, dtype=torch.float64, device=points.device)
        moves = [axis.expand_as(points) for axis in axes]
        turns = [torch.linalg.cross(axis.expand_as(points), points) for axis in axes]
        directions = torch.stack([t.flatten() for t in (*moves, *turns, points)], 1)
        along = flat @ torch.linalg.qr(directions)[0]
        gram = gram - (1 - SIMILARITY_SHARE) * (along @ along.T)
    values, vectors = torch.linalg.eigh(gram / gram.diagonal().sum())
    return (vectors * values.clamp_min(0).sqrt()).float().to(basis.device)
