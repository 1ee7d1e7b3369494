"""A whole morphable model as what a checkpoint carries, for systems that predict its coefficients."""

from __future__ import annotations

from typing import Any

import torch

from facecore.morphable import MorphableModel
from facecore.morphable.io import model_to_tensors


def assets_of(morphable: MorphableModel) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Everything of the model, tensors and plain values: `facecore.morphable.io.model_from_tensors` makes it again."""
    tensors, plain = model_to_tensors(morphable)
    return tensors, plain | {"morphable_name": morphable.name, "morphable_hash": morphable.content_hash()}
