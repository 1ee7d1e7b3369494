"""From a checkpoint file to a system that reconstructs."""

from __future__ import annotations

import pathlib

import torch

from facecore.systems.assets import FaceAssets
from facecore.systems.semi_supervised import SemiSupervised
from facecore.systems.semi_supervised_config import ModelConfig
from facecore.systems.semi_supervised_training import NAME as SEMI_SUPERVISED
from facecore.training.checkpoint import Checkpoint
from facecore.training.config import overlay


def load(path: str | pathlib.Path, device: torch.device | str = "cpu") -> SemiSupervised:
    """The trained system in eval mode, with .reconstruct(images) -> Reconstruction. Needs nothing but the file.

    Raises ValueError naming the file when it is absent, damaged, or of a system that this version does not know.
    """
    path = pathlib.Path(path)
    checkpoint = Checkpoint.load(path, ("model", "assets"))
    name = checkpoint.plain.get("system")
    if name != SEMI_SUPERVISED:
        raise ValueError(f"{path} holds the system {name!r}; this version of facecore knows '{SEMI_SUPERVISED}'")
    try:
        config = overlay(ModelConfig(), checkpoint.plain["config"]["model"] | {"encoder_weights": None})
        system = SemiSupervised(
            config, FaceAssets.from_tensors(checkpoint.tensors["assets"], checkpoint.plain["assets"])
        )
        system.load_state_dict(checkpoint.tensors["model"])
        system.config_hash = str(checkpoint.plain["config_hash"])
    except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"the checkpoint {path} is damaged or of another version: {reason}") from error
    return system.to(device).eval()
