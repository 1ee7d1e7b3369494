"""Folders of landmark files and of pictures, one per face: what the protocols on pictures read."""

from __future__ import annotations

import glob
import math
import pathlib
from collections.abc import Iterable, Mapping

import numpy as np

from facecore.data.images import is_image_file, read_image
from facecore.data.landmark_files import LANDMARK_SUFFIXES, read_table
from facecore.data.landmarks import read_landmarks
from facecore.data.masks import read_mask
from facecore.data.search import find_mask, find_pictures
from facecore.evaluation.claims import photometric_error
from facecore.files import read_matlab

LANDMARKS = tuple(suffix for suffix in LANDMARK_SUFFIXES if suffix != ".xml")  # an .xml holds many pictures
POINTS_ENDING = "_pts"  # NAME_pts.mat of 300W-LP belongs to NAME


def files_by_key(folder: pathlib.Path, suffixes: tuple[str, ...]) -> dict[str, pathlib.Path]:
    """Files of these endings by their path below the folder without ending, sorted; hidden ones are left out.

    Of files that differ in their ending alone, the first of `suffixes` counts. Tables of pictures (index.csv,
    landmarks.csv) are left out. Raises ValueError when there is none.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give the folder of the files")
    found: dict[str, pathlib.Path] = {}
    ranked = [path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file()]
    for path in sorted(ranked, key=lambda path: (path.as_posix(), suffixes.index(path.suffix.lower()))):
        inside = path.relative_to(folder)
        if any(part.startswith(".") for part in inside.parts) or path.name in ("index.csv", "landmarks.csv"):
            continue
        key = inside.with_suffix("").as_posix().removesuffix(POINTS_ENDING)
        best = found.get(key)
        if best is None or suffixes.index(path.suffix.lower()) < suffixes.index(best.suffix.lower()):
            found[key] = path
    if not found:
        raise ValueError(f"{folder} has no file ending in {', '.join(suffixes)}")
    return found


def prediction_of(key: str, predictions: Mapping[str, pathlib.Path], truths: Iterable[str]) -> pathlib.Path:
    """The prediction of the truth `key`: of the same key, else of its stem, as `facecore reconstruct` names results.

    Raises ValueError when there is none, or when several truths have that stem.
    """
    if key in predictions:
        return predictions[key]
    stem = pathlib.PurePosixPath(key).name
    if stem not in predictions:
        raise ValueError("no prediction of it")
    if sum(pathlib.PurePosixPath(other).name == stem for other in truths) > 1:
        raise ValueError(f"several truths are called {stem}; give the predictions the folders of the truths")
    return predictions[stem]


def label_files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """The landmark files of `files_by_key`, without texts that are none, such as a licence.

    A .txt or .csv that cannot be read is a damaged label where a picture of its stem lies beside it, and otherwise no
    label. Raises ValueError when no label is left.
    """
    found = {key: path for key, path in files_by_key(folder, LANDMARKS).items() if _is_label(path)}
    if not found:
        raise ValueError(f"{folder} has no landmark file; endings that are read: {', '.join(LANDMARKS)}")
    return found


def _is_label(path: pathlib.Path) -> bool:
    if path.suffix.lower() not in (".txt", ".csv"):
        return True
    if any(is_image_file(other) for other in path.parent.glob(glob.escape(path.stem) + ".*")):
        return True
    try:
        read_68(path)
    except ValueError:
        return False
    return True


def read_68(path: pathlib.Path) -> np.ndarray:
    """The 68 points of one face, float64 [68, 2], pixels. Raises ValueError naming the file."""
    if path.suffix.lower() == ".npz":
        try:
            with np.load(path, allow_pickle=False) as arrays:
                points = np.asarray(arrays["landmarks_2d"], dtype=np.float64)
        except Exception as error:  # zipfile, zlib and numpy raise errors of many types; each means the same here
            raise ValueError(f"{path} has no readable landmarks_2d: {' '.join(str(error).split())}") from error
    else:
        faces = read_landmarks(path)
        if len(faces) != 1:
            raise ValueError(f"{path} must hold one face, it has {len(faces)}")
        points = faces[0].points.numpy()
    if points.shape != (68, 2) or not np.isfinite(points).all():
        raise ValueError(f"{path} must hold 68 finite points, got {list(points.shape)}")
    return points


def yaw_of_mat(path: pathlib.Path) -> float | None:
    """Yaw in degrees from the Pose_Para of NAME.mat beside a landmark file of that stem (or that file itself).

    The angle as 300W-LP and AFLW2000-3D store it: their bins are made from it. None where there is no such file. Raises
    ValueError naming a damaged one.
    """
    mat = path.with_name(path.stem.removesuffix(POINTS_ENDING) + ".mat")
    if not mat.is_file():
        return None
    pose = np.asarray(read_matlab(mat, ["Pose_Para"]).get("Pose_Para", ())).ravel()
    known = pose.size == 7 and pose.dtype.kind in "iuf" and math.isfinite(pose[1])
    return math.degrees(pose[1]) if known else None


def read_yaws(path: pathlib.Path) -> dict[str, float]:
    """Yaw in degrees by the stem of the picture: a CSV of image,yaw. Raises ValueError naming file and row."""
    header, rows = read_table(path)
    if "image" not in header or "yaw" not in header:
        raise ValueError(f"{path} must have the columns image,yaw")
    yaws = {}
    for number, row in enumerate(rows, start=2):
        try:
            yaw = float(row[header.index("yaw")])
        except ValueError:
            raise ValueError(f"{path}, row {number}: yaw must be a number in degrees") from None
        if not math.isfinite(yaw):
            raise ValueError(f"{path}, row {number}: yaw must be finite")
        yaws[pathlib.PurePosixPath(row[header.index("image")]).stem] = yaw
    return yaws


def pictures_by_key(folder: pathlib.Path, ending: str) -> dict[str, pathlib.Path]:
    """Pictures by their path below the folder without extension; NAME + ending counts as NAME where NAME is absent."""
    found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in find_pictures(folder)}
    return {key.removesuffix(ending): path for key, path in found.items()} | found


def picture_error(
    drawn: pathlib.Path, truth: pathlib.Path, masks: pathlib.Path | None, root: pathlib.Path
) -> tuple[float, int]:
    """Photometric error times 255 of a picture (METHODS 8.1), and the number of pixels that count.

    masks: folder with a mask of the true picture's path below `root`, or of its stem. Raises ValueError, naming the
    file, for pictures of different sizes, a mask that is not there, or one that is empty.
    """
    one, other = read_image(drawn), read_image(truth)
    if one.shape != other.shape:
        raise ValueError(
            f"{drawn} has {one.shape[2]} x {one.shape[1]} pixels, {truth} {other.shape[2]} x {other.shape[1]}"
        )
    mask = other.new_ones(other.shape[1:])
    if masks is not None:
        found = find_mask(masks, truth, root)
        if found is None:
            raise ValueError(f"{truth}: no mask of its name in {masks}")
        mask = read_mask(found, other.shape[1:])
    pixels = int((mask > 0).sum())
    if pixels == 0:
        raise ValueError(f"{truth}: its mask is empty")
    return float(photometric_error(one[None], other[None], mask[None])), pixels
