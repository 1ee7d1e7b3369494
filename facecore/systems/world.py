"""Which faces a training sees with labels, and which ones there are (METHODS 8.3, claim 0a)."""

from __future__ import annotations

from facecore.morphable import MorphableModel
from facecore.morphable.variants import first_identity_modes, with_local_bumps
from facecore.training.config import WorldConfig


def faces_of_world(model: MorphableModel, world: WorldConfig) -> tuple[MorphableModel, MorphableModel]:
    """The model of the labelled half, and that of the faces on rendered photographs and held-out renders."""
    labelled = first_identity_modes(model, world.labelled_modes) if world.labelled_modes else model
    if not world.bumps:
        return labelled, model
    return labelled, with_local_bumps(model, world.bumps, height_mm=world.bump_mm, radius_mm=world.bump_radius_mm)
