"""Results of offline networks kept on disk: one file per picture and network, whole or absent (METHODS 7)."""

from __future__ import annotations

import hashlib
import io
import os
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Mapping

import numpy as np

from facecore.files import write_atomically
from facecore.perception.manifest import file_hash

_CHECKSUM = "checksum"


class PerceptionCache:
    """Arrays under `folder`, by what made them and by the picture's content.

    Args:
        folder: made when the first result is kept; may be shared by several processes.

    Files are named by the identity of the network (which changes with its manifest and file) and the SHA-256 of the
    picture's file, so a moved picture is found again and a changed one is not. Each carries a checksum over its arrays:
    an entry that is damaged is computed again and replaced.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = pathlib.Path(folder)
        self.hits = self.misses = self.damaged = 0

    def path(self, identity: str, digest: str) -> pathlib.Path:
        """The file of a result; identity as of the network, digest as of `file_hash`."""
        return self.folder / identity / digest[:2] / f"{digest}.npz"

    def get(
        self,
        identity: str,
        picture: str | os.PathLike[str],
        compute: Callable[[], Mapping[str, np.ndarray]],
    ) -> dict[str, np.ndarray]:
        """The arrays that `compute` gives for the picture's file, from the cache where they are there and sound."""
        path = self.path(identity, file_hash(pathlib.Path(picture)))
        if path.is_file():
            arrays = _read(path)
            if arrays is not None:
                self.hits += 1
                return arrays
            self.damaged += 1
        self.misses += 1
        arrays = {name: np.asarray(array) for name, array in compute().items()}
        content = io.BytesIO()
        np.savez(content, **arrays, **{_CHECKSUM: np.array(_checksum(arrays))})  # type: ignore[arg-type]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())
        return arrays


def _read(path: pathlib.Path) -> dict[str, np.ndarray] | None:
    """The arrays of an entry; None if it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    checksum = arrays.pop(_CHECKSUM, None)
    return arrays if checksum is not None and str(checksum) == _checksum(arrays) else None


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
