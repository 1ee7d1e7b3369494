"""The public data sets by name: where each keeps its pictures, labels and persons. docs/data.md: what to download."""

from __future__ import annotations

import inspect
import os
import pathlib
import re
from collections.abc import Callable, Iterable
from typing import Any, Literal

from facecore.data.parameter_photos import ParameterPhotos
from facecore.data.photos import PhotoFolder
from facecore.data.search import find_pictures

Split = Literal["all", "train", "valid", "test"]
DECIDED = ("landmarks", "identities", "pictures")  # by a data set itself
MAX_SKIPPED = 0.02  # of a data set's pictures: more means that a part of the download is missing
_CELEBA_SPLITS = {"train": "0", "valid": "1", "test": "2"}
_LAST_NUMBER = re.compile(r"_\d+$")


def open_dataset(kind: str, folder: str | os.PathLike[str], **options: Any) -> PhotoFolder:
    """Opens the photographs of a data set.

    Args:
        kind: `folder` (any photographs, `PhotoFolder`), `300w-lp`, `aflw2000`, `celeba`, or `auto`, which recognises
            the data set by the names of its files and takes `folder` for what it does not know.
        folder: where it was unpacked.
        options: those of `PhotoFolder` (height and width are needed), and of the data set: `flipped` (300w-lp),
            `split` and `aligned` (celeba); None = not given. What the data set decides by itself (landmarks,
            identities, pictures) is refused; decode is False and max_skipped 2 % for the data sets unless given.

    Raises ValueError for an unknown kind, a wrong option, missing files, and when more than max_skipped is unusable.
    """
    root = pathlib.Path(folder)
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder; check the name")
    if kind == "auto":
        kind = recognise_dataset(root)
    if kind not in KINDS:
        raise ValueError(f"unknown kind of data set {kind!r}; known are {', '.join(KINDS)} and auto")
    given = {name: value for name, value in options.items() if value is not None}
    accepted = {*_options_of(KINDS[kind]), *_options_of(PhotoFolder)} - {"root", "options"}
    accepted -= set() if kind == "folder" else set(DECIDED)
    if unknown := sorted(set(given) - accepted):
        own = " (it brings its own)" if set(unknown) & set(DECIDED) else ""
        raise ValueError(f"{kind} has no option {', '.join(unknown)}{own}; it takes {', '.join(sorted(accepted))}")
    if missing := sorted({"height", "width"} - set(given)):
        raise ValueError(f"{kind} needs {' and '.join(missing)}, the size of the crops in pixels")
    return KINDS[kind](root, **given)


def _options_of(opener: Callable[..., PhotoFolder]) -> list[str]:
    return list(inspect.signature(opener).parameters)


def recognise_dataset(root: pathlib.Path) -> str:
    """`celeba`, `300w-lp`, `aflw2000`, else `folder`, by the names in the folder; nothing is read."""
    if _find(root, _IDENTITY_LISTS) is not None or any((root / name).is_dir() for name in _CELEBA_FOLDERS):
        return "celeba"
    names = {path.name for path in root.iterdir()}
    if {"AFW", "HELEN", "IBUG", "LFPW"} & names:
        return "300w-lp"
    numbered = [name for name in names if re.fullmatch(r"image\d{5}\.jpg", name)]
    return "aflw2000" if numbered and all(name[:-3] + "mat" in names for name in numbered[:20]) else "folder"


def _open_300wlp(root: pathlib.Path, *, flipped: bool = False, **options: Any) -> ParameterPhotos:
    """AFW, HELEN, IBUG, LFPW with rotated versions; a person is an original photograph (its name less the last number).

    flipped: take the mirrored copies of the folders `*_Flip` as well, as the same person; augmentation mirrors anyway.
    Landmarks: `landmarks/<subset>/<name>_pts.mat` (pts_3d), else pt2d of the parameter file.
    """
    pictures = [
        path
        for path in find_pictures(root, [root / "Code", root / "landmarks", options.get("masks")])
        if flipped or not any(part.endswith("_Flip") for part in path.relative_to(root).parts)
    ]
    landmarks = root / "landmarks"
    photos = ParameterPhotos(
        root,
        landmarks if landmarks.is_dir() else None,
        pictures=_some(pictures, root, "pictures of 300W-LP"),
        identities={path: original_photograph(path) for path in pictures},
        **_with_defaults(options),
    )
    used = {photos.path(index).relative_to(root) for index in range(len(photos))}
    flat = sum(not (landmarks / path).with_name(f"{path.stem}_pts.mat").is_file() for path in used)
    if flat:
        photos.report.notes.append(
            f"{flat} pictures have no file in {landmarks}: their points are pt2d, whose contour is the one seen in the "
            "picture, not that of the head"
        )
    return photos


def original_photograph(path: pathlib.Path) -> str:
    """The name that a picture of 300W-LP shares with its rotated and mirrored versions: `AFW_134212_1` of `..._1_7`."""
    return _LAST_NUMBER.sub("", path.stem)


def _open_aflw2000(root: pathlib.Path, **options: Any) -> ParameterPhotos:
    """2,000 pictures of as many persons, whose points are pt3d_68; persons count as unknown."""
    pictures = find_pictures(root, [root / "Code", options.get("masks")])
    return ParameterPhotos(
        root, pictures=_some(pictures, root, "pictures of AFLW2000-3D"), identities="none", **_with_defaults(options)
    )


_IDENTITY_LISTS = ("identity_CelebA.txt",)
_PARTITION_LISTS = ("list_eval_partition.txt",)
_LANDMARK_LISTS = {True: ("list_landmarks_align_celeba.txt",), False: ("list_landmarks_celeba.txt",)}
_CELEBA_FOLDERS = {"img_align_celeba": True, "img_celeba": False}
_PLACES = ("", "Anno", "Eval", "Img", "img")  # where the parts of the official download lie, and of copies of it


def _open_celeba(
    root: pathlib.Path, *, split: Split = "train", aligned: bool | None = None, **options: Any
) -> PhotoFolder:
    """CelebA with five landmarks and persons, from its lists.

    split: by list_eval_partition.txt; `all` needs no such list. aligned: img_align_celeba or img_celeba, each with its
    own list of landmarks; None = the one that is there, img_celeba if both are.
    """
    if split not in ("all", *_CELEBA_SPLITS):
        raise ValueError(f"split must be all, {', '.join(_CELEBA_SPLITS)}, got {split!r}")
    found = {name: folder for name in _CELEBA_FOLDERS if (folder := _find(root, (name,))) is not None}
    wanted = [name for name in found if aligned is None or _CELEBA_FOLDERS[name] == aligned]
    if not wanted:
        names = [name for name, value in _CELEBA_FOLDERS.items() if aligned is None or value == aligned]
        raise ValueError(f"{root} has no folder {' or '.join(names)}; unpack the pictures of CelebA there")
    name = min(wanted, key=lambda name: _CELEBA_FOLDERS[name])
    options = _with_defaults(options)
    pictures = find_pictures(found[name], [options.get("masks")])
    notes: list[str] = []
    if split != "all":
        partition = _read_list(_needed(root, _PARTITION_LISTS), pictures, notes, options["max_skipped"])
        pictures = [path for path in pictures if partition.get(path.name) == _CELEBA_SPLITS[split]]
    persons = _read_list(_needed(root, _IDENTITY_LISTS), pictures, notes, options["max_skipped"])
    photos = PhotoFolder(
        root,
        _needed(root, _LANDMARK_LISTS[_CELEBA_FOLDERS[name]]),
        pictures=_some(pictures, root, f"pictures of CelebA's split '{split}'"),
        identities={path: persons.get(path.name) for path in pictures},
        **options,
    )
    photos.report.notes.extend(notes)
    return photos


def _read_list(
    path: pathlib.Path, pictures: list[pathlib.Path], notes: list[str], max_missing: float
) -> dict[str, str]:
    """Lines `name value` of CelebA. Pictures that are not listed are noted; too large a share of them is an error."""
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({error}); get it again") from None
    for number, line in enumerate(lines, start=1):
        if len(line) != 2:
            raise ValueError(f"{path}, line {number} must hold a name and a number, got {' '.join(line)[:60]!r}")
    values = {line[0]: line[1] for line in lines}
    missing = [picture.name for picture in pictures if picture.name not in values]
    if missing:
        note = f"{len(missing)} of {len(pictures)} pictures are not in {path.name}: {', '.join(missing[:3])}"
        notes.append(note + (", ..." if len(missing) > 3 else ""))
        if len(missing) > max_missing * len(pictures):
            raise ValueError(f"{path} is incomplete: {notes[-1]}; get it again, or allow more by max_skipped")
    return values


def _find(root: pathlib.Path, names: Iterable[str]) -> pathlib.Path | None:
    return next((root / place / name for name in names for place in _PLACES if (root / place / name).exists()), None)


def _needed(root: pathlib.Path, names: tuple[str, ...]) -> pathlib.Path:
    path = _find(root, names)
    if path is None:
        raise ValueError(f"{root} has no {' or '.join(names)}, nor its Anno/ and Eval/; put it there")
    return path


def _some(pictures: list[pathlib.Path], root: pathlib.Path, what: str) -> list[pathlib.Path]:
    if not pictures:
        raise ValueError(f"{root} has no {what}; check the folder")
    return pictures


def _with_defaults(options: dict[str, Any]) -> dict[str, Any]:
    return {"decode": False, "max_skipped": MAX_SKIPPED} | options


KINDS: dict[str, Callable[..., PhotoFolder]] = {
    "folder": PhotoFolder,
    "300w-lp": _open_300wlp,
    "aflw2000": _open_aflw2000,
    "celeba": _open_celeba,
}
