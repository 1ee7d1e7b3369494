"""Facial landmarks in continuous pixels: the 68-point and 5-point orders, and finding a picture's landmarks."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Generic, TypeVar

import torch

from facecore.data.landmark_files import ANY_PICTURE, LANDMARK_SUFFIXES, point_columns, read_landmark_file, read_table
from facecore.perception.alignment import five_points

# The index of the landmark that takes each place when the picture is mirrored; iBUG order (METHODS 1.10).
MIRROR_68 = (
    *range(16, -1, -1),  # contour
    *range(26, 16, -1),  # brows
    *(27, 28, 29, 30, 35, 34, 33, 32, 31),  # nose
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),  # eyes
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),  # outer lips
    *(64, 63, 62, 61, 60, 67, 66, 65),  # inner lips
)
MIRROR_5 = (1, 0, 2, 4, 3)

INDEX = "index.csv"

Entry = TypeVar("Entry")


@dataclasses.dataclass(frozen=True, eq=False)
class Landmarks:
    """The landmarks of one face.

    points: float64 [68, 2] in iBUG order or [5, 2] (`five_points`), (u, v) in continuous pixels: u right, v down, the
    centre of pixel (row i, column j) at (j + 0.5, i + 0.5), of the picture as `read_image` gives it (turned upright).
    """

    points: torch.Tensor

    def __post_init__(self) -> None:
        if self.points.shape not in ((68, 2), (5, 2)) or self.points.dtype != torch.float64:
            got = f"{self.points.dtype} {list(self.points.shape)}"
            raise ValueError(f"points must be float64 [68, 2] or [5, 2], got {got}")

    @property
    def kind(self) -> str:
        """`68` or `5`."""
        return str(self.points.shape[0])

    def five(self) -> torch.Tensor:
        """The five points, float64 [5, 2]."""
        return self.points if self.points.shape[0] == 5 else five_points(self.points)


def read_landmarks(
    path: str | os.PathLike[str],
    image_size: tuple[int, int] | None = None,
    *,
    image: str | os.PathLike[str] | None = None,
) -> list[Landmarks]:
    """Reads the landmarks of every face of one picture.

    Args:
        path: the file. `.pts` (iBUG, 1-based); `.txt` (5 or 68 lines `x y`, or
            CelebA's list of pictures with five points, 0-based); `.mat` (AFLW2000-3D `pt3d_68`,
            300W-LP `pt2d`, `*_pts.mat` with `pts_3d` or `pts_2d`: 1-based); `.xml` (dlib, 0-based); `.csv`, either 5
            or 68 rows of two numbers, or a table with a column `image` and, one face a row, the columns `x0,y0,x1,...`.
            In a CSV `x,y` are 0-based pixel indices and `u,v` (`u0,v0,...`) continuous pixels.
        image_size: (height, width) of the picture. If given, landmarks that mostly lie outside it are refused.
        image: the picture's path, needed where a file describes several pictures (`.xml`, a table). An entry belongs
            to the picture if their paths end alike over the shorter of the two.

    Returns the faces in the order of the file; an empty list where the file has none for this picture.
    Raises ValueError, naming the file and what to do, for anything it cannot read.
    """
    file = LandmarkFile(path)
    if image is None and len(file.pictures) > 1:
        raise ValueError(f"{path} describes {len(file.pictures)} pictures; say which one by `image`")
    faces = file.of(image) if image is not None else [face for picture in file.pictures for face in picture]
    for face in faces:
        _check_inside(file.path, face.points, image_size)
    return faces


class LandmarkFile:
    """One landmark file, read once: `of(image)` gives the faces of a picture."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = pathlib.Path(path)
        faces = read_landmark_file(self.path)
        named = {name: [Landmarks(torch.from_numpy(array)) for array in arrays] for name, arrays in faces.items()}
        self.pictures = list(named.values())
        self.holds_one_picture = set(named) == {ANY_PICTURE}
        self._by_name = NameIndex(named)

    def of(self, image: str | os.PathLike[str]) -> list[Landmarks]:
        """The faces of the picture at this path; empty if the file does not mention it."""
        if self.holds_one_picture:
            return self.pictures[0]
        return self._by_name.find(image) or []


class NameIndex(Generic[Entry]):
    """Finds the entry of a table that means a given picture, whatever folder either was named from.

    An entry matches if its path and the picture's end alike over the shorter of the two; the longest such entry wins.
    A mere file name in the table therefore means every picture of that name.
    """

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._by_file_name: dict[str, list[tuple[tuple[str, ...], Entry]]] = {}
        for name, entry in entries.items():
            parts = _parts(name)
            if parts:
                self._by_file_name.setdefault(parts[-1], []).append((parts, entry))

    def find(self, image: str | os.PathLike[str]) -> Entry | None:
        wanted = _parts(os.fspath(image))
        candidates = self._by_file_name.get(wanted[-1] if wanted else "", [])
        matching = [item for item in candidates if _end_alike(item[0], wanted)]
        return max(matching, key=lambda item: len(item[0]))[1] if matching else None


class LandmarkSource:
    """Where the landmarks of the pictures below one folder come from.

    `landmarks` is one of
    - a landmark file that names its pictures (`read_landmarks`: `.xml`, a `.csv` table of points);
    - a CSV manifest with the columns `image,landmark_file`, paths relative to the manifest; several pictures may share
      one file; an empty cell means no landmarks;
    - a folder with `<stem>.pts|.txt|.mat|.csv|.xml` or `<stem>_pts.mat` for each picture, in the same sub-folders as
      the pictures or all in one;
    - None: the manifest `landmarks.csv` or `index.csv` of the folder if there is one, and for pictures that it does
      not list, a side-car of the same stem beside the picture or in a folder `detections` beside it.

    With `one_picture`, when a single picture is asked for, it may also be a file of one picture (.pts, .txt, .mat).
    With `beside`, a picture that has none in the folder `landmarks` takes those beside it.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        landmarks: str | os.PathLike[str] | None = None,
        *,
        one_picture: bool = False,
        beside: bool = False,
    ) -> None:
        self.root = pathlib.Path(root)
        self._one_picture = one_picture
        self._files: dict[pathlib.Path, LandmarkFile] = {}
        self._table: NameIndex[pathlib.Path | None] | LandmarkFile | None = None
        self._folder: pathlib.Path | None = None
        if landmarks is None:
            manifests = [self.root / name for name in ("landmarks.csv", INDEX)]
            self._table = next((self._open(path) for path in manifests if _names_pictures(path)), None)
        else:
            self._folder = pathlib.Path(landmarks)
            if not self._folder.is_dir():
                self._table, self._folder = self._open(self._folder), None
        self._looks_beside = beside or landmarks is None

    def find(self, image: str | os.PathLike[str], image_size: tuple[int, int] | None = None) -> list[Landmarks]:
        """The faces of a picture; empty if it has no landmarks. Raises ValueError as `read_landmarks` does."""
        image = pathlib.Path(image)
        if isinstance(self._table, LandmarkFile):
            file: LandmarkFile | None = self._table
        else:
            path = self._table.find(image) if self._table is not None else None
            path = path or self._side_car(image)
            file = None if path is None else self._file(path)
        faces = [] if file is None else file.of(image)
        for face in faces:
            assert file is not None
            _check_inside(file.path, face.points, image_size)
        return faces

    def _open(self, path: pathlib.Path) -> NameIndex[pathlib.Path | None] | LandmarkFile:
        if path.suffix.lower() == ".csv" and path.is_file():
            header, rows = read_table(path)
            if {"image", "landmark_file"} <= set(header):
                image, file = header.index("image"), header.index("landmark_file")
                entries = {row[image]: path.parent / row[file] if row[file] else None for row in rows}
                return NameIndex(entries)
        file_ = LandmarkFile(path)
        if file_.holds_one_picture and not self._one_picture:
            raise ValueError(f"{path} has the landmarks of one picture; give a folder of such files, a table or an XML")
        return file_

    def _file(self, path: pathlib.Path) -> LandmarkFile:
        if path not in self._files:
            file = LandmarkFile(path)
            if file.holds_one_picture:
                return file  # read once anyway: not worth keeping
            self._files[path] = file
        return self._files[path]

    def _side_car(self, image: pathlib.Path) -> pathlib.Path | None:
        folders: tuple[pathlib.Path, ...] = ()
        if self._folder is not None:
            inside = image.is_relative_to(self.root)
            folders = (self._folder / image.relative_to(self.root).parent, self._folder) if inside else (self._folder,)
        if self._looks_beside:
            folders = (*folders, image.parent, image.parent / "detections")
        names = [image.stem + suffix for suffix in LANDMARK_SUFFIXES] + [f"{image.stem}_pts.mat"]
        return next((folder / name for folder in folders for name in names if (folder / name).is_file()), None)


def _names_pictures(path: pathlib.Path) -> bool:
    """Whether a CSV tells about the landmarks of pictures.

    Many an index.csv is of something else, or not even a table: such a one is not ours. One named landmarks.csv is
    meant for us, so that what is wrong with it must be said.
    """
    if not path.is_file():
        return False
    try:
        header, _ = read_table(path)
    except ValueError:
        if path.name == INDEX:
            return False
        raise
    if path.name == INDEX:
        return "image" in header and ("landmark_file" in header or point_columns(header) is not None)
    return "image" in header and bool({"landmark_file", "x0", "x_0", "u0", "u_0"} & set(header))


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in re.split(r"[/\\]", name) if part not in ("", "."))


def _end_alike(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    length = min(len(one), len(other))
    return one[-length:] == other[-length:]


def _check_inside(path: pathlib.Path, points: torch.Tensor, image_size: tuple[int, int] | None) -> None:
    if image_size is None:
        return
    height, width = image_size
    inside = (points >= 0).all(1) & (points[:, 0] <= width) & (points[:, 1] <= height)
    if 2 * int(inside.sum()) < len(points):
        raise ValueError(
            f"{path} has {int(inside.sum())} of {len(points)} landmarks inside its picture ({width} x {height} pixels, "
            "width x height); it belongs to another picture or to another size of it"
        )
