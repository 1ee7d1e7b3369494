"""Who is in a photograph, and drawing several photographs of the same persons for a batch (METHODS 2.3)."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

import torch

from facecore.data.landmark_files import read_table
from facecore.data.landmarks import NameIndex

UNKNOWN = -1


def folder_identities(images: Sequence[pathlib.Path], root: pathlib.Path) -> list[str | None]:
    """The sub-folder of `root` that holds each picture, as the person's name; None for pictures in `root` itself."""
    folders = [image.parent.relative_to(root) for image in images]
    return [None if folder == pathlib.Path() else folder.as_posix() for folder in folders]


def table_identities(images: Sequence[pathlib.Path], path: str | os.PathLike[str]) -> list[str | None]:
    """Names from a CSV with the columns `image,identity`, or from lines `image identity` as CelebA has them.

    None for pictures that it does not list. Raises ValueError, naming the file, for another layout or if it lists none
    of the pictures.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is not a file; give a CSV with the columns image,identity")
    header, rows = read_table(path)
    if {"image", "identity"} <= set(header):
        pairs = [(row[header.index("image")], row[header.index("identity")]) for row in rows]
    else:
        lines = [line.split() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        if any(len(line) != 2 for line in lines):
            raise ValueError(f"{path} must be a CSV with the columns image,identity or have lines `image identity`")
        pairs = [(line[0], line[1]) for line in lines]
    index = NameIndex(dict(pairs))
    names = [index.find(image) or None for image in images]
    if images and not any(names):
        raise ValueError(f"{path} lists none of the {len(images)} pictures; its names must end like their paths")
    return names


def number(names: Sequence[str | None]) -> tuple[torch.Tensor, list[str]]:
    """Persons numbered in the order of their names: int64 [len(names)] with UNKNOWN for None, and the names."""
    persons = sorted({name for name in names if name is not None})
    place = {name: i for i, name in enumerate(persons)}
    return torch.tensor([UNKNOWN if n is None else place[n] for n in names], dtype=torch.int64), persons


class IdentitySampler:
    """Draws the photographs of a batch: `num_identities` persons, `per_identity` pictures of each.

    Persons are distinct while there are enough, and a person's pictures are; then they come again, each time in a new
    random order. Persons with several pictures are taken before those with one. Pictures of nobody known take their
    share of the batch (by number of pictures), as if each group of `per_identity` of them were a person.
    """

    def __init__(self, identity: torch.Tensor) -> None:
        if identity.ndim != 1 or identity.dtype != torch.int64 or len(identity) == 0:
            raise ValueError(f"identity must be int64 [N] with N > 0, got {identity.dtype} {list(identity.shape)}")
        self._unknown = (identity < 0).nonzero()[:, 0]
        order = identity.argsort(stable=True)[len(self._unknown) :]
        _, counts = identity[order].unique_consecutive(return_counts=True)
        self._members = list(order.split(counts.tolist())) if len(order) else []
        self._several = torch.tensor([len(members) > 1 for members in self._members], dtype=torch.bool)
        self._size = len(identity)

    def sample(self, generator: torch.Generator, num_identities: int = 8, per_identity: int = 2) -> torch.Tensor:
        """Indices of pictures, int64 [num_identities * per_identity], person by person."""
        if num_identities < 0 or per_identity < 1:
            raise ValueError(f"num_identities must be >= 0 and per_identity >= 1, got {num_identities}, {per_identity}")
        from_unknown = round(num_identities * len(self._unknown) / self._size)
        groups = [
            _repeated(self._members[person], generator, per_identity)
            for person in self._persons(generator, num_identities - from_unknown)
        ]
        groups.append(_repeated(self._unknown, generator, from_unknown * per_identity))
        return torch.cat(groups)

    def _persons(self, generator: torch.Generator, count: int) -> list[int]:
        several, single = self._several.nonzero()[:, 0], (~self._several).nonzero()[:, 0]
        order = torch.cat((_repeated(several, generator, len(several)), _repeated(single, generator, len(single))))
        return [int(order[i % len(order)]) for i in range(count)]


def _repeated(items: torch.Tensor, generator: torch.Generator, count: int) -> torch.Tensor:
    """`count` of the items in random order; all come once before any comes again."""
    rounds = -(-count // max(len(items), 1))
    orders = [items[torch.randperm(len(items), generator=generator)] for _ in range(rounds)]
    return torch.cat([items[:0], *orders])[:count]
