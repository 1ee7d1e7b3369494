"""Morphable models for claims 0a and 0b of METHODS 8.3: fewer identity modes, and shapes that a model has not seen.

The labelled half is rendered from `first_identity_modes(model, 20)`, the unlabelled half and the test faces from
`with_local_bumps(model, ...)`.
"""

from __future__ import annotations

import dataclasses

import torch

from facecore.morphable import MorphableModel
from facecore.ops import vertex_normals


def first_identity_modes(model: MorphableModel, count: int) -> MorphableModel:
    """The model with its first `count` identity modes alone. Raises ValueError for a count outside 1 to Ki."""
    if not 1 <= count <= model.num_identity:
        raise ValueError(f"count must be 1 to {model.num_identity}, the identity modes of the model, got {count}")
    prior = dataclasses.replace(
        model.prior, identity_mean=model.prior.identity_mean[:count], identity_std=model.prior.identity_std[:count]
    )
    return dataclasses.replace(
        model,
        name=f"{model.name}-{count}-modes",
        identity_basis=model.identity_basis[:count].clone(),
        identity_std=model.identity_std[:count],
        identity_names=model.identity_names[:count],
        prior=prior,
    )


def with_local_bumps(
    model: MorphableModel, count: int = 30, *, radius_mm: float = 12.0, height_mm: float = 1.0, seed: int = 0
) -> MorphableModel:
    """The model with `count` more identity modes, each a bump or a dent somewhere on the face.

    Mode k moves vertices along the template's normals by height_mm * exp(-d^2 / (2 radius_mm^2)), d the distance from
    a vertex drawn by `seed`; its coefficient is standard normal, as that of the others. Deterministic. Raises
    ValueError for a count below 1 or sizes that are not positive.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1 bump, got {count}")
    if not (radius_mm > 0 and height_mm > 0):
        raise ValueError(f"radius_mm and height_mm must be positive, got {radius_mm} and {height_mm}")
    chosen = torch.randperm(model.num_vertices, generator=torch.Generator().manual_seed(seed))[:count]
    template = model.template
    distance = torch.cdist(template[chosen.to(template.device)], template)
    normals = vertex_normals(template[None], model.triangles)[0]
    bumps = height_mm * torch.exp(-0.5 * (distance / radius_mm).square())[..., None] * normals
    ones = template.new_ones(len(chosen))
    prior = dataclasses.replace(
        model.prior,
        identity_mean=torch.cat([model.prior.identity_mean, torch.zeros_like(ones)]),
        identity_std=torch.cat([model.prior.identity_std, ones]),
    )
    return dataclasses.replace(
        model,
        name=f"{model.name}-bumps",
        identity_basis=torch.cat([model.identity_basis, bumps]),
        identity_std=torch.cat([model.identity_std, ones]),
        identity_names=(*model.identity_names, *(f"bump{k:03d}" for k in range(len(chosen)))),
        prior=prior,
    )
