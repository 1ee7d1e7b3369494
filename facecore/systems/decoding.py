"""Codes to shape and albedo, by a trained system or by a morphable model: what a Reconstruction's codes mean."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from facecore.morphable import MorphableModel
from facecore.systems.conditional_estimation import ConditionalEstimation
from facecore.systems.joint_recognition import JointRecognition
from facecore.systems.semi_supervised import SemiSupervised
from facecore.systems.unsupervised_regression import UnsupervisedRegression
from facecore.systems.weakly_supervised import WeaklySupervised

FaceSource = (
    SemiSupervised
    | JointRecognition
    | WeaklySupervised
    | ConditionalEstimation
    | UnsupervisedRegression
    | MorphableModel
)
Codes = Mapping[str, torch.Tensor]


def decode_shape(source: FaceSource, codes: Codes) -> torch.Tensor:
    """Vertices [N, V, 3] in mm of `Reconstruction.codes` ("identity", "expression"), each [N, size].

    Differentiable in the codes. Raises ValueError for codes that are missing or not of this source.
    """
    source = _of_codes(source)
    identity, expression = _code(source, codes, "identity"), _code(source, codes, "expression")
    if isinstance(source, MorphableModel):
        return source.shape(identity, expression)
    return source.decode_shape(identity, expression)


def decode_albedo(source: FaceSource, codes: Codes) -> torch.Tensor:
    """Albedo at the vertices, [N, V, 3]: of the identity code, or where refinement has given the albedo a code of its
    own ("complexion" of a system, "albedo" of a morphable model), of that.

    Differentiable in the codes. Raises ValueError as decode_shape does, and for a system whose albedo is a texture.
    """
    if not isinstance(source, MorphableModel) and source.textured:
        raise ValueError("this system makes a texture from the picture; a code alone has no albedo")
    source = _of_codes(source)
    if isinstance(source, MorphableModel):
        return source.albedo(_code(source, codes, "albedo"))
    return source.decode_albedo(_code(source, codes, "complexion" if "complexion" in codes else "identity"))


def _of_codes(source: FaceSource) -> SemiSupervised | JointRecognition | MorphableModel:
    """What the codes belong to: coefficients are a morphable model's, whichever network estimated them."""
    coefficients = WeaklySupervised | ConditionalEstimation | UnsupervisedRegression
    return source.morphable if isinstance(source, coefficients) else source


def _code(source: SemiSupervised | JointRecognition | MorphableModel, codes: Codes, name: str) -> torch.Tensor:
    if isinstance(source, MorphableModel):
        size = int(getattr(source, f"num_{name}"))
    else:
        size = source.expression_size if name == "expression" else source.identity_size
    code = codes.get(name)
    if code is None:
        raise ValueError(f"codes must hold '{name}', got {', '.join(codes) or 'none'}")
    if code.ndim != 2 or code.shape[1] != size:
        raise ValueError(f"codes['{name}'] must have shape [N, {size}] for this source, got {list(code.shape)}")
    return code
