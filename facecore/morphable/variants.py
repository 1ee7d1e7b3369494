"""Smaller and larger models made of a given one: a labelled model, and a world it does not span (METHODS 8.3, 0a)."""

from __future__ import annotations

import dataclasses

import torch

from facecore import ops
from facecore.morphable.model import MorphableModel

WIDTH_MM = (10.0, 25.0)  # Gaussian widths of bumps: a cheek's dimple, a chin


def truncated(model: MorphableModel, num_identity: int) -> MorphableModel:
    """The model with its first `num_identity` identity modes alone. Raises ValueError where it has fewer."""
    if not 1 <= num_identity <= model.num_identity:
        raise ValueError(f"num_identity must be 1 to {model.num_identity}, got {num_identity}")
    prior = model.prior
    return dataclasses.replace(
        model,
        name=f"{model.name}-{num_identity}",
        identity_basis=model.identity_basis[:num_identity],
        identity_std=model.identity_std[:num_identity],
        identity_names=model.identity_names[:num_identity],
        prior=dataclasses.replace(
            prior,
            identity_mean=prior.identity_mean[:num_identity],
            identity_std=prior.identity_std[:num_identity],
        ),
    )


def with_bumps(model: MorphableModel, count: int, height_mm: float, generator: torch.Generator) -> MorphableModel:
    """The model with `count` more identity modes: local bumps along the normals of the mean face, that it lacks.

    Each is a Gaussian of 10 to 25 mm around a random vertex with standard deviation `height_mm` at its top; a bump and
    its mirror image (by the mirror map, where there is one) are one mode in half of the cases, so that faces stay
    nearly symmetric. Coefficients are standard normal. The generator is on the CPU.
    """
    if count < 0 or not height_mm > 0:
        raise ValueError(f"count must be at least 0 and height_mm positive, got {count} and {height_mm}")
    mean = model.mean_neutral().cpu()
    normals = ops.vertex_normals(mean[None], model.triangles.cpu())[0]
    centers = mean[torch.randint(len(mean), (count,), generator=generator)]
    low, high = WIDTH_MM
    widths = low + (high - low) * torch.rand(count, 1, generator=generator)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    profile = torch.exp(-0.5 * (torch.cdist(centers, mean) / widths).square())
    if model.mirror_map is not None:
        profile = torch.where(mirrored, torch.maximum(profile, profile[:, model.mirror_map.cpu()]), profile)
    bumps = (height_mm * profile[..., None] * normals).to(model.identity_basis)
    ones, prior = torch.ones(count).to(model.identity_std), model.prior
    return dataclasses.replace(
        model,
        name=f"{model.name}+{count}",
        identity_basis=torch.cat([model.identity_basis, bumps]),
        identity_std=torch.cat([model.identity_std, ones]),
        identity_names=(*model.identity_names, *(f"bump{k:03d}" for k in range(count))),
        prior=dataclasses.replace(
            prior,
            identity_mean=torch.cat([prior.identity_mean, torch.zeros_like(ones)]),
            identity_std=torch.cat([prior.identity_std, ones]),
        ),
    )
