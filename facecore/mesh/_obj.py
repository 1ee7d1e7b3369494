"""Reading Wavefront OBJ so that vertex i of the mesh is vertex i of the file, whatever materials or seams it has.

Face models are indexed by vertex: landmarks, masks and bases break when a reader splits, merges or reorders vertices.
"""

from __future__ import annotations

import itertools
import pathlib

import numpy as np


def read_obj(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, bool]:
    """(vertices [V, 3], triangles int64 [T, 3], uv [V, 2] or None, has_seams) of all polygons in the file.

    Polygons are split into fans around their first corner. uv is given when every corner has a pair and each vertex
    one pair only; has_seams tells that some vertex has several. Raises ValueError naming the line that is not OBJ.
    """
    vertices: list[list[float]] = []
    pairs: list[list[float]] = []
    corners: list[tuple[int, int]] = []  # (vertex, pair or -1), three for each triangle
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        words = line.split()
        try:
            if not words:
                continue
            if words[0] == "v":
                vertices.append([float(words[1]), float(words[2]), float(words[3])])
            elif words[0] == "vt":
                pairs.append([float(words[1]), float(words[2])])
            elif words[0] == "f":
                polygon = [_corner(word, len(vertices), len(pairs)) for word in words[1:]]
                for second, third in itertools.pairwise(polygon[1:]):
                    corners += (polygon[0], second, third)
        except (ValueError, IndexError) as error:
            raise ValueError(f"line {number} is not OBJ: {line.strip()[:60]!r} ({error})") from error
    indices = np.array(corners, dtype=np.int64).reshape(-1, 2)
    uv, has_seams = _uv_of_vertices(indices, np.array(pairs), len(vertices))
    return np.array(vertices).reshape(-1, 3), indices[:, 0].reshape(-1, 3), uv, has_seams


def _corner(word: str, num_vertices: int, num_pairs: int) -> tuple[int, int]:
    """`v`, `v/vt`, `v//vn` or `v/vt/vn`, counted from 1, or from the end where negative; -1 for no pair."""
    parts = word.split("/")
    pair = _index(parts[1], num_pairs, "vt") if len(parts) > 1 and parts[1] else -1
    return _index(parts[0], num_vertices, "v"), pair


def _index(text: str, count: int, kind: str) -> int:
    index = int(text)
    index = index - 1 if index > 0 else index + count
    if text == "0" or not 0 <= index < count:
        raise ValueError(f"{kind} {text} does not exist, {count} were given so far")
    return index


def _uv_of_vertices(corners: np.ndarray, pairs: np.ndarray, num_vertices: int) -> tuple[np.ndarray | None, bool]:
    vertex, pair = corners.T
    if len(corners) == 0 or (pair < 0).any():
        return None, False
    uv = np.zeros((num_vertices, 2))
    uv[vertex] = pairs[pair]
    has_seams = bool((uv[vertex] != pairs[pair]).any())
    return (None if has_seams else uv), has_seams
