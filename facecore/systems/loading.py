"""From a checkpoint file to a system that reconstructs."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from facecore.morphable.io import model_from_tensors
from facecore.perception import IdentityNetwork
from facecore.systems.assets import FaceAssets
from facecore.systems.conditional_estimation import ConditionalEstimation
from facecore.systems.conditional_estimation_config import ConditionalEstimationConfig
from facecore.systems.conditional_estimation_training import NAME as CONDITIONAL_ESTIMATION
from facecore.systems.joint_recognition import JointAssets, JointRecognition
from facecore.systems.joint_recognition_config import JointRecognitionConfig
from facecore.systems.joint_recognition_training import NAME as JOINT_RECOGNITION
from facecore.systems.semi_supervised import SemiSupervised
from facecore.systems.semi_supervised_config import SemiSupervisedConfig
from facecore.systems.semi_supervised_training import NAME as SEMI_SUPERVISED
from facecore.systems.unsupervised_regression import UnsupervisedRegression
from facecore.systems.unsupervised_regression_config import RegressionConfig
from facecore.systems.unsupervised_regression_training import NAME as UNSUPERVISED_REGRESSION
from facecore.systems.weakly_supervised import WeaklySupervised, from_assets
from facecore.systems.weakly_supervised_config import WeaklySupervisedConfig
from facecore.systems.weakly_supervised_training import NAME as WEAKLY_SUPERVISED
from facecore.training.checkpoint import Checkpoint
from facecore.training.config import overlay
from facecore.training.trainer import recognisers_of

System = SemiSupervised | JointRecognition | WeaklySupervised | ConditionalEstimation | UnsupervisedRegression


def load(path: str | pathlib.Path, device: torch.device | str = "cpu") -> System:
    """The trained system in eval mode, with .reconstruct(images) -> Reconstruction. Needs nothing but the file.

    Raises ValueError naming the file when it is absent, damaged, or of a system that this version does not know.
    """
    return load_trained(path, device).system


class Trained(NamedTuple):
    """A system with what its checkpoint says of its training.

    config: the whole configuration; morphable_name, morphable_hash: the model of its labelled half; recognitions:
    identities of the recognition networks that took part, or did in a training that this one began from.
    """

    system: System
    config: Any
    morphable_name: str
    morphable_hash: str
    recognitions: tuple[str, ...]


def load_trained(path: str | pathlib.Path, device: torch.device | str = "cpu") -> Trained:
    """The same with its configuration. Raises ValueError as `load` does."""
    path = pathlib.Path(path)
    checkpoint = Checkpoint.load(path, ("model", "assets"))
    plain, name = checkpoint.plain, checkpoint.plain.get("system")
    if name not in _KINDS:
        known = ", ".join(f"'{system}'" for system in _KINDS)
        raise ValueError(f"{path} holds the system {name!r}; this version of facecore knows {known}")
    kind = _KINDS[name]
    try:
        config = overlay(kind.config, plain["config"])
        system = kind.make(config, checkpoint.tensors["assets"], plain["assets"])
        system.load_state_dict(checkpoint.tensors["model"])
        system.config_hash, system.name = str(plain["config_hash"]), name
        names = (str(plain["assets"]["morphable_name"]), str(plain["assets"]["morphable_hash"]))
    except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"the checkpoint {path} is damaged or of another version: {reason}") from error
    return Trained(system.to(device).eval(), config, *names, tuple(recognisers_of(plain)))


Assets = dict[str, torch.Tensor]


class _Kind(NamedTuple):
    """config: the defaults that a checkpoint's settings are put over; make: the untrained system of these."""

    config: Any
    make: Callable[[Any, Assets, dict[str, Any]], System]


def _semi_supervised(config: SemiSupervisedConfig, tensors: Assets, plain: dict[str, Any]) -> System:
    model = overlay(config.model, {"encoder_weights": None})  # the file was for the start of the training
    return SemiSupervised(model, FaceAssets.from_tensors(tensors, plain))


def _joint_recognition(config: JointRecognitionConfig, tensors: Assets, plain: dict[str, Any]) -> System:
    return JointRecognition(config.model, JointAssets.from_tensors(tensors, plain))


def _weakly_supervised(config: WeaklySupervisedConfig, tensors: Assets, plain: dict[str, Any]) -> System:
    model = overlay(config.model, {"encoder_weights": None})
    return from_assets(model, tensors, plain, confidence=config.stages.confidence_iterations > 0)


def _unsupervised_regression(config: RegressionConfig, tensors: Assets, plain: dict[str, Any]) -> System:
    recognition = IdentityNetwork.from_facts(plain["recognition"])
    return UnsupervisedRegression(config.model, model_from_tensors(tensors, plain), recognition)


def _conditional_estimation(config: ConditionalEstimationConfig, tensors: Assets, plain: dict[str, Any]) -> System:
    return ConditionalEstimation(config.model, model_from_tensors(tensors, plain))


_KINDS = {
    SEMI_SUPERVISED: _Kind(SemiSupervisedConfig(), _semi_supervised),
    JOINT_RECOGNITION: _Kind(JointRecognitionConfig(), _joint_recognition),
    WEAKLY_SUPERVISED: _Kind(WeaklySupervisedConfig(), _weakly_supervised),
    UNSUPERVISED_REGRESSION: _Kind(RegressionConfig(), _unsupervised_regression),
    CONDITIONAL_ESTIMATION: _Kind(ConditionalEstimationConfig(), _conditional_estimation),
}
