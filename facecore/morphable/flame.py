"""FLAME (`.pkl`, or `.npz` with the same names) as a linear model: identity and expression, no joints. FORMATS B7."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import numpy as np

from facecore.morphable.assembly import LinearSource, Modes, assemble
from facecore.morphable.io import reading
from facecore.morphable.model import MorphableModel
from facecore.morphable.restricted_pickle import array, load_arrays

SOURCE = (
    "FLAME, Max Planck Institute for Intelligent Systems, its own licence; Li et al., Learning a model of facial shape "
    "and expression from 4D scans, TOG 2017"
)
MILLIMETRES_PER_UNIT = 1000.0  # the file is in metres
FULL, SMALL = (300, 100), (10, 10)  # identity and expression modes of the two releases, one after the other


def load_flame(
    path: pathlib.Path,
    landmarks: str | os.PathLike[str] | None = None,
    num_identity: int | None = None,
    num_expression: int | None = None,
) -> MorphableModel:
    """FLAME's template with its identity and expression modes, in the neutral pose.

    path: the `.pkl` as released (chumpy is not needed) or cleaned, or `.npz` with the same arrays. landmarks: a file of
    the 68 vertices (`read_landmark_vertices`), needed: the model has none. num_identity, num_expression: modes to keep.
    The jaw, neck and eye joints and the pose corrections are not part of a linear model and are left out; there is no
    albedo. Coefficients are FLAME's own betas. Raises ValueError for a damaged file, one that names other objects than
    arrays, a wrong option or missing landmarks.
    """
    with reading(path):
        fields = _fields(path)
        template = _checked("v_template", fields, (None, 3))
        count = len(template)
        directions = _checked("shapedirs", fields, (count, 3, None))
        faces = _checked("f", fields, (None, 3))
        if not ((faces == np.floor(faces)).all() and faces.min() >= 0 and faces.max() < count):
            raise ValueError(f"f must hold indices from 0 to {count - 1}, got {faces.min():g} to {faces.max():g}")
        num_modes = directions.shape[2]
        if num_modes < sum(SMALL):
            raise ValueError(f"shapedirs must have at least {sum(SMALL)} modes, got {num_modes}")
        identity, expression = FULL if num_modes >= sum(FULL) else SMALL
        basis = directions.reshape(3 * count, num_modes)
        source = LinearSource(
            name="flame",
            source=SOURCE,
            millimetres=MILLIMETRES_PER_UNIT,
            mean=template,
            triangles=faces.astype(np.int64),
            identity=Modes(basis[:, :identity], np.ones(identity)),
            expression=Modes(basis[:, identity : identity + expression], np.ones(expression)),
        )
    return assemble(path, source, landmarks, num_identity=num_identity, num_expression=num_expression)


def _fields(path: pathlib.Path) -> dict[str, Any]:
    names = ("v_template", "shapedirs", "f")
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    values = load_arrays(path.read_bytes())
    missing = [name for name in names if name not in values]
    if missing:
        raise ValueError(f"the pickle is not FLAME: it has no {', '.join(missing)}")
    return {name: array(values[name]) for name in names}


def _checked(name: str, fields: dict[str, Any], shape: tuple[int | None, ...]) -> np.ndarray:
    value = np.asarray(fields[name])
    if value.ndim != len(shape) or any(w is not None and w != got for w, got in zip(shape, value.shape)):
        wanted = ", ".join("K" if w is None else str(w) for w in shape)
        raise ValueError(f"{name} must have shape [{wanted}], got {list(value.shape)}")
    if value.dtype.kind not in "iuf" or value.size == 0 or not np.isfinite(value).all():
        raise ValueError(f"{name} must hold finite numbers, got {value.dtype} {list(value.shape)}")
    return value
