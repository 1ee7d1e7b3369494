"""The cut of the Basel Face Model that 300W-LP and face3d use (`BFM.mat`), to a MorphableModel. FORMATS B3."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import numpy as np

from facecore.files import read_matlab
from facecore.morphable.assembly import LinearSource, Modes, assemble
from facecore.morphable.bfm2009 import SOURCE
from facecore.morphable.io import reading
from facecore.morphable.landmark_vertices import check_landmark_vertices
from facecore.morphable.matlab_fields import indices, matrix, points, triangles, vector
from facecore.morphable.model import MorphableModel

FILE, INFO, UV = "BFM.mat", "BFM_info.mat", "BFM_UV.mat"
MILLIMETRES_PER_UNIT = 1e-3  # the file is in micrometres
_PARTS = ("nose", "eye_area", "mouth", "rest")  # the rows of segbin


def load_bfm_300wlp(
    path: pathlib.Path,
    landmarks: str | os.PathLike[str] | None = None,
    num_identity: int | None = None,
    num_expression: int | None = None,
    num_albedo: int | None = None,
) -> MorphableModel:
    """The model that the Shape_Para and Exp_Para of 300W-LP and AFLW2000-3D belong to.

    path: `BFM.mat`, or the folder it lies in; `BFM_info.mat` (mirrored pairs, segments) and `BFM_UV.mat` (texture
    coordinates) are read where they lie beside it. landmarks: a file of the 68 vertices instead of the file's own.
    num_identity, num_expression, num_albedo: modes to keep; None = all.
    The files' raw coefficients are coefficient * std: `identity_std` is shapeEV, `expression_std` expEV. The mean is
    shapeMU + expMU. Raises ValueError for a damaged file or a wrong option.
    """
    path = path / FILE if path.is_dir() else path
    with reading(path):
        fields = _struct(path, "model")
        mean = points(fields, "shapeMU")
        count = len(mean)
        mean = mean.astype(np.float64) + points(fields, "expMU", count)
        source = LinearSource(
            name="bfm-300wlp",
            source=SOURCE + "; expressions of FaceWarehouse, Cao et al., TVCG 2014",
            millimetres=MILLIMETRES_PER_UNIT,
            mean=mean,
            triangles=triangles(fields, "tri", count),
            identity=_modes(fields, "shapePC", "shapeEV", count),
            expression=_modes(fields, "expPC", "expEV", count),
            landmarks68=check_landmark_vertices(indices(fields, "kpt_ind", count), count, "kpt_ind"),
            albedo_mean=points(fields, "texMU", count),
            albedo=_modes(fields, "texPC", "texEV", count),
            **_beside(path.parent, count),
        )
    kept = {"num_identity": num_identity, "num_expression": num_expression, "num_albedo": num_albedo}
    return assemble(path, source, landmarks, **kept)


def _modes(fields: Any, basis: str, std: str, count: int) -> Modes:
    columns = matrix(fields, basis, 3 * count)
    return Modes(columns, vector(fields, std, columns.shape[1]))


def _struct(path: pathlib.Path, name: str) -> Any:
    """The fields of a MATLAB struct, as a numpy record."""
    value = read_matlab(path, [name]).get(name)
    if not isinstance(value, np.ndarray) or value.dtype.names is None or value.size != 1:
        raise ValueError(f"the variable {name} must be a struct")
    return value.ravel()[0]


def _beside(folder: pathlib.Path, count: int) -> dict[str, Any]:
    """What the optional files beside the model tell."""
    result: dict[str, Any] = {}
    if (folder / INFO).is_file():
        with reading(folder / INFO):
            info = _struct(folder / INFO, "model_info")
            result["mirror_pairs"] = indices(info, "symlist", count)
            segments = matrix(info, "segbin", len(_PARTS), count) > 0
            result["regions"] = dict(zip(_PARTS, segments))
    if (folder / UV).is_file():
        with reading(folder / UV):
            result["uv"] = matrix(read_matlab(folder / UV, ["UV"]), "UV", count, 2)
    return result
