"""A folder of photographs as training data: crops, landmarks, masks and persons (METHODS 2.3, the unlabelled half)."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import SupportsIndex

import torch
from tqdm import tqdm

from facecore.data.augmentation import NO_AUGMENTATION, Augmentation, padded, warp_points
from facecore.data.batches import PhotoBatch
from facecore.data.crop import BOX_FACTOR, FaceCrop
from facecore.data.identities import IdentitySampler, folder_identities, number, table_identities
from facecore.data.images import read_image, read_image_size
from facecore.data.landmarks import Landmarks, LandmarkSource
from facecore.data.masks import MASK_THRESHOLD, face_mask, mask_decider, read_mask
from facecore.data.photo_report import PhotoReport, reason_of
from facecore.data.random import occurrences, sample_generator
from facecore.data.search import find_mask, find_pictures
from facecore.render.affine import warp

MIN_FACE_PIXELS = 24.0  # a smaller face is a blur when enlarged to any network's input
CACHE_BYTES = 4 << 30


@dataclasses.dataclass(frozen=True, eq=False)
class _Face:
    """One sample: a face in a picture."""

    path: pathlib.Path
    crop: FaceCrop  # without the margin for augmentation
    landmarks: Landmarks | None


class PhotoFolder:
    """Photographs below a folder, each face a sample.

    Args:
        root: searched recursively for pictures (`IMAGE_SUFFIXES`); hidden files and the folder of masks are left out.
        landmarks: where the landmarks are (`LandmarkSource`); None = a manifest or side-cars in `root`.
        identities: a CSV with the columns `image,identity` (or lines `image identity`), or a mapping of pictures to
            names; None = the sub-folder a picture lies in is a person; "none" = persons are unknown.
        masks: folder of PNGs of the pictures' relative paths or stems, light where the face's skin is visible. None, or
            no mask for a picture: skin probability above 0.5 (METHODS 1.10); a grey picture counts whole.
        height, width: of the samples, in pixels.
        seed: of the augmentation.
        augmentation: ranges of the random shift, scale, turn, mirroring.
        assume_cropped: take a picture without landmarks as a face as a whole (its landmark weights are 0).
        cache_bytes: crops are kept in memory as bytes up to this size; beyond, pictures are read again each time.
        pictures: the ones below `root` to take; None = all.
        decode: True = all pictures are decoded once here, so that a damaged one shows now, and crops are kept; False =
            only sizes and landmarks are read, for sets of many pictures: a damaged one is an error when its turn comes.
        max_skipped: largest share of the pictures that may be left out.

    What is unreadable, has no face or a face smaller than 24 pixels is skipped, once, and listed in `report`. Raises
    ValueError if nothing is left or more than `max_skipped` is left out.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        landmarks: str | os.PathLike[str] | None = None,
        identities: str | os.PathLike[str] | Mapping[pathlib.Path, str | None] | None = None,
        masks: str | os.PathLike[str] | None = None,
        *,
        height: int,
        width: int,
        seed: int = 0,
        augmentation: Augmentation | None = None,
        assume_cropped: bool = False,
        cache_bytes: int = CACHE_BYTES,
        pictures: Sequence[pathlib.Path] | None = None,
        decode: bool = True,
        max_skipped: float = 1.0,
    ) -> None:
        self.root = pathlib.Path(root)
        self.masks = None if masks is None else pathlib.Path(masks)
        for folder in (self.root, *([] if self.masks is None else [self.masks])):
            if not folder.is_dir():
                raise ValueError(f"{folder} is not a folder; check the name")
        if not 0 <= max_skipped <= 1:
            raise ValueError(f"max_skipped must be in [0, 1], the share of the pictures, got {max_skipped}")
        self.height, self.width, self.seed = height, width, seed
        self.augmentation = Augmentation() if augmentation is None else augmentation
        self._padding = self.augmentation.padding(height, width)
        self.report = PhotoReport(self.root)
        self._faces: list[_Face] = []
        self._cache: list[torch.Tensor | None] = []
        self._decided_by: Counter[str] = Counter()
        paths = find_pictures(self.root, [self.masks]) if pictures is None else list(pictures)
        self._load(paths, self._landmark_source(landmarks), assume_cropped, cache_bytes if decode else None)
        self.report.refuse_more_than(max_skipped)
        self.identity, self.identity_names = self._identities(identities)
        self.num_identities = self.report.num_identities = len(self.identity_names)
        self._sampler = IdentitySampler(self.identity)
        self._write_notes()

    def __len__(self) -> int:
        return len(self._faces)

    def path(self, index: int) -> pathlib.Path:
        """The picture of a sample."""
        return self._faces[index].path

    def masked(self) -> int:
        """How many of the pictures have a mask in `masks`."""
        return sum(self._mask_path(face.path) is not None for face in self._faces)

    def crop(self, index: int) -> FaceCrop:
        """The map between a sample without augmentation and its picture."""
        return self._faces[index].crop

    @functools.cached_property
    def digest(self) -> str:
        """Twelve hexadecimal digits over what was found: relative paths, persons, landmark kinds, masks given or not.

        Equal for the same files in another place; the pixels are not looked at.
        """
        found = [
            (
                face.path.relative_to(self.root).as_posix(),
                None if person < 0 else self.identity_names[person],
                None if face.landmarks is None else face.landmarks.kind,
                self._mask_path(face.path) is not None,
            )
            for face, person in zip(self._faces, self.identity.tolist())
        ]
        return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:12]

    def batch(
        self, index: torch.Tensor, key: SupportsIndex | None = None, occurrence: Sequence[int] | None = None
    ) -> PhotoBatch:
        """The samples `index`, int64 [B], on the CPU.

        key: augmentation is drawn from (seed, key, sample), the n-th time that a sample occurs in the batch from
        another stream, whatever the batch; None = no augmentation. occurrence: these n, where the batch is a part of a
        larger one (`occurrences`).
        """
        if index.ndim != 1 or index.dtype != torch.int64:
            raise ValueError(f"index must be int64 [B], got {index.dtype} {list(index.shape)}")
        numbers = index.tolist()
        if any(not 0 <= i < len(self) for i in numbers):
            raise ValueError(f"index must be in [0, {len(self)}), got {min(numbers)} to {max(numbers)}")
        times = occurrences(numbers) if occurrence is None else occurrence
        maps = self.maps(numbers, key, times)
        image, mask = self._pictures(numbers, [matrix for matrix, _ in maps])
        points, weight = torch.zeros(len(numbers), 68, 2), torch.zeros(len(numbers), 68)
        five, five_weight = torch.zeros(len(numbers), 5, 2), torch.zeros(len(numbers), 5)
        for place, (i, (matrix, mirrored)) in enumerate(zip(numbers, maps)):
            face = self._faces[i]
            if face.landmarks is None:
                continue
            moved = warp_points(face.crop.to_crop(face.landmarks.points), matrix, mirrored).float()
            if face.landmarks.kind == "68":
                points[place], weight[place] = moved, 1.0
            else:
                five[place], five_weight[place] = moved, 1.0
        return PhotoBatch(image, mask, points, weight, five, five_weight, self.identity[index])

    def sample(self, generator: torch.Generator, count: int, per_identity: int = 2) -> torch.Tensor:
        """`count` samples with `per_identity` of a person (`IdentitySampler`), int64 [count]."""
        return self.sample_identities(generator, -(-count // per_identity), per_identity)[:count]

    def sample_identities(
        self, generator: torch.Generator, num_identities: int = 8, per_identity: int = 2
    ) -> torch.Tensor:
        """Samples of `num_identities` persons, int64 [num_identities * per_identity] (`IdentitySampler`)."""
        return self._sampler.sample(generator, num_identities, per_identity)

    def maps(
        self, numbers: Sequence[int], key: SupportsIndex | None, occurrence: Sequence[int]
    ) -> list[tuple[torch.Tensor, bool]]:
        """How `batch` moves samples from their crops: float64 [2, 3] each, and whether it mirrors (`Augmentation`)."""
        settings = NO_AUGMENTATION if key is None else self.augmentation
        epoch = -1 if key is None else key
        drawn = [sample_generator(self.seed, "photo", epoch, *pair) for pair in zip(numbers, occurrence, strict=True)]
        return [settings.draw(generator, self.height, self.width) for generator in drawn]

    def _pictures(self, numbers: list[int], maps: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Images [B, 3, H, W] and masks [B, H, W] of the working crops (RGB, mask, mask-is-given) under the maps."""
        if not numbers:
            return torch.zeros(0, 3, self.height, self.width), torch.zeros(0, self.height, self.width)
        working = torch.stack([self._working(i) for i in numbers]).float() / 255
        result = warp(working, padded(torch.stack(maps), self._padding), self.height, self.width)
        return result[:, :3].contiguous(), (result[:, 3] > MASK_THRESHOLD).float()

    def _working(self, index: int) -> torch.Tensor:
        cached = self._cache[index]
        if cached is not None:
            return cached
        face = self._faces[index]
        image = read_image(face.path)
        return self._working_crop(face.crop, image, self._given_mask(face.path, image))

    def _working_crop(self, crop: FaceCrop, image: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """RGB and mask with the margin that augmentation needs, uint8 [4, H + 2p, W + 2p]."""
        short, margin = min(self.height, self.width), 2 * self._padding
        crop = crop.resized(self.height + margin, self.width + margin, (short + margin) / short)
        pixels = crop.crop(image).clamp(0, 1)
        allowed = face_mask(crop, image, mask, pixels)
        return (torch.cat((pixels, allowed[None])) * 255).round().to(torch.uint8)

    def _given_mask(self, path: pathlib.Path, image: torch.Tensor) -> torch.Tensor | None:
        mask_path = self._mask_path(path)
        return None if mask_path is None else read_mask(mask_path, image.shape[1:])

    def _mask_path(self, path: pathlib.Path) -> pathlib.Path | None:
        return None if self.masks is None else find_mask(self.masks, path, self.root)

    def _landmark_source(self, landmarks: str | os.PathLike[str] | None) -> LandmarkSource:
        return LandmarkSource(self.root, landmarks)

    def _load(
        self, paths: Sequence[pathlib.Path], source: LandmarkSource, assume_cropped: bool, cache_bytes: int | None
    ) -> None:
        """cache_bytes: None = pictures are not decoded, only their sizes are read."""
        self.report.num_listed = len(paths)
        for path in tqdm(paths, desc="photographs", unit="picture", disable=len(paths) < 500):
            try:
                image = None if cache_bytes is None else read_image(path)
                size = read_image_size(path) if image is None else (image.shape[1], image.shape[2])
                faces = self._faces_of(path, size, source, assume_cropped)
                mask = None if image is None else self._given_mask(path, image)
            except ValueError as error:
                self.report.skipped.append((path, reason_of(error, path)))
                continue
            self.report.num_pictures += bool(faces)
            self._decided_by["" if image is None else mask_decider(image, mask)] += bool(faces)
            for crop, landmarks in faces:
                self._faces.append(_Face(path, crop, landmarks))
                working = None
                if image is not None and cache_bytes is not None:
                    working = self._working_crop(crop, image, mask)
                    cache_bytes -= working.numel()
                self._cache.append(working if cache_bytes is not None and cache_bytes >= 0 else None)
        self.report.num_faces = len(self._faces)

    def _faces_of(
        self, path: pathlib.Path, size: tuple[int, int], source: LandmarkSource, assume_cropped: bool
    ) -> list[tuple[FaceCrop, Landmarks | None]]:
        height, width = size
        found = source.find(path, (height, width))
        if not found and assume_cropped:
            return [(FaceCrop.whole(height, width, self.height, self.width), None)]
        if not found:
            raise ValueError("no landmarks (put a .pts, .txt or .mat of its stem beside it, or assume it is cropped)")
        faces: list[tuple[FaceCrop, Landmarks | None]] = []
        for landmarks in found:
            crop = FaceCrop.from_landmarks(landmarks, self.height, self.width)
            if crop.side < BOX_FACTOR * MIN_FACE_PIXELS:
                self.report.skipped.append((path, f"a face smaller than {MIN_FACE_PIXELS:.0f} pixels"))
            else:
                faces.append((crop, landmarks))
        return faces

    def _identities(
        self, identities: str | os.PathLike[str] | Mapping[pathlib.Path, str | None] | None
    ) -> tuple[torch.Tensor, list[str]]:
        paths = [face.path for face in self._faces]
        if isinstance(identities, Mapping):
            names = [identities.get(path) for path in paths]
        elif identities is None:
            names = folder_identities(paths, self.root)
        elif identities == "none":
            names = [None] * len(paths)
        else:
            names = table_identities(paths, identities)
        return number(names)

    def _write_notes(self) -> None:
        notes, by = self.report.notes, self._decided_by
        if self.masks is not None and by["skin"] + by["grey"]:
            notes.append(f"{by['skin'] + by['grey']} pictures have no mask in {self.masks}: found without")
        if by["grey"]:
            notes.append(f"{by['grey']} grey pictures have no skin colour: the mask is the whole picture")
        missing = sum(crop is None for crop in self._cache)
        if by[""]:
            notes.append("pictures are decoded when their turn comes: a damaged one will show then")
        elif missing:
            notes.append(f"{missing} crops do not fit into the cache and are read again each time")
