"""Readers of landmark files, one per format; coordinates become continuous pixels (METHODS 1.2, FORMATS B2, B4, B9)."""

from __future__ import annotations

import csv
import pathlib
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence

import numpy as np

from facecore.files import read_matlab

# What a reader returns: for each picture named in the file, the faces, float64 [68, 2] or [5, 2], in file order. A file
# of one picture names none: its key is ANY_PICTURE.
Faces = dict[str, list[np.ndarray]]
ANY_PICTURE = ""

_ZERO_BASED = 0.5  # pixel indices that start at 0: u = x + 0.5 (METHODS 1.2)
_ONE_BASED = -0.5  # pixel indices that start at 1: u = x - 0.5
_CONTINUOUS = 0.0

# The second line of CelebA's lists; its left is the picture's, so that the order is that of `five_points`.
_CELEBA_COLUMNS = [
    f"{place}_{axis}" for place in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"
]


def read_landmark_file(path: pathlib.Path) -> Faces:
    """Reads every face of every picture of one file; the formats are those of `facecore.data.read_landmarks`.

    Raises ValueError, in one line that names the file and what to do.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path} is not a landmark file; known endings are {', '.join(LANDMARK_SUFFIXES)}")
    if not path.is_file():
        raise ValueError(f"{path} is not a file; check the name of the landmark file")
    return reader(path)


def read_table(path: pathlib.Path) -> tuple[list[str], list[list[str]]]:
    """The header (lower case, stripped) and the rows of a CSV; blank rows dropped, short rows filled with ''."""
    try:
        rows = [row for row in csv.reader(_text(path).splitlines()) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise ValueError(f"{path} is not a readable CSV ({error}); export it again as text") from None
    if not rows:
        raise ValueError(f"{path} is empty")
    header = [cell.strip().lower() for cell in rows[0]]
    return header, [[cell.strip() for cell in row] + [""] * (len(header) - len(row)) for row in rows[1:]]


def _points(path: pathlib.Path, values: np.ndarray, offset: float) -> np.ndarray:
    if values.shape not in ((68, 2), (5, 2)):
        raise ValueError(f"{path} has points of shape {list(values.shape)}; 68 or 5 points `x y` are needed")
    if not np.isfinite(values).all():
        raise ValueError(f"{path} has coordinates that are not finite; correct them or remove the face from the file")
    return np.ascontiguousarray(values, dtype=np.float64) + offset


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file in UTF-8; export it again as text") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def _rows(path: pathlib.Path, lines: Sequence[str]) -> np.ndarray:
    """Two numbers a line, separated by blanks or a comma; `#` begins a comment."""
    rows = []
    for line in lines:
        content = line.split("#")[0].replace(",", " ").split()
        if not content:
            continue
        try:
            x, y = (float(number) for number in content)
        except ValueError:
            raise ValueError(f"{path} has the line {line.strip()[:60]!r}; each must hold two numbers `x y`") from None
        rows.append((x, y))
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


def _read_pts(path: pathlib.Path) -> Faces:
    """iBUG: `version`, `n_points`, then the points between braces, 1-based."""
    match = re.search(r"\{(.*)\}", _text(path), flags=re.DOTALL)
    if match is None:
        raise ValueError(f"{path} has no block {{ ... }} of points; it is not an iBUG .pts file")
    return {ANY_PICTURE: [_points(path, _rows(path, match.group(1).splitlines()), _ONE_BASED)]}


def _read_txt(path: pathlib.Path) -> Faces:
    """Lines `x y`, or CelebA's list: the number of pictures, the names of the columns, then a picture a line."""
    lines = _text(path).splitlines()
    if len(lines) > 1 and lines[1].split() == _CELEBA_COLUMNS:
        return _read_celeba(path, lines)
    return {ANY_PICTURE: [_points(path, _rows(path, lines), _ZERO_BASED)]}


def _read_celeba(path: pathlib.Path, lines: list[str]) -> Faces:
    faces: Faces = {}
    for number, line in enumerate(lines[2:], start=3):
        if not line.strip():
            continue
        name, *numbers = line.split()
        try:
            points = np.array(numbers, dtype=np.float64).reshape(5, 2)
        except ValueError:
            raise ValueError(f"{path}, line {number} must hold a picture and ten numbers, got {line[:60]!r}") from None
        faces[name] = [_points(path, points, _ZERO_BASED)]
    if lines[0].strip() != str(len(faces)):
        raise ValueError(f"{path} announces {lines[0].strip()[:20]} pictures and lists {len(faces)}; get it again")
    return faces


def _read_mat(path: pathlib.Path) -> Faces:
    """300W-LP and AFLW2000-3D, 1-based. Where a file has both, the 3-D points (METHODS 1.10)."""
    fields = read_matlab(path)
    for name in ("pt3d_68", "pts_3d", "pt2d", "pts_2d"):
        values = np.asarray(fields.get(name, 0.0))
        if name.startswith("pt") and not name.startswith("pts"):
            values = values[:2].T if values.ndim == 2 else values
        if values.shape in ((68, 2), (68, 3)):  # the pt2d of AFLW2000-3D has 21 points
            return {ANY_PICTURE: [_points(path, values[:, :2].astype(np.float64), _ONE_BASED)]}
    raise ValueError(f"{path} has no 68 points under pt3d_68, pts_3d, pt2d or pts_2d; no other field is read")


def _read_xml(path: pathlib.Path) -> Faces:
    """dlib: <image file><box><part name x y/>, 0-based. A box without parts has no landmarks and is passed over."""
    if re.search(r"<!(DOCTYPE|ENTITY)", _text(path)):
        raise ValueError(f"{path} declares a document type; dlib landmark files have none, remove it")
    try:
        pictures = ElementTree.parse(path).getroot().findall("images/image")
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{path} is not a readable XML file ({error})") from None
    if not pictures:
        raise ValueError(f"{path} has no <images><image> entries; it is not a dlib landmark file")
    faces: Faces = {}
    for picture in pictures:
        boxes = [box for box in picture.findall("box") if box.find("part") is not None]
        faces.setdefault(picture.get("file", ""), []).extend(_xml_face(path, box) for box in boxes)
    return faces


def _xml_face(path: pathlib.Path, box: ElementTree.Element) -> np.ndarray:
    try:
        parts = {int(p.get("name", "")): (float(p.get("x", "")), float(p.get("y", ""))) for p in box.findall("part")}
    except ValueError:
        raise ValueError(f"{path} has a <part> whose name, x or y is not a number; correct it") from None
    if sorted(parts) != list(range(68)):  # dlib's own five-point files mark other places than `five_points`
        raise ValueError(f"{path} has a box with {len(parts)} parts; the 68 parts 00 to 67 are needed")
    return _points(path, np.array([parts[i] for i in range(68)]), _ZERO_BASED)


def _read_csv(path: pathlib.Path) -> Faces:
    header, rows = read_table(path)
    if "image" in header:
        return _read_point_table(path, header, rows)
    if header in (["x", "y"], ["u", "v"]):
        offset = _ZERO_BASED if header == ["x", "y"] else _CONTINUOUS
    else:
        rows, offset = [header, *rows], _ZERO_BASED
    return {ANY_PICTURE: [_points(path, _rows(path, [",".join(row) for row in rows]), offset)]}


def point_columns(header: Sequence[str]) -> tuple[list[int], float] | None:
    """The columns x0,y0,x1,... (`x_0` also) or u0,v0,... of 5 or 68 points, and what makes them continuous pixels.

    None for a header without them.
    """
    names = [name.replace("_", "") for name in header]
    letters, offset = (("u", "v"), _CONTINUOUS) if "u0" in names else (("x", "y"), _ZERO_BASED)
    count = sum(re.fullmatch(letters[0] + r"\d+", name) is not None for name in names)
    wanted = [f"{letter}{i}" for i in range(count) for letter in letters]
    if count not in (5, 68) or not set(wanted) <= set(names):
        return None
    return [names.index(name) for name in wanted], offset


def _read_point_table(path: pathlib.Path, header: list[str], rows: list[list[str]]) -> Faces:
    """One face a row: the picture and its `point_columns`."""
    found = point_columns(header)
    if found is None:
        raise ValueError(f"{path} must have the columns x0,y0,x1,... (or u0,v0,...) of 5 or 68 points, counted from 0")
    columns, offset = found
    faces: Faces = {}
    for number, row in enumerate(rows, start=2):
        try:
            values = [float(row[column]) for column in columns]
        except ValueError:
            raise ValueError(f"{path}, row {number}: every point column must hold a number") from None
        faces.setdefault(row[header.index("image")], []).append(_points(path, np.array(values).reshape(-1, 2), offset))
    return faces


_READERS: dict[str, Callable[[pathlib.Path], Faces]] = {
    ".pts": _read_pts,
    ".txt": _read_txt,
    ".mat": _read_mat,
    ".csv": _read_csv,
    ".xml": _read_xml,
}
LANDMARK_SUFFIXES = tuple(_READERS)
