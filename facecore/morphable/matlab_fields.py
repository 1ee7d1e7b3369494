"""Variables of MATLAB model files, checked: matrices of a given shape and lists of indices that start at 1."""

from __future__ import annotations

from typing import Any

import numpy as np


def matrix(fields: Any, name: str, rows: int | None = None, columns: int | None = None) -> np.ndarray:
    """The real, finite matrix of that name. Raises ValueError for another shape, or when it is not there."""
    value = _numbers(fields, name)
    wanted = (rows, columns)
    if value.ndim != 2 or any(w is not None and w != got for w, got in zip(wanted, value.shape)):
        text = " x ".join("K" if w is None else str(w) for w in wanted)
        raise ValueError(f"{name} must be a matrix {text}, got {list(value.shape)}")
    if not np.isfinite(value).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return value


def vector(fields: Any, name: str, length: int | None = None) -> np.ndarray:
    """The real, finite vector of that name, a row or a column."""
    value = _numbers(fields, name)
    if value.size != max(value.shape, default=0) or (length is not None and value.size != length):
        raise ValueError(f"{name} must have {'K' if length is None else length} entries, got {list(value.shape)}")
    if not np.isfinite(value).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return value.ravel()


def points(fields: Any, name: str, count: int | None = None) -> np.ndarray:
    """A vector x0 y0 z0 x1 ... as [V, 3]."""
    flat = vector(fields, name, None if count is None else 3 * count)
    if flat.size % 3 or flat.size == 0:
        raise ValueError(f"{name} must have 3 entries per vertex, got {flat.size}")
    return flat.reshape(-1, 3)


def indices(fields: Any, name: str, count: int) -> np.ndarray:
    """Indices of `count` things, int64, 0-based, in the shape of the file, where they start at 1 and may be floats."""
    value = _numbers(fields, name)
    if value.size == 0 or (value.dtype.kind == "f" and not (value == np.floor(value)).all()):
        raise ValueError(f"{name} must hold whole numbers, got {value.dtype} {list(value.shape)}")
    low, high = float(value.min()), float(value.max())
    if not (low >= 1 and high <= count):
        raise ValueError(f"{name} must hold numbers from 1 to {count}, got {low:g} to {high:g}")
    return value.astype(np.int64) - 1


def triangles(fields: Any, name: str, count: int) -> np.ndarray:
    """Triangles [T, 3] of `count` vertices, 0-based, from [T, 3] or [3, T]."""
    value = indices(fields, name, count)
    if value.ndim != 2 or 3 not in value.shape:
        raise ValueError(f"{name} must be T x 3 or 3 x T, got {list(value.shape)}")
    return np.ascontiguousarray(value if value.shape[1] == 3 else value.T)


def _numbers(fields: Any, name: str) -> np.ndarray:
    try:
        value = np.asarray(fields[name])
    except (KeyError, ValueError, IndexError):
        raise ValueError(f"the variable {name} is missing") from None
    if value.dtype.kind not in "iuf":
        raise ValueError(f"{name} must hold real numbers, got {value.dtype}")
    return value
