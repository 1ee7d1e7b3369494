"""Features of faces and pairs of faces from files, for verification."""

from __future__ import annotations

import collections
import dataclasses
import io
import pathlib
import posixpath
from collections.abc import Sequence

import numpy as np

from facecore.data.images import IMAGE_SUFFIXES
from facecore.data.landmark_files import read_table
from facecore.files import write_atomically


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """P pairs: fold int64 [P], same bool [P], and either names (first, second) or similarity float64 [P]."""

    fold: np.ndarray
    same: np.ndarray
    names: list[tuple[str, str]]
    similarity: np.ndarray | None


def read_pairs(path: pathlib.Path) -> Pairs:
    """A CSV of fold,first,second,same or of fold,similarity,same; same is 1 or 0. ValueError names file and row."""
    header, rows = read_table(path)
    given = "similarity" in header
    needed = ["fold", "same", *(["similarity"] if given else ["first", "second"])]
    if absent := [name for name in needed if name not in header]:
        raise ValueError(f"{path} must have the columns fold,first,second,same or fold,similarity,same; no {absent[0]}")
    if not rows:
        raise ValueError(f"{path} has no pairs")
    fold, same, names, similarity = [], [], [], []
    for number, cells in enumerate(rows, start=2):
        row = dict(zip(header, cells))
        if row["same"] not in ("0", "1"):
            raise ValueError(f"{path}, row {number}: same must be 1 or 0, got {row['same']!r}")
        try:
            fold.append(int(row["fold"]))
            similarity.append(float(row["similarity"]) if given else 0.0)
        except ValueError:
            raise ValueError(f"{path}, row {number}: fold must be a whole number and similarity a number") from None
        same.append(row["same"] == "1")
        if not given:
            names.append((row["first"], row["second"]))
    values = np.array(similarity) if given else None
    return Pairs(np.array(fold), np.array(same), names, values)


class FeatureFiles:
    """Features by name, from one .npz of `names` and `features`, or a folder of .npz of `facecore reconstruct`.

    code: which of their codes. A name may have the ending of a picture (`IMAGE_SUFFIXES`) or not, but not another one.
    Nothing pickled is read. Raises ValueError naming the file when it cannot be read, or names something twice.
    """

    def __init__(self, source: pathlib.Path, code: str) -> None:
        self.source, self.code = source, code
        self._known: dict[str, np.ndarray] = {}
        if source.is_dir():
            return
        arrays = _arrays(source, ("names", "features"))
        names, features = arrays["names"], arrays["features"]
        numbers = features.dtype.kind in "iuf" and features.ndim == 2
        if not numbers or names.shape != (len(features),) or not np.isfinite(features).all():
            raise ValueError(f"{source}: names must be [N] and features finite [N, F]")
        self._known = {str(name): feature for name, feature in zip(names, features.astype(np.float64))}
        if len(self._known) < len(names):
            raise ValueError(f"{source}: names must differ")
        times = collections.Counter(map(_bare, self._known))
        self._by_bare = {_bare(name): name for name in self._known if times[_bare(name)] == 1}

    def of(self, name: str) -> np.ndarray:
        """float64 [F]. Raises ValueError when there is none of this name."""
        if name not in self._known:
            if self.source.is_dir():
                self._known[name] = self._read(name)
            else:
                return self._known[self._other_spelling(name)]
        return self._known[name]

    def _other_spelling(self, name: str) -> str:
        """`a` for `a.jpg` or the other way round; not `a.jpg` for `a.png`, which may be another picture."""
        found = self._by_bare.get(_bare(name))
        if found is None or _bare(name) not in (name, found):
            raise ValueError(f"no feature of {name!r} in {self.source}")
        return found

    def _read(self, name: str) -> np.ndarray:
        root = self.source.resolve()
        for choice in (self.source / f"{name}.npz", self.source / f"{_bare(name)}.npz"):
            if choice.is_file() and root in choice.resolve().parents:
                return self._code_of(choice)
        raise ValueError(f"no {name}.npz in {self.source}")

    def _code_of(self, path: pathlib.Path) -> np.ndarray:
        arrays = _arrays(path, ("codes", "code_names", "code_sizes"))
        codes, sizes = arrays["codes"], arrays["code_sizes"]
        one_axis = all(array.ndim == 1 for array in arrays.values())
        whole = sizes.dtype.kind in "iu" and bool((sizes >= 0).all())
        if not (one_axis and whole and len(sizes) == len(arrays["code_names"]) and sizes.sum() == len(codes)):
            got = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in arrays.items())
            raise ValueError(
                f"{path}: code_sizes must hold how many of codes [F] belong to each of code_names, got {got}; write it "
                "again with 'facecore reconstruct'"
            )
        names = [str(name) for name in arrays["code_names"]]
        if self.code not in names:
            raise ValueError(f"{path} has no code {self.code!r}; it has {', '.join(names) or 'none'}")
        feature = np.split(codes, sizes.cumsum())[names.index(self.code)]
        if feature.dtype.kind not in "iuf" or not len(feature) or not np.isfinite(feature).all():
            raise ValueError(f"{path}: the code {self.code!r} must be a finite vector; write it again")
        return feature.astype(np.float64)


def write_features(path: pathlib.Path, names: Sequence[str], features: np.ndarray) -> None:
    """The .npz that FeatureFiles reads, features [N, F] by name; written to a temporary name and renamed."""
    data = io.BytesIO()
    np.savez(data, names=np.array(names, dtype=str), features=features)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data.getvalue())


def _bare(name: str) -> str:
    """Without the ending of a picture's file; `anna.1` has none."""
    stem, ending = posixpath.splitext(name)
    return stem if ending.lower() in IMAGE_SUFFIXES else name


def _arrays(path: pathlib.Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except Exception as error:  # zipfile, zlib and numpy raise errors of many types; each means the same here
        raise ValueError(f"{path} has no readable {', '.join(names)}: {' '.join(str(error).split())}") from error
