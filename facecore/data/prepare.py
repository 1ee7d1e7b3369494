"""From a folder of photographs to a training set: finds, crops and masks faces; goes on where it was stopped."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pathlib
from collections.abc import Callable
from typing import Any, Literal

import torch

from facecore.data.augmentation import REFERENCE_SIZE, Augmentation
from facecore.data.crop import BOX_FACTOR, FaceCrop, landmark_boxes
from facecore.data.face_finder import FaceFinder, segment_face
from facecore.data.identities import folder_identities, table_identities
from facecore.data.images import read_image, write_png
from facecore.data.landmarks import Landmarks, LandmarkSource
from facecore.data.masks import MASK_THRESHOLD, face_mask, mask_decider
from facecore.data.photos import MIN_FACE_PIXELS
from facecore.data.prepared_set import (
    FILES,
    FORMAT,
    MASKS,
    PHOTOS,
    RECORDS,
    PreparedSet,
    Record,
    is_unfinished,
    read_record,
    remove_orphans,
    write_tables,
)
from facecore.data.search import find_pictures
from facecore.files import write_atomically
from facecore.perception import FaceSegmenter, PerceptionCache
from facecore.perception.manifest import file_hash

MIN_SIZE, MAX_SIZE = 64, 4096
# A crop holds what augmentation by METHODS 2.3 may reach for around the square that training sees.
MARGIN = 1 + 2 * Augmentation().padding(REFERENCE_SIZE, REFERENCE_SIZE) / REFERENCE_SIZE


class _NoFinder(ValueError):
    """The picture has no landmarks and nothing that could find them is there: not the picture's fault."""


class Preparation:
    """Turns the pictures below `folder` into a training set in `out`, which `PhotoFolder` reads.

    Args:
        folder: searched recursively; hidden files and `out` are left out.
        out: made if it is not there. Holds photos/ (crops as PNG with their landmarks as .pts of the same stem, in the
            sub-folders of `folder`), masks/ (PNG, white = visible face skin), records/ (one JSON per picture: source,
            SHA-256, faces, what was skipped), identities.csv, manifest.json.
        finder: for pictures without landmarks; called when first needed, gives a text where there is none: what to do.
        finder_identity: changes when what is found may.
        segmenter: of the masks; None = skin probability above 0.5 (METHODS 7), a grey picture counts whole.
        landmarks: as `LandmarkSource` takes them.
        identities: a file as `PhotoFolder` takes it; None = the sub-folder is the person; "none" = unknown.
        faces: the "largest" of a picture, or "all".
        redetect: find faces even where landmarks are given.
        size: side in pixels of the square that training will see; the crops are `MARGIN` times as large, and smaller
            where the picture has fewer pixels: nothing is enlarged.
        min_face: faces whose box is smaller (pixels of the picture) are skipped; training takes none below 24.
        cache: of the segmentation.

    `run()` goes on where an earlier run stopped: a picture whose record is there, was made from the same content and
    whose files are there is not touched. Everything is written whole or not at all, the record last; the result does
    not depend on where a run was stopped. Raises ValueError where `out` was prepared with other settings.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        out: str | os.PathLike[str],
        *,
        finder: Callable[[], FaceFinder | str],
        finder_identity: str = "",
        segmenter: FaceSegmenter | None = None,
        landmarks: str | os.PathLike[str] | None = None,
        identities: str | os.PathLike[str] | None = None,
        faces: Literal["largest", "all"] = "largest",
        redetect: bool = False,
        size: int = REFERENCE_SIZE,
        min_face: float = MIN_FACE_PIXELS,
        cache: PerceptionCache | None = None,
    ) -> None:
        self.folder, self.out = pathlib.Path(folder), pathlib.Path(out)
        if not self.folder.is_dir():
            raise ValueError(f"{self.folder} is not a folder; check the name")
        if not MIN_SIZE <= size <= MAX_SIZE:
            raise ValueError(f"size must be in [{MIN_SIZE}, {MAX_SIZE}] pixels, got {size}")
        if not min_face >= MIN_FACE_PIXELS:
            raise ValueError(f"min_face must be at least {MIN_FACE_PIXELS:.0f} pixels, got {min_face}")
        self.pictures = find_pictures(self.folder, [self.out])
        if not self.pictures:
            raise ValueError(f"{self.folder} holds no pictures")
        self._finder, self._segmenter, self._cache = finder, segmenter, cache
        self._faces, self._size, self._min_face = faces, size, min_face
        self._source = None if redetect else LandmarkSource(self.folder, landmarks)
        self._names = self._identities(identities)
        self.settings: dict[str, Any] = {
            "format": FORMAT,
            "size": size,
            "faces": faces,
            "min_face": min_face,
            "landmarks": None if landmarks is None else pathlib.Path(landmarks).name,
            "redetect": redetect,
            "finder": finder_identity,
            "masks": "skin probability" if segmenter is None else segmenter.identity,
        }

    def run(self, progress: Callable[[], None] = lambda: None) -> PreparedSet:
        """Prepares every picture; `progress` is called after each. What is refused is recorded, nothing is raised for
        it; OSError where the disk is full."""
        self._check_settings()
        records: dict[str, Record] = {}
        reused = 0
        for path in self.pictures:
            name = path.relative_to(self.folder).as_posix()
            content = {"sha256": file_hash(path), "landmarks": self._given(path)}
            record = self._finished(name, content)
            reused += record is not None
            records[name] = record or self._prepare(path, name, content)
            records[name]["identity"] = self._names[path]
            progress()
        self._remove_stale(records)
        prepared = PreparedSet(self.out, records, reused)
        remove_orphans(prepared)
        write_tables(prepared, self.settings)
        return prepared

    def _identities(self, identities: str | os.PathLike[str] | None) -> dict[pathlib.Path, str | None]:
        if identities is None:
            names = folder_identities(self.pictures, self.folder)
        elif identities == "none":
            names = [None] * len(self.pictures)
        else:
            names = table_identities(self.pictures, identities)
        return dict(zip(self.pictures, names))

    def _check_settings(self) -> None:
        """Writes settings.json, or compares with the one that is there."""
        file = self.out / "settings.json"
        content = json.dumps(self.settings, indent=1)
        if file.is_file():
            try:
                before = json.loads(file.read_text(encoding="utf-8"))
            except ValueError:
                before = None
            if before != self.settings:
                different = sorted(
                    key
                    for key in self.settings
                    if not isinstance(before, dict) or before.get(key) != self.settings[key]
                )
                raise ValueError(
                    f"{self.out} was prepared with another {', '.join(different) or 'version'}; choose a new folder"
                )
        elif self.out.is_dir() and any(not is_unfinished(path) for path in self.out.iterdir()):
            raise ValueError(f"{self.out} holds other files; choose a new or an empty folder")
        else:
            self.out.mkdir(parents=True, exist_ok=True)
            write_atomically(file, content.encode())

    def _record_path(self, name: str) -> pathlib.Path:
        return self.out / RECORDS / f"{name}.json"

    def _given(self, path: pathlib.Path) -> str:
        """Twelve hexadecimal digits over the landmarks that were given for a picture; empty if there are none."""
        try:
            faces = [] if self._source is None else self._source.find(path)
        except ValueError as error:
            return str(error)
        digest = hashlib.sha256(b"".join(face.points.numpy().tobytes() for face in faces))
        return digest.hexdigest()[:12] if faces else ""

    def _finished(self, name: str, content: dict[str, str]) -> Record | None:
        record = read_record(self._record_path(name))
        if record is None or any(record.get(key) != value for key, value in content.items()):
            return None
        files = [self.out / face[key] for face in record["faces"] for key in FILES]
        return record if all(file.is_file() for file in files) else None

    def _prepare(self, path: pathlib.Path, name: str, content: dict[str, str]) -> Record:
        self._forget(name)
        record: Record = {"picture": name, **content, "found": 0, "faces": [], "skipped": []}
        try:
            image = read_image(path)
            found = self._find(path, image)
            record["found"] = len(found)
            if self._faces == "largest":
                found = [max(found, key=lambda face: _size(face[0]))]
            for landmarks, score in found:
                size = _size(landmarks)
                if size < self._min_face:
                    record["skipped"].append(f"a face of {size:.0f} pixels, smaller than {self._min_face:.0f}")
                else:
                    number = len(record["faces"]) + 1
                    record["faces"].append(self._write_face(path, name, number, image, landmarks, score))
        except _NoFinder as error:
            record["skipped"].append(str(error))
            return record  # not written: another run may find them
        except ValueError as error:
            record["skipped"].append(str(error).removeprefix(str(path)).strip(" :"))
        target = self._record_path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, json.dumps(record, indent=1).encode())
        return record

    def _find(self, path: pathlib.Path, image: torch.Tensor) -> list[tuple[Landmarks, float | None]]:
        given = [] if self._source is None else self._source.find(path, (image.shape[1], image.shape[2]))
        found: list[tuple[Landmarks, float | None]] = [(landmarks, None) for landmarks in given]
        if not found:
            finder = self._finder()
            if isinstance(finder, str):
                hint = f", {finder}" if finder else ""
                raise _NoFinder(f"no landmarks; put a .pts, .txt or .mat of its stem beside it{hint}")
            found = [(face.landmarks, face.score) for face in finder.find(image, path)]
            if not found:
                raise ValueError("no face found")
        return found

    def _write_face(
        self, path: pathlib.Path, name: str, number: int, image: torch.Tensor, landmarks: Landmarks, score: float | None
    ) -> Record:
        """Crop, mask and landmarks of one face; what the record says of it."""
        source = FaceCrop.from_landmarks(landmarks, self._size, self._size)
        side = source.side * MARGIN
        pixels = min(round(self._size * MARGIN), math.ceil(side))
        crop = FaceCrop(source.centre, side, pixels, pixels)
        seen = crop.crop(image).clamp(0, 1)
        mask, decided_by = self._mask(path, image, source, crop, seen)
        stem = pathlib.PurePosixPath(name)
        number_suffix = "" if number == 1 else f"-{number}"
        target = stem.parent / f"{stem.stem}_{stem.suffix[1:]}{number_suffix}"
        files = {
            "crop": f"{PHOTOS}/{target}.png",
            "points": f"{PHOTOS}/{target}.pts",
            "mask": f"{MASKS}/{target}.png",
        }
        for file in files.values():
            (self.out / file).parent.mkdir(parents=True, exist_ok=True)
        write_png(self.out / files["crop"], seen)
        write_png(self.out / files["mask"], mask)
        points = crop.to_crop(landmarks.points)
        write_atomically(self.out / files["points"], _pts(points).encode())
        return {
            **files,
            "box_side": round(source.side / BOX_FACTOR, 3),
            "score": None if score is None else round(score, 6),
            "mask_from": decided_by,
            "picture_to_crop": [[round(x, 9) for x in row] for row in crop.matrix().tolist()],
        }

    def _mask(
        self, path: pathlib.Path, image: torch.Tensor, face: FaceCrop, crop: FaceCrop, seen: torch.Tensor
    ) -> tuple[torch.Tensor, str]:
        """Where visible face skin is, [H, W] of the crop, and what decided it. Nothing beyond the picture counts."""
        whole, decided_by = None, ""
        if self._segmenter is not None:
            whole, decided_by = segment_face(self._segmenter, image, face, path, self._cache), self._segmenter.identity
        mask = (face_mask(crop, image, whole, seen) > MASK_THRESHOLD).float()
        return mask, decided_by or mask_decider(image, whole)

    def _forget(self, name: str) -> None:
        """Removes a record that no longer holds, first the record, then its files."""
        record = read_record(self._record_path(name))
        self._record_path(name).unlink(missing_ok=True)
        for face in record["faces"] if record is not None else ():
            for key in FILES:
                file = (self.out / face[key]).resolve()
                if file.is_relative_to(self.out.resolve()):
                    file.unlink(missing_ok=True)

    def _remove_stale(self, records: dict[str, Record]) -> None:
        """Results of pictures that are no longer there."""
        root = self.out / RECORDS
        for file in sorted(root.rglob("*.json")):
            name = file.relative_to(root).as_posix().removesuffix(".json")
            if name not in records:
                self._forget(name)


def _size(landmarks: Landmarks) -> float:
    """Mean of width and height of the landmarks' box, in pixels."""
    return float(landmark_boxes(landmarks.points[None])[1][0])


def _pts(points: torch.Tensor) -> str:
    """Points in continuous pixels as an iBUG .pts file, whose indices begin at 1."""
    lines = [f"{u + 0.5:.4f} {v + 0.5:.4f}" for u, v in points.tolist()]
    return "\n".join(["version: 1", f"n_points: {len(lines)}", "{", *lines, "}", ""])
