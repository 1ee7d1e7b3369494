"""Folders of face meshes from any method: reading them with their landmarks, and pairing predictions with truths."""

from __future__ import annotations

import dataclasses
import pathlib
import warnings
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np
import torch

from facecore.data.landmark_files import read_table
from facecore.evaluation.point_to_plane import Face
from facecore.evaluation.surfaces import Surface
from facecore.mesh import Mesh, load_mesh
from facecore.morphable import load as load_model

MESH_SUFFIXES = (".npz", ".ply", ".obj", ".off", ".glb", ".gltf")  # of several files with one stem the first counts
LANDMARK_ENDINGS = ("_landmarks.txt", "_landmarks.csv")
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, ValueError, TypeError)


@dataclasses.dataclass(frozen=True, eq=False)
class MeshFile:
    """One file: face with landmarks in mm, the mesh, and the identity shape's vertices [V, 3] if the file has them."""

    path: pathlib.Path
    mesh: Mesh
    face: Face
    neutral_vertices: torch.Tensor | None
    warnings: tuple[str, ...] = ()


class MeshFolder:
    """The meshes below a folder (or one file), by key: the path in the folder without its ending.

    Args:
        root: folder or file.
        landmarks: None: `landmarks_3d` [68, 3] of an .npz, else NAME_landmarks.txt or .csv beside the mesh. A folder:
            NAME.txt or .csv in it, by key or by stem. A file: vertex numbers (from 0) that hold for every mesh.
            Such a file has 68 rows in iBUG order, or 7 (eye corners 36, 39, 42, 45, nose tip, mouth corners 48, 54):
            three coordinates in the mesh's unit, or one vertex number; blanks or commas between, `#` begins a comment.
        unit_mm: millimetres that one unit of the files is (1000 for metres). GLB and glTF are in metres by
            definition, and are converted before; leave 1 for them.

    Raises ValueError when there is no mesh, or for a unit that is not positive.
    """

    def __init__(self, root: pathlib.Path, landmarks: pathlib.Path | None = None, unit_mm: float = 1.0) -> None:
        if not unit_mm > 0:
            raise ValueError(f"the unit must be a positive number of millimetres, got {unit_mm}")
        self.root, self.landmarks, self.unit_mm = root, landmarks, unit_mm
        self.paths = find_meshes(root)
        self._last: MeshFile | None = None
        if not self.paths:
            raise ValueError(f"{root}: no mesh; endings that are read: {', '.join(MESH_SUFFIXES)}")
        self._shared = read_points(landmarks) if landmarks is not None and landmarks.is_file() else None
        if self._shared is not None and self._shared.shape[1] != 1:
            raise ValueError(f"{landmarks}: a file for all meshes must hold vertex numbers, one a row")

    def read(self, path: pathlib.Path) -> MeshFile:
        """Raises ValueError or OSError naming the file, in one line, when it or its landmarks cannot be read.

        The last file is kept: many predictions in a row may have one truth.
        """
        if self._last is None or self._last.path != path:
            self._last = self._read(path)
        return self._last

    def _read(self, path: pathlib.Path) -> MeshFile:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if path.suffix.lower() == ".npz":
                mesh, neutral, points = read_npz(path)
            else:
                mesh, neutral, points = load_mesh(path), None, None
        found = self._landmarks_of(path)
        if found is not None:
            points = found
        if points is not None and points.shape[1] == 1:
            points = _at_vertices(path, points[:, 0], mesh)
        if self.unit_mm != 1.0:
            mesh = Mesh(mesh.vertices * self.unit_mm, mesh.triangles, fix_winding=False)
            neutral = None if neutral is None else neutral * self.unit_mm
            points = None if points is None else points * self.unit_mm
        said = tuple(str(warning.message) for warning in caught)
        return MeshFile(path, mesh, Face(Surface.of(mesh), points), neutral, said)

    def _landmarks_of(self, path: pathlib.Path) -> np.ndarray | None:
        if self._shared is not None:
            return self._shared
        if self.landmarks is None:
            choices = [path.with_name(path.stem + ending) for ending in LANDMARK_ENDINGS]
        else:
            base = self.root if self.root.is_dir() else self.root.parent
            key = path.relative_to(base).with_suffix("")
            names = (str(key), path.stem, f"{key}_landmarks", f"{path.stem}_landmarks")
            choices = [self.landmarks / f"{name}{end}" for name in names for end in (".txt", ".csv")]
        found = next((choice for choice in choices if choice.is_file()), None)
        return None if found is None else read_points(found)


def find_meshes(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Keys to paths, sorted; hidden files are left out, and of files that differ in their ending the first counts."""
    if root.is_file():
        return {root.stem: root} if root.suffix.lower() in MESH_SUFFIXES else {}
    found: dict[str, pathlib.Path] = {}
    for path in sorted(root.rglob("*"), key=lambda path: (path.with_suffix("").as_posix(), _rank(path))):
        inside = path.relative_to(root)
        if _rank(path) < len(MESH_SUFFIXES) and path.is_file() and not any(p.startswith(".") for p in inside.parts):
            found.setdefault(inside.with_suffix("").as_posix(), path)
    return found


def _rank(path: pathlib.Path) -> int:
    suffix = path.suffix.lower()
    return MESH_SUFFIXES.index(suffix) if suffix in MESH_SUFFIXES else len(MESH_SUFFIXES)


def read_npz(path: pathlib.Path) -> tuple[Mesh, torch.Tensor | None, np.ndarray | None]:
    """(mesh, neutral vertices, 68 landmarks) of an .npz as `facecore reconstruct` writes it: `vertices` [V, 3] mm and
    `triangles` [T, 3], perhaps `neutral_vertices` [V, 3] and `landmarks_3d` [68, 3]. Nothing pickled is read.

    Raises ValueError naming the file.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            mesh = Mesh(torch.from_numpy(arrays["vertices"]), torch.from_numpy(arrays["triangles"]))
            neutral = torch.from_numpy(arrays["neutral_vertices"]).float() if "neutral_vertices" in arrays else None
            points = np.asarray(arrays["landmarks_3d"], dtype=np.float64) if "landmarks_3d" in arrays else None
    except _BROKEN as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise ValueError(f"{path} is not a readable face npz: {reason}") from error
    if neutral is not None and (neutral.shape != mesh.vertices.shape or not bool(torch.isfinite(neutral).all())):
        raise ValueError(f"{path}: neutral_vertices must be finite, as many as vertices")
    if points is not None and (points.shape != (68, 3) or not np.isfinite(points).all()):
        raise ValueError(f"{path}: landmarks_3d must be finite and [68, 3], got {list(points.shape)}")
    return mesh, neutral, points


def read_points(path: pathlib.Path) -> np.ndarray:
    """68 or 7 rows of three coordinates, float64 [P, 3], or of one vertex number, [P, 1]. ValueError names the file."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a readable text file: {error}") from None
    rows = [line.split("#")[0].replace(",", " ").split() for line in lines]
    rows = [row for row in rows if row]
    try:
        points = np.array([[float(cell) for cell in row] for row in rows], dtype=np.float64)
    except ValueError:
        raise ValueError(f"{path}: every row must hold three coordinates or one vertex number") from None
    if points.ndim != 2 or points.shape[0] not in (68, 7) or points.shape[1] not in (1, 3):
        raise ValueError(
            f"{path} must have 68 or 7 rows of three coordinates or one vertex number, got {len(rows)} rows"
        )
    if not np.isfinite(points).all():
        raise ValueError(f"{path} has coordinates that are not finite")
    return points


def _at_vertices(path: pathlib.Path, numbers: np.ndarray, mesh: Mesh) -> np.ndarray:
    if (numbers != np.rint(numbers)).any() or numbers.min() < 0 or numbers.max() >= mesh.num_vertices:
        raise ValueError(f"{path}: landmark vertices must be whole numbers from 0 to {mesh.num_vertices - 1}")
    return mesh.vertices.double().numpy()[numbers.astype(np.int64)]


@dataclasses.dataclass(frozen=True)
class Pair:
    """A truth and a prediction of it, None where there is none. subject: who it is; group: such as "indoor"."""

    prediction: pathlib.Path | None
    truth: pathlib.Path
    subject: str
    group: str = ""

    @property
    def name(self) -> str:
        return str(self.truth if self.prediction is None else self.prediction)


def pair_by_name(predictions: MeshFolder, truths: MeshFolder) -> tuple[list[Pair], list[pathlib.Path]]:
    """Pairs for every prediction that a truth is found for, then truths without a prediction; and the predictions left.

    Two files are one pair. A prediction belongs to the truth of the same key; else of the same stem; else to the truth
    whose stem a folder above the prediction has (the nearest one). The truth's key is the subject.
    """
    if predictions.root.is_file() and truths.root.is_file():
        return [Pair(predictions.root, truths.root, truths.root.stem)], []
    stems: dict[str, list[str]] = {}
    for key in truths.paths:
        stems.setdefault(pathlib.PurePosixPath(key).name, []).append(key)
    unique = {stem: keys[0] for stem, keys in stems.items() if len(keys) == 1}
    pairs, left, seen = [], [], set()
    for key, path in predictions.paths.items():
        names = [key, *reversed(pathlib.PurePosixPath(key).parts)]
        subject = next((n if n in truths.paths else unique[n] for n in names if n in truths.paths or n in unique), None)
        if subject is None:
            left.append(path)
            continue
        seen.add(subject)
        pairs.append(Pair(path, truths.paths[subject], subject))
    pairs += [Pair(None, path, key) for key, path in truths.paths.items() if key not in seen]
    return pairs, left


def pairs_of_table(table: pathlib.Path, predictions: MeshFolder, truths: MeshFolder) -> list[Pair]:
    """Pairs of a CSV with the columns prediction, truth and, if wanted, subject and group.

    Paths are keys of the folders, with or without an ending. A prediction that is not there is a missing one. Raises
    ValueError, naming the table and the row, for absent columns or a truth that is not there.
    """
    header, rows = read_table(table)
    if absent := [name for name in ("prediction", "truth") if name not in header]:
        raise ValueError(
            f"{table} must have the columns prediction, truth and, if wanted, subject, group; no {absent[0]}"
        )
    pairs = []
    for number, cells in enumerate(rows, start=2):
        row = dict(zip(header, cells))
        truth = _of_key(truths, row["truth"])
        if truth is None:
            raise ValueError(f"{table}, row {number}: no mesh {row['truth']!r} in {truths.root}")
        subject = row.get("subject") or row["truth"]
        pairs.append(Pair(_of_key(predictions, row["prediction"]), truth, subject, row.get("group", "")))
    if not pairs:
        raise ValueError(f"{table} has no rows")
    return pairs


def _of_key(folder: MeshFolder, name: str) -> pathlib.Path | None:
    key = pathlib.PurePosixPath(name)
    return folder.paths.get(name) or folder.paths.get(key.with_suffix("").as_posix() if key.name else name)


def average_shapes(files: Sequence[MeshFile]) -> MeshFile:
    """The mean of predictions of one topology in one frame, landmarks included (METHODS 8.1, aggregation of S0 and S2).

    Raises ValueError when the triangles differ, or some have landmarks and others have not.
    """
    first = files[0]
    if any(not torch.equal(file.mesh.triangles, first.mesh.triangles) for file in files):
        raise ValueError(f"{first.path}: shapes of one subject must have the same triangles to be averaged")
    landmarks = [file.face.landmarks for file in files]
    if len({None if points is None else points.shape for points in landmarks}) != 1:
        raise ValueError(f"{first.path}: shapes of one subject must all have the same landmarks to be averaged")
    vertices = torch.stack([file.mesh.vertices for file in files]).mean(0)
    neutral = [file.neutral_vertices for file in files if file.neutral_vertices is not None]
    mesh = Mesh(vertices, first.mesh.triangles, fix_winding=False)
    points = None if landmarks[0] is None else np.mean([p for p in landmarks if p is not None], axis=0)
    mean = torch.stack(neutral).mean(0) if len(neutral) == len(files) else None
    said = tuple(dict.fromkeys(text for file in files for text in file.warnings))
    return MeshFile(first.path, mesh, Face(Surface.of(mesh), points), mean, said)


def read_vertex_numbers(path: pathlib.Path) -> np.ndarray:
    """Whole numbers from 0, int64 [P]; blanks, commas or lines between. ValueError names the file."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        numbers = [int(cell) for line in lines for cell in line.split("#")[0].replace(",", " ").split()]
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} must hold whole numbers, one vertex a row: {error}") from None
    if not numbers or min(numbers) < 0:
        raise ValueError(f"{path} must hold at least one vertex number, and none below 0")
    return np.array(numbers, dtype=np.int64)


def read_regions(path: pathlib.Path) -> dict[str, torch.Tensor]:
    """Vertex masks bool [V] by name: the arrays of an .npz, or the regions of a morphable model.

    Raises ValueError naming the file when it has neither.
    """
    if path.suffix.lower() == ".npz" and path.is_file():
        try:
            with np.load(path, allow_pickle=False) as arrays:
                if all(arrays[name].dtype == np.bool_ and arrays[name].ndim == 1 for name in arrays.files):
                    return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        except _BROKEN as error:
            raise ValueError(f"{path} is not a readable npz: {' '.join(str(error).split())}") from error
    regions = load_model(path).regions
    if not regions:
        raise ValueError(f"{path} has no regions; give an .npz of bool masks [V]")
    return regions
