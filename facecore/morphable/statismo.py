"""Morphable models in statismo's HDF5 layout, such as BFM 2017 and 2019 (`.h5`), to a MorphableModel. FORMATS B6."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import numpy as np

from facecore.morphable.assembly import LinearSource, Modes, assemble
from facecore.morphable.io import reading
from facecore.morphable.model import MorphableModel

SOURCE = (
    "Basel Face Model 2017 or 2019, University of Basel, its own licence; Gerig et al., Morphable Face Models - An "
    "Open Framework, FG 2018"
)
SCALED_BASIS = (0, 8)  # up to this version a basis is already multiplied by its standard deviations
MAX_VALUES = 1 << 29  # of one data set, 2 GiB in float32: an HDF5 header can promise any size


def load_statismo(
    path: pathlib.Path,
    landmarks: str | os.PathLike[str] | None = None,
    num_identity: int | None = None,
    num_expression: int | None = None,
    num_albedo: int | None = None,
) -> MorphableModel:
    """BFM 2017 or 2019 from its `.h5`, in millimetres; needs h5py.

    landmarks: a file of the 68 vertices (`read_landmark_vertices`); the models name some places of the face, not the
    68 points. num_identity, num_expression, num_albedo: modes to keep; None = all. The groups `expression` and `color`
    may be missing. Raises ValueError for a damaged file, a wrong option or missing landmarks, and when h5py is missing.
    """
    try:
        import h5py
    except ImportError:
        raise ValueError(f"{path} is an HDF5 file; to read it, pip install 'facecore[h5]' (or h5py)") from None
    with reading(path):
        try:
            with h5py.File(path, "r") as file:
                source = _read(file, path.stem)
        except (RuntimeError, AttributeError) as error:  # how h5py reports some kinds of damage
            raise ValueError(str(error)) from error
    kept = {"num_identity": num_identity, "num_expression": num_expression, "num_albedo": num_albedo}
    return assemble(path, source, landmarks, **kept)


def _read(file: Any, name: str) -> LinearSource:
    shape = _group(file, "shape")
    points, cells = _mesh(shape)
    count = len(points)
    version = _version(shape)
    mean, identity = _model(shape, count, version)
    expression_mean, expression = np.zeros(3 * count), Modes.none(count)
    if "expression" in file:
        expression_mean, expression = _model(_group(file, "expression"), count, version)
    albedo_mean, albedo = None, None
    if "color" in file:
        color = _group(file, "color")
        space = _text(color, "representer/colorspace") or "RGB"
        if space != "RGB":
            raise ValueError(f"color/representer/colorspace must be RGB, got {space!r}")
        flat, albedo = _model(color, count, version)
        albedo_mean = flat.reshape(-1, 3)
    return LinearSource(
        name=name,
        source=SOURCE,
        millimetres=1.0,
        mean=(mean + expression_mean).reshape(-1, 3),
        triangles=cells,
        identity=identity,
        expression=expression,
        landmarks68=_landmarks(file, points),
        albedo_mean=albedo_mean,
        albedo=albedo,
        white=1.0,
    )


def _mesh(shape: Any) -> tuple[np.ndarray, np.ndarray]:
    """Points [V, 3] and triangles [T, 3]; stored transposed, except in the oldest files."""
    if "representer/points" in shape:
        points, cells = _values(shape, "representer/points").T, _values(shape, "representer/cells").T
    else:
        mesh = "representer/reference-mesh"
        points, cells = _values(shape, f"{mesh}/vertex-coordinates"), _values(shape, f"{mesh}/triangle-list")
    if points.ndim != 2 or points.shape[1] != 3 or cells.ndim != 2 or cells.shape[1] != 3:
        got = f"{list(points.shape[::-1])} and {list(cells.shape[::-1])}"
        raise ValueError(f"representer points and cells must be [3, V] and [3, T], got {got}")
    if cells.dtype.kind not in "iu" or cells.size == 0 or cells.min() < 0 or cells.max() >= len(points):
        raise ValueError(f"representer cells must hold indices from 0 to {len(points) - 1}")
    return points.astype(np.float64), cells.astype(np.int64)


def _model(group: Any, count: int, version: tuple[int, int]) -> tuple[np.ndarray, Modes]:
    """Mean [3V] and modes; the variances become standard deviations, an old scaled basis an orthonormal one.

    version: of the file's shape, which holds where the group itself has none.
    """
    mean, basis = _values(group, "model/mean").ravel(), _values(group, "model/pcaBasis")
    variance = _values(group, "model/pcaVariance").ravel()
    if mean.shape != (3 * count,) or basis.shape != (3 * count, len(variance)):
        raise ValueError(
            f"{group.name}: mean and basis must be [{3 * count}] and [{3 * count}, {len(variance)}], got "
            f"{list(mean.shape)} and {list(basis.shape)}"
        )
    if not (variance > 0).all():
        raise ValueError(f"{group.name}/model/pcaVariance must be positive")
    std = np.sqrt(variance.astype(np.float64))
    if _version(group, version) <= SCALED_BASIS:
        basis = (basis / std).astype(np.float32)
    return mean.astype(np.float64), Modes(basis, std)


def _version(group: Any, otherwise: tuple[int, int] = SCALED_BASIS) -> tuple[int, int]:
    """Of the group itself; a file without one is of the last version before versions were written."""
    if "version/majorVersion" not in group:
        return otherwise
    major, minor = (_values(group, f"version/{part}Version").ravel() for part in ("major", "minor"))
    return int(major[0]), int(minor[0])


def _landmarks(file: Any, points: np.ndarray) -> np.ndarray | None:
    """The 68 points, if the metadata have them under the names 0 to 67 or 1 to 68; nearest vertices."""
    text = _text(file, "metadata/landmarks/json")
    if text is None:
        return None
    entries = json.loads(text)
    places = {str(entry["id"]): entry["coordinates"] for entry in entries}
    for first in (0, 1):
        names = [str(first + i) for i in range(68)]
        if set(names) <= set(places):
            import scipy.spatial

            wanted = np.array([places[name] for name in names], dtype=np.float64).reshape(68, 3)
            return np.asarray(scipy.spatial.cKDTree(points).query(wanted)[1])
    return None


def _group(file: Any, name: str) -> Any:
    import h5py

    if name not in file or not isinstance(file[name], h5py.Group):
        raise ValueError(f"the group {name} is missing")
    return file[name]


def _values(group: Any, name: str) -> np.ndarray:
    """A data set of real, finite numbers."""
    data = _data_set(group, name)
    if data.dtype.kind not in "iuf" or data.size > MAX_VALUES:
        raise ValueError(f"{group.name}/{name} must hold at most {MAX_VALUES} numbers, got {data.size} {data.dtype}")
    values = np.asarray(data[()])
    if not np.isfinite(values).all():
        raise ValueError(f"{group.name}/{name} must be finite, got NaN or infinity")
    return np.atleast_1d(values)


def _text(group: Any, name: str) -> str | None:
    """A string, or the only entry of an array of strings; None when there is none of that name."""
    if name not in group:
        return None
    value = np.asarray(_data_set(group, name)[()]).ravel()
    if value.size != 1:
        raise ValueError(f"{group.name}/{name} must hold one string, got {value.size}")
    item = value[0]
    return (item.decode("utf-8") if isinstance(item, bytes) else str(item)).rstrip("\0")


def _data_set(group: Any, name: str) -> Any:
    """Raises ValueError unless it lies in this very file: a link to another file is not followed."""
    import h5py

    here = group
    for part in name.split("/"):
        if isinstance(here.get(part, getlink=True), h5py.ExternalLink):
            raise ValueError(f"{group.name}/{name} is a link to another file, which is not followed")
        here = here.get(part) if isinstance(here, h5py.Group) else None
        if here is None:
            raise ValueError(f"{group.name}/{name} is missing")
    if not isinstance(here, h5py.Dataset) or here.external or here.is_virtual:
        raise ValueError(f"{group.name}/{name} must be a data set of this file")
    return here
