"""Reading the files of the ICT face model: the npz conversion, or OBJ files of an ICT-FaceKit checkout."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import numpy as np

from facecore.morphable.io import reading
from facecore.morphable.recognise import ict_folder


@dataclasses.dataclass(frozen=True)
class IctSource:
    """The model as its files hold it: centimetres, 0-based indices, polygons [P, 4] padded with -1."""

    neutral: np.ndarray  # [V, 3]
    identity: np.ndarray  # [Ki, V, 3] offsets
    expression: np.ndarray  # [Ke, V, 3] offsets
    identity_names: tuple[str, ...]
    expression_names: tuple[str, ...]
    polygons: np.ndarray  # [P, 4]
    uv: np.ndarray  # [M, 2]
    uv_polygons: np.ndarray  # [P, 4]
    landmarks68: np.ndarray  # [68]


def read_npz(path: pathlib.Path) -> IctSource:
    """Reads the npz conversion (arrays neutral, identity, expression, faces, uv, uv_faces, landmarks68, names)."""
    with reading(path):
        with np.load(path, allow_pickle=False) as file:
            if str(file["units"]) != "cm":
                raise ValueError(f"units must be 'cm', got '{file['units']}'")
            source = IctSource(
                neutral=file["neutral"],
                identity=file["identity"],
                expression=file["expression"],
                identity_names=tuple(map(str, file["identity_names"])),
                expression_names=tuple(map(str, file["expression_names"])),
                polygons=file["faces"].astype(np.int64),
                uv=file["uv"],
                uv_polygons=file["uv_faces"].astype(np.int64),
                landmarks68=file["landmarks68"],
            )
        _check_source(source)
    return source


def read_folder(path: pathlib.Path) -> IctSource:
    """Reads a checkout of ICT-FaceKit: FaceXModel/*.obj and vertex_indices.json, as many identities as there are."""
    folder = ict_folder(path)
    if folder is None:
        raise ValueError(f"{path} has no FaceXModel/generic_neutral_mesh.obj; give a checkout of ICT-FaceKit")
    config_path = folder / "vertex_indices.json"
    if not config_path.is_file():
        raise ValueError(f"{config_path} is missing; get the whole FaceXModel folder of ICT-FaceKit")
    with reading(folder):
        config = json.loads(config_path.read_text())
        neutral, uv, polygons, uv_polygons = read_obj(folder / "generic_neutral_mesh.obj")
        identity_names = tuple(sorted(entry.stem for entry in folder.glob("identity*.obj")))
        expression_names = tuple(config["expressions"])
        offsets = {name: read_obj(folder / f"{name}.obj")[0] - neutral for name in (*identity_names, *expression_names)}
        source = IctSource(
            neutral=neutral,
            identity=np.stack([offsets[name] for name in identity_names]),
            expression=np.stack([offsets[name] for name in expression_names]),
            identity_names=identity_names,
            expression_names=expression_names,
            polygons=polygons,
            uv=uv,
            uv_polygons=uv_polygons,
            landmarks68=np.array(config["idx_to_landmark_verts"], dtype=np.int64),
        )
        _check_source(source)
    return source


def read_obj(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vertices [V, 3], uv [M, 2], polygons and uv polygons int64 [P, 4] (triangles padded with -1) of an OBJ file.

    The order of the vertices is kept and polygons stay as they are, which general mesh readers do not promise.
    """
    rows: dict[str, list[list[str]]] = {"v": [], "vt": [], "f": []}
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            key, *values = line.split() or [""]
            if key in rows:
                rows[key].append(values)
    vertices = np.array([values[:3] for values in rows["v"]], dtype=np.float64).reshape(-1, 3)
    uv = np.array([values[:2] for values in rows["vt"]], dtype=np.float64).reshape(-1, 2)
    polygons = np.full((2, len(rows["f"]), 4), -1, dtype=np.int64)
    for row, corners in enumerate(rows["f"]):
        if not 3 <= len(corners) <= 4:
            raise ValueError(f"{path.name}: polygons must have 3 or 4 corners, got {len(corners)}")
        for column, corner in enumerate(corners):
            vertex, _, texture = corner.partition("/")
            polygons[0, row, column] = int(vertex) - 1
            polygons[1, row, column] = int(texture.split("/")[0] or 0) - 1
    return vertices, uv, polygons[0], polygons[1]


def _check_source(source: IctSource) -> None:
    count = len(source.neutral)
    for name, modes, names in (
        ("identity", source.identity, source.identity_names),
        ("expression", source.expression, source.expression_names),
    ):
        if modes.shape != (len(names), count, 3):
            raise ValueError(f"{name} must have shape {(len(names), count, 3)}, got {modes.shape}")
    if source.polygons.ndim != 2 or source.polygons.shape[1] != 4 or source.uv_polygons.shape != source.polygons.shape:
        raise ValueError(f"faces and uv_faces must be [P, 4], got {source.polygons.shape}, {source.uv_polygons.shape}")
    for name, index, limit in (
        ("faces", source.polygons, count),
        ("uv_faces", source.uv_polygons, len(source.uv)),
        ("landmarks68", source.landmarks68, count),
    ):
        if index.min() < -1 or index.max() >= limit:
            raise ValueError(f"{name} must hold indices below {limit}, got {index.min()} to {index.max()}")
