"""From a checkpoint file to a system that reconstructs."""

from __future__ import annotations

import pathlib

import torch

from facecore.systems.assets import FaceAssets
from facecore.systems.joint_recognition import JointAssets, JointRecognition
from facecore.systems.joint_recognition_config import JointModelConfig
from facecore.systems.joint_recognition_training import NAME as JOINT_RECOGNITION
from facecore.systems.semi_supervised import SemiSupervised
from facecore.systems.semi_supervised_config import ModelConfig
from facecore.systems.semi_supervised_training import NAME as SEMI_SUPERVISED
from facecore.training.checkpoint import Checkpoint
from facecore.training.config import overlay

System = SemiSupervised | JointRecognition


def load(path: str | pathlib.Path, device: torch.device | str = "cpu") -> System:
    """The trained system in eval mode, with .reconstruct(images) -> Reconstruction. Needs nothing but the file.

    Raises ValueError naming the file when it is absent, damaged, or of a system that this version does not know.
    """
    path = pathlib.Path(path)
    checkpoint = Checkpoint.load(path, ("model", "assets"))
    name = checkpoint.plain.get("system")
    makers = {SEMI_SUPERVISED: _semi_supervised, JOINT_RECOGNITION: _joint_recognition}
    if name not in makers:
        known = " and ".join(f"'{system}'" for system in makers)
        raise ValueError(f"{path} holds the system {name!r}; this version of facecore knows {known}")
    try:
        system = makers[name](checkpoint)
        system.load_state_dict(checkpoint.tensors["model"])
        system.config_hash = str(checkpoint.plain["config_hash"])
    except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"the checkpoint {path} is damaged or of another version: {reason}") from error
    return system.to(device).eval()


def _semi_supervised(checkpoint: Checkpoint) -> System:
    config = overlay(ModelConfig(), checkpoint.plain["config"]["model"] | {"encoder_weights": None})
    return SemiSupervised(config, FaceAssets.from_tensors(checkpoint.tensors["assets"], checkpoint.plain["assets"]))


def _joint_recognition(checkpoint: Checkpoint) -> System:
    config = overlay(JointModelConfig(), checkpoint.plain["config"]["model"])
    return JointRecognition(config, JointAssets.from_tensors(checkpoint.tensors["assets"], checkpoint.plain["assets"]))
