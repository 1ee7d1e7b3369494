"""Files that say which vertices of a mesh are the 68 landmarks, for model files that do not say it themselves."""

from __future__ import annotations

import json
import os
import pathlib
import re
from typing import Any

import numpy as np
import scipy.spatial

from facecore.files import read_matlab

_NEAR_MM = 5.0  # a landmark given by its place lies this near to its vertex; more means another mesh


def read_landmark_vertices(path: str | os.PathLike[str], vertices_mm: np.ndarray) -> np.ndarray:
    """The vertices of the 68 iBUG points (METHODS 1.10), int64 [68], 0-based.

    path: `.npy`, 68 indices from 0, or 204 rows of the flattened xyz vector as 3DDFA's keypoints files have them;
    `.txt`, `.csv`, 68 indices from 0, apart by blanks, commas or lines; `.mat`, `kpt_ind` or `keypoints`, from 1 as
    MATLAB counts; `.json`, a list of 68 indices from 0 or of 68 places {"coordinates": [x, y, z]} in the model's own
    frame and millimetres (statismo's landmark files), in the order of the points.
    vertices_mm: [V, 3], in the file's own frame.
    Raises ValueError, naming the file, for anything else and for indices out of range.
    """
    path = pathlib.Path(path)
    reader = {".npy": _read_npy, ".txt": _read_text, ".csv": _read_text, ".mat": _read_mat, ".json": _read_json}.get(
        path.suffix.lower()
    )
    if reader is None:
        raise ValueError(f"landmarks: {path} must end in .npy, .txt, .csv, .mat or .json")
    if not path.is_file():
        raise ValueError(f"landmarks: {path} is not a file; check the name")
    index = reader(path, vertices_mm)
    return check_landmark_vertices(index, len(vertices_mm), f"landmarks: {path}")


def check_landmark_vertices(index: np.ndarray, num_vertices: int, where: str) -> np.ndarray:
    """`index` as int64 [68]. Raises ValueError unless it is 68 whole numbers from 0 to num_vertices - 1."""
    flat = np.asarray(index).ravel()
    if flat.dtype.kind not in "iuf" or len(flat) != 68 or not (flat == np.floor(flat)).all():
        raise ValueError(f"{where} must hold 68 vertex indices, got {len(flat)} values of type {flat.dtype}")
    if flat.min() < 0 or flat.max() >= num_vertices:
        raise ValueError(
            f"{where} must hold indices from 0 to {num_vertices - 1} (a .mat from 1), got {flat.min():g} to "
            f"{flat.max():g}; it is of another mesh"
        )
    return flat.astype(np.int64)


def _read_npy(path: pathlib.Path, vertices_mm: np.ndarray) -> np.ndarray:
    try:
        values = np.load(path, allow_pickle=False).ravel()
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"landmarks: {path} is not a readable .npy file ({' '.join(str(error).split())})") from None
    if len(values) == 3 * 68:
        rows = values.reshape(68, 3)
        if (rows % 3 != [0, 1, 2]).any():
            raise ValueError(f"landmarks: {path} has 204 values that are not rows 3i, 3i + 1, 3i + 2")
        return np.asarray(rows[:, 0] // 3)
    return np.asarray(values)


def _read_text(path: pathlib.Path, vertices_mm: np.ndarray) -> np.ndarray:
    try:
        words = re.split(r"[\s,;]+", path.read_text(encoding="utf-8-sig").strip())
        return np.array([int(word) for word in words if word], dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"landmarks: {path} must hold whole numbers only ({error})") from None


def _read_mat(path: pathlib.Path, vertices_mm: np.ndarray) -> np.ndarray:
    fields = read_matlab(path)
    for name in ("kpt_ind", "keypoints"):
        if name in fields:
            values = np.asarray(fields[name])
            return values.astype(np.float64) - 1 if values.dtype.kind in "iuf" else values
    raise ValueError(f"landmarks: {path} has neither kpt_ind nor keypoints")


def _read_json(path: pathlib.Path, vertices_mm: np.ndarray) -> np.ndarray:
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"landmarks: {path} is not readable JSON ({error})") from None
    if not isinstance(values, list) or len(values) != 68:
        raise ValueError(f"landmarks: {path} must hold a list of 68 entries")
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return np.array(values)
    try:
        places = np.array([value["coordinates"] for value in values], dtype=np.float64).reshape(68, 3)
    except (TypeError, KeyError, ValueError):
        raise ValueError(f"landmarks: {path} must hold indices, or entries with three `coordinates` each") from None
    if not np.isfinite(places).all():
        raise ValueError(f"landmarks: {path} holds coordinates that are not finite")
    distance, index = scipy.spatial.cKDTree(vertices_mm).query(places)
    if distance.max() > _NEAR_MM:
        raise ValueError(f"landmarks: {path} has a place {distance.max():.1f} mm from the mesh; it is of another one")
    return np.asarray(index)
