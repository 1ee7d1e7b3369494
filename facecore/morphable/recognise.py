"""Which kind of morphable model a file or folder holds, by its content."""

from __future__ import annotations

import json
import pathlib
import zipfile
import zlib

import numpy as np
import scipy.io

FORMAT = "facecore-morphable-model"  # the value of "format" in the header of a facecore npz
FACECORE = "a facecore npz"
ICT = "the ICT face model"
_ICT_ARRAYS = {"neutral", "identity", "expression", "faces", "landmarks68"}


def recognise(path: pathlib.Path) -> str:
    """A name of the kind: FACECORE, ICT, the name of a kind that is known but not read, or "" for none.

    Raises ValueError for a zip file that is damaged.
    """
    if path.is_dir():
        return ICT if ict_folder(path) is not None else ""
    with path.open("rb") as file:
        start = file.read(512)
    if start[:4] == b"PK\x03\x04":
        return _recognise_npz(path)
    if start.startswith(b"MATLAB"):
        return _recognise_matlab(path)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return "an HDF5 model such as BFM 2017 and 2019 (.h5)"
    if path.suffix == ".pkl":
        return "a pickled model such as FLAME (.pkl)"
    # The first word of an eos file is its class version, a small little-endian integer.
    if path.suffix == ".bin" and len(start) > 4 and 1 <= int.from_bytes(start[:4], "little") <= 8:
        return "an eos model (.bin)"
    return ""


def ict_folder(path: pathlib.Path) -> pathlib.Path | None:
    """The FaceXModel folder of a checkout of ICT-FaceKit (or that folder itself), None when path is not one."""
    for folder in (path, path / "FaceXModel"):
        if (folder / "generic_neutral_mesh.obj").is_file():
            return folder
    return None


def _recognise_matlab(path: pathlib.Path) -> str:
    try:
        fields = {name for name, _, _ in scipy.io.whosmat(path)}
    except (ValueError, TypeError, OSError, zlib.error, scipy.io.matlab.MatReadError) as error:
        raise ValueError(f"{path} is a damaged MATLAB file ({error}); get it again") from error
    if {"shapeMU", "shapePC"} <= fields:
        return "the Basel Face Model 2009 (.mat)"
    if {"meanshape", "idBase"} <= fields:
        return "the Deep3D cut of the Basel Face Model (.mat)"
    if "model" in fields:
        return "the 300W-LP cut of the Basel Face Model (.mat)"
    return ""


def _recognise_npz(path: pathlib.Path) -> str:
    try:
        with np.load(path, allow_pickle=False) as file:
            if _ICT_ARRAYS <= set(file.files):
                return ICT
            if "header" in file.files and json.loads(str(file["header"])).get("format") == FORMAT:
                return FACECORE
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged or incomplete ({reason}); get or write the file again") from error
    return ""
