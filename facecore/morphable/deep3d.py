"""The Deep3D family's cut of the Basel Face Model (`BFM_model_front.mat`, or the files it is made of). FORMATS B2."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import numpy as np

from facecore.files import read_matlab
from facecore.morphable.assembly import LinearSource, Modes, assemble
from facecore.morphable.bfm2009 import FILE as RAW_FILE
from facecore.morphable.bfm2009 import SOURCE, read_bfm2009
from facecore.morphable.io import reading
from facecore.morphable.landmark_vertices import check_landmark_vertices
from facecore.morphable.matlab_fields import indices, matrix, points, triangles, vector
from facecore.morphable.model import MorphableModel

FILE, INFO = "BFM_model_front.mat", "facemodel_info.mat"
PARTS = (RAW_FILE, "Exp_Pca.bin", "std_exp.txt", "BFM_exp_idx.mat", "BFM_front_idx.mat", INFO)
NUM_IDENTITY, NUM_EXPRESSION, NUM_ALBEDO = 80, 64, 80  # of the family's public code
_DECIMETRE, _MICROMETRE = 100.0, 1e-3  # in mm
_EXPRESSIONS = "; expressions of FaceWarehouse (Guo et al., CNN-based Real-time Dense Face Reconstruction, 2018)"


def load_deep3d(
    path: pathlib.Path,
    landmarks: str | os.PathLike[str] | None = None,
    num_identity: int | None = None,
    num_expression: int | None = None,
    num_albedo: int | None = None,
) -> MorphableModel:
    """The 35,709-vertex model of Deep3DFaceRecon.

    path: `BFM_model_front.mat`; or a folder that has it; or a folder with the files it is made of (`PARTS`), from which
    it is put together in the same way. landmarks: a file of the 68 vertices instead of the file's own.
    num_identity, num_expression, num_albedo: modes to keep; None = all of `BFM_model_front.mat`, and 80, 64, 80 when it
    is put together. From `BFM_model_front.mat` the coefficients are the family's own (their std is not stored: 1).
    Regions `front` and `skin_mask` are the file's. Raises ValueError for a damaged or missing file or a wrong option.
    """
    kept = {"num_identity": num_identity, "num_expression": num_expression, "num_albedo": num_albedo}
    file = path / FILE if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        missing = [name for name in PARTS if not (path / name).is_file()]
        if missing:
            raise ValueError(f"{path} has neither {FILE} nor {', '.join(missing)}; get the missing files")
        with reading(path):
            source = _from_parts(path)
        sizes = (NUM_IDENTITY, NUM_EXPRESSION, NUM_ALBEDO)
        for name, size, modes in zip(kept, sizes, (source.identity, source.expression, source.albedo)):
            if kept[name] is None and modes is not None:
                kept[name] = min(size, len(modes.std))
        return assemble(path, source, landmarks, **kept)
    with reading(file):
        source = _from_file(file)
    return assemble(file, source, landmarks, **kept)


def _from_file(path: pathlib.Path) -> LinearSource:
    fields = read_matlab(path)
    mean = points(fields, "meanshape")
    count = len(mean)

    def modes(name: str) -> Modes:
        basis = matrix(fields, name, 3 * count)
        return Modes(basis, np.ones(basis.shape[1]))

    return LinearSource(
        name="bfm-deep3d",
        source=SOURCE + _EXPRESSIONS,
        millimetres=_DECIMETRE,
        mean=mean,
        identity=modes("idBase"),
        expression=modes("exBase"),
        albedo_mean=points(fields, "meantex", count),
        albedo=modes("texBase"),
        **_topology(fields, count),
    )


def _topology(fields: dict[str, Any], count: int) -> dict[str, Any]:
    """Triangles, landmarks and regions, which both layouts hold under the same names."""
    front = np.zeros(count, dtype=bool)
    front[indices(fields, "frontmask2_idx", count).ravel()] = True
    return {
        "triangles": triangles(fields, "tri", count),
        "landmarks68": check_landmark_vertices(indices(fields, "keypoints", count), count, "keypoints"),
        "regions": {"front": front, "skin_mask": vector(fields, "skinmask", count) > 0},
    }


def _from_parts(folder: pathlib.Path) -> LinearSource:
    """Rows of the raw model that the index files choose: 35,709 of 53,215 of 53,490 vertices."""
    raw = read_bfm2009(folder / RAW_FILE)
    trimmed = indices(read_matlab(folder / "BFM_exp_idx.mat"), "trimIndex", len(raw.mean)).ravel()
    front = indices(read_matlab(folder / "BFM_front_idx.mat"), "idx", len(trimmed)).ravel()
    basis = read_exp_pca(folder / "Exp_Pca.bin", len(trimmed))
    std = _read_std(folder / "std_exp.txt", basis.shape[1])
    chosen = trimmed[front]
    assert raw.albedo is not None and raw.albedo_mean is not None  # read_bfm2009 always has them
    return LinearSource(
        name="bfm-deep3d",
        source=SOURCE + _EXPRESSIONS,
        millimetres=_MICROMETRE,
        mean=raw.mean[chosen],
        identity=_rows(raw.identity, chosen),
        expression=_rows(Modes(basis, std), front),
        albedo_mean=raw.albedo_mean[chosen],
        albedo=_rows(raw.albedo, chosen),
        **_topology(read_matlab(folder / INFO), len(front)),
    )


def _rows(modes: Modes, vertices: np.ndarray) -> Modes:
    rows = (3 * vertices[:, None] + np.arange(3)).ravel()
    return Modes(modes.basis[rows], modes.std)


def read_exp_pca(path: pathlib.Path, count: int) -> np.ndarray:
    """The expression basis [3 * count, K] of `Exp_Pca.bin`: int32 K, a mean that nobody uses, then mode after mode.

    Raises ValueError unless the file has exactly that size.
    """
    content = path.read_bytes()
    num_modes = int.from_bytes(content[:4], "little", signed=True)
    wanted = 4 + 4 * 3 * count * (1 + num_modes)
    if len(content) < 4 or num_modes < 1 or len(content) != wanted:
        raise ValueError(f"{path.name} has {len(content)} bytes, {num_modes} modes of {count} vertices need {wanted}")
    values = np.frombuffer(content, dtype="<f4", offset=4).reshape(1 + num_modes, 3 * count)
    if not np.isfinite(values[1:]).all():
        raise ValueError(f"{path.name} holds values that are not finite")
    return values[1:].T


def _read_std(path: pathlib.Path, num_modes: int) -> np.ndarray:
    try:
        std = np.array([float(word) for word in path.read_text(encoding="utf-8").split()])
    except ValueError as error:
        raise ValueError(f"{path.name} must hold numbers only ({error})") from None
    if len(std) != num_modes or not (np.isfinite(std) & (std > 0)).all():
        raise ValueError(f"{path.name} must hold {num_modes} positive numbers, got {len(std)}")
    return std
