"""Terms of objectives that systems share, and their weighted sum."""

from __future__ import annotations

import torch
from torch.nn import functional

from facecore.data import PhotoBatch
from facecore.morphable import MorphableModel
from facecore.nn import PointMaps, surface_point_loss
from facecore.ops import sh_shading
from facecore.render import pixel_to_ndc

Terms = dict[str, torch.Tensor]  # by name, as the weights are named
NUM_LIGHT_DIRECTIONS = 64


def weighted_total(terms: Terms, weights: object) -> torch.Tensor:
    """Sum of weight * term; a term whose weight is 0 is left out (0 * NaN is NaN) and costs no backward pass.

    Raises ValueError if no term is left.
    """
    used = [getattr(weights, name) * value for name, value in terms.items() if getattr(weights, name) != 0]
    if not used:
        raise ValueError(
            f"every term of this stage has weight 0 ({', '.join(terms)}); set one of them by --weights, or the stage's "
            "iterations to 0"
        )
    return torch.stack([term.float() for term in used]).sum()


def light_term(predicted: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of the shading by lights [N, 9, 3] over the hemisphere that faces the camera."""
    normals = light_directions(predicted).expand(len(predicted), -1, -1)
    return functional.mse_loss(sh_shading(normals, predicted), sh_shading(normals, truth))


def light_directions(like: torch.Tensor) -> torch.Tensor:
    """Unit directions [1, 64, 3] spread evenly (Fibonacci lattice) over the hemisphere that faces the camera."""
    index = torch.arange(NUM_LIGHT_DIRECTIONS, device=like.device, dtype=like.dtype) + 0.5
    z = index / NUM_LIGHT_DIRECTIONS
    azimuth = index * (torch.pi * (1 + 5**0.5))
    radius = (1 - z * z).sqrt()
    return torch.stack([radius * azimuth.cos(), radius * azimuth.sin(), z], dim=-1)[None]


class PointShapes:
    """Some vertices of a morphable model's shapes, without the others."""

    def __init__(self, model: MorphableModel, vertices: torch.Tensor) -> None:
        self._template = model.template[vertices]
        self._basis = torch.cat([model.identity_basis, model.expression_basis])[:, vertices].flatten(1)

    def __call__(self, identity: torch.Tensor, expression: torch.Tensor) -> torch.Tensor:
        """model.shape(identity, expression)[:, vertices], [N, P, 3] mm."""
        offset = torch.cat([identity, expression], 1) @ self._basis
        return self._template + offset.view(len(offset), -1, 3)


def surface_point_term(points: PointMaps, target: torch.Tensor, photos: PhotoBatch | None, size: int) -> torch.Tensor:
    """Where the encoder's maps see points of the face: all where the shape is known, else the known landmarks.

    points: of renders, then of the photographs; target: the renders' points in NDC, [N, P, 2]; size: of the pictures.
    The mean of both halves' means, by their numbers of pictures, in one call: to split the maps would copy them.
    """
    if photos is None:
        return surface_point_loss(points, target)
    known = photos.landmark_weight.shape[1]
    unknown = target.shape[1] - known
    on_photos = functional.pad(pixel_to_ndc(photos.landmarks, size, size), (0, 0, 0, unknown))
    share = target.shape[1] / known  # the mean over a photograph's points is over its landmarks alone
    weight = torch.cat(
        [target.new_ones(target.shape[:2]), functional.pad(share * photos.landmark_weight, (0, unknown))]
    )
    return surface_point_loss(points, torch.cat([target, on_photos]), weight)
