"""The Basel Face Model 2009, raw (`01_MorphableModel.mat`), to a MorphableModel. FORMATS B1."""

from __future__ import annotations

import dataclasses
import os
import pathlib

import numpy as np

from facecore.files import read_matlab
from facecore.morphable.assembly import LinearSource, Modes, assemble
from facecore.morphable.io import reading
from facecore.morphable.matlab_fields import indices, matrix, points, triangles, vector
from facecore.morphable.model import MorphableModel

FILE = "01_MorphableModel.mat"
SOURCE = (
    "Basel Face Model 2009, University of Basel, its own licence; Paysan et al., A 3D Face Model for Pose and "
    "Illumination Invariant Face Recognition, AVSS 2009"
)
LANDMARK_FILES = ("facemodel_info.mat", "select_vertex_id.mat")  # of the Deep3D family
MILLIMETRES_PER_UNIT = 1e-3  # the file is in micrometres
_PARTS = ("nose", "eye_area", "mouth", "rest")  # the columns of segbin
_VARIABLES = ("shapeMU", "shapePC", "shapeEV", "texMU", "texPC", "texEV", "tl", "segbin")


def load_bfm2009(
    path: pathlib.Path,
    landmarks: str | os.PathLike[str] | None = None,
    num_identity: int | None = None,
    num_albedo: int | None = None,
) -> MorphableModel:
    """The raw BFM 2009: identity and albedo, no expressions.

    path: the file, or the folder where it is called 01_MorphableModel.mat. landmarks: a file of the 68 vertices
    (`read_landmark_vertices`); None = from `facemodel_info.mat` and `select_vertex_id.mat` of the Deep3D family beside
    the file. num_identity, num_albedo: modes to keep; None = all.
    Raises ValueError for a damaged file, a wrong option or when there are no landmarks.
    """
    path = path / FILE if path.is_dir() else path
    with reading(path):
        raw = read_bfm2009(path)
        beside = all((path.parent / name).is_file() for name in LANDMARK_FILES)
        found = _landmarks_beside(path.parent, len(raw.mean)) if beside and landmarks is None else None
    source = dataclasses.replace(raw, landmarks68=found)
    return assemble(path, source, landmarks, num_identity=num_identity, num_albedo=num_albedo)


def read_bfm2009(path: pathlib.Path) -> LinearSource:
    """The arrays of the file, without landmarks. Raises ValueError for missing variables or wrong shapes."""
    fields = read_matlab(path, _VARIABLES)
    mean = points(fields, "shapeMU")
    count = len(mean)
    regions = {}
    if "segbin" in fields:
        segments = matrix(fields, "segbin", count, len(_PARTS)) > 0
        regions = {name: segments[:, column] for column, name in enumerate(_PARTS)}
    return LinearSource(
        name="bfm2009",
        source=SOURCE,
        millimetres=MILLIMETRES_PER_UNIT,
        mean=mean,
        triangles=triangles(fields, "tl", count),
        identity=_modes(fields, "shapePC", "shapeEV", count),
        expression=Modes.none(count),
        albedo_mean=points(fields, "texMU", count),
        albedo=_modes(fields, "texPC", "texEV", count),
        regions=regions,
    )


def _modes(fields: dict[str, np.ndarray], basis: str, std: str, count: int) -> Modes:
    """EV holds standard deviations in spite of its name (FORMATS B1)."""
    columns = matrix(fields, basis, 3 * count)
    return Modes(columns, vector(fields, std, columns.shape[1]))


def _landmarks_beside(folder: pathlib.Path, count: int) -> np.ndarray:
    info, select = (read_matlab(folder / name, ["keypoints", "select_id"]) for name in LANDMARK_FILES)
    chosen = indices(select, "select_id", count).ravel()
    return chosen[indices(info, "keypoints", len(chosen)).ravel()]
