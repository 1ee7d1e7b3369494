"""The six basic expressions as weights of a model's own expression modes, by the action units that make them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from facecore.morphable.model import MorphableModel

# Action units of each expression (Ekman and Friesen's EMFACS); 26, the dropped jaw, at JAW of its way.
EXPRESSIONS: dict[str, tuple[int, ...]] = {
    "neutral": (),
    "happiness": (6, 12),
    "sadness": (1, 4, 15),
    "surprise": (1, 2, 5, 26),
    "fear": (1, 2, 4, 5, 7, 20, 26),
    "anger": (4, 5, 7, 23),
    "disgust": (9, 15, 16),
}
JAW_UNIT, JAW = 26, 0.6
# The mode of each action unit in ICT-FaceKit and in the procedural model; most have a left and a right one.
UNIT_MODES: dict[int, tuple[str, str]] = {
    1: ("browInnerUp", "brow_inner_up"),
    2: ("browOuterUp", "brow_outer_up"),
    4: ("browDown", "brow_lower"),
    5: ("eyeWide", "eye_wide"),
    6: ("cheekSquint", "cheek_raise"),
    7: ("eyeSquint", "eye_squint"),
    9: ("noseSneer", "nose_wrinkle"),
    12: ("mouthSmile", "mouth_smile"),
    15: ("mouthFrown", "mouth_frown"),
    16: ("mouthLowerDown", "lower_lip_depress"),
    20: ("mouthStretch", "mouth_stretch"),
    23: ("mouthPress", "lips_press"),
    26: ("jawOpen", "jaw_open"),
}
SIDES = ("", "_L", "_R", "_left", "_right")


def named_expressions(model: MorphableModel) -> torch.Tensor:
    """Expression coefficients of EXPRESSIONS in their order, [7, Ke], on the model's device: every mode that takes part
    at full weight.

    Raises ValueError for a model whose modes are not named as ICT-FaceKit's or the procedural model's.
    """
    weights = model.template.new_zeros(len(EXPRESSIONS), model.num_expression)
    for row, units in zip(weights, EXPRESSIONS.values()):
        for unit in units:
            row[_modes_of(unit, model.expression_names)] = JAW if unit == JAW_UNIT else 1.0
    return weights


def _modes_of(unit: int, names: Sequence[str]) -> list[int]:
    wanted = {name + side for name in UNIT_MODES[unit] for side in SIDES}
    found = [i for i, name in enumerate(names) if name in wanted]
    if not found:
        raise ValueError(
            f"the model has no expression mode named {' or '.join(UNIT_MODES[unit])}; named expressions are those of "
            "ICT-FaceKit and the procedural model"
        )
    return found
