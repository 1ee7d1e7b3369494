"""What a checkpoint carries of a system that predicts a morphable model's coefficients: the model itself."""

from __future__ import annotations

from typing import Any

import torch

from facecore.morphable import MorphableModel
from facecore.morphable.io import model_to_tensors


def assets_of(morphable: MorphableModel) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and plain values of the whole model, which `model_from_tensors` takes."""
    tensors, plain = model_to_tensors(morphable)
    return tensors, plain | {"morphable_name": morphable.name, "morphable_hash": morphable.content_hash()}
