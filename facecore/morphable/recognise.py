"""Which kind of morphable model a file or folder holds, by its content."""

from __future__ import annotations

import json
import pathlib
import zipfile
import zlib

import numpy as np

from facecore.files import matlab_names

FORMAT = "facecore-morphable-model"  # the value of "format" in the header of a facecore npz
FACECORE = "a facecore npz"
ICT = "the ICT face model"
BFM_2009 = "the Basel Face Model 2009 (.mat)"
BFM_300WLP = "the 300W-LP cut of the Basel Face Model (.mat)"
DEEP3D = "the Deep3D cut of the Basel Face Model (.mat)"
STATISMO = "an HDF5 model such as BFM 2017 and 2019 (.h5)"
FLAME = "FLAME (.pkl, .npz)"
EOS = "an eos model (.bin)"
_ICT_ARRAYS = {"neutral", "identity", "expression", "faces", "landmarks68"}


def recognise(path: pathlib.Path) -> str:
    """The kind, one of the names above, or "" for none.

    Raises ValueError for a zip or MATLAB file that is damaged.
    """
    if path.is_dir():
        return _recognise_folder(path)
    with path.open("rb") as file:
        start = file.read(512)
    if start[:4] == b"PK\x03\x04":
        return _recognise_npz(path)
    if start.startswith(b"MATLAB"):
        return _recognise_matlab(path)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return STATISMO
    if path.suffix == ".pkl":  # whose content is looked at only by a reader that runs nothing of it
        return FLAME
    # The first word of an eos file is its class version, a small little-endian integer.
    if path.suffix == ".bin" and len(start) > 4 and 1 <= int.from_bytes(start[:4], "little") <= 8:
        return EOS
    return ""


def _recognise_folder(path: pathlib.Path) -> str:
    if ict_folder(path) is not None:
        return ICT
    names = {entry.name for entry in path.iterdir()}
    if "BFM_model_front.mat" in names or {"01_MorphableModel.mat", "facemodel_info.mat"} <= names:
        return DEEP3D
    if "BFM.mat" in names:
        return BFM_300WLP
    return BFM_2009 if "01_MorphableModel.mat" in names else ""


def ict_folder(path: pathlib.Path) -> pathlib.Path | None:
    """The FaceXModel folder of a checkout of ICT-FaceKit (or that folder itself), None when path is not one."""
    for folder in (path, path / "FaceXModel"):
        if (folder / "generic_neutral_mesh.obj").is_file():
            return folder
    return None


def _recognise_matlab(path: pathlib.Path) -> str:
    fields = matlab_names(path)
    if {"shapeMU", "shapePC"} <= fields:
        return BFM_2009
    if {"meanshape", "idBase"} <= fields:
        return DEEP3D
    return BFM_300WLP if "model" in fields else ""


def _recognise_npz(path: pathlib.Path) -> str:
    try:
        with np.load(path, allow_pickle=False) as file:
            if _ICT_ARRAYS <= set(file.files):
                return ICT
            if {"v_template", "shapedirs", "f"} <= set(file.files):
                return FLAME
            if "header" in file.files and json.loads(str(file["header"])).get("format") == FORMAT:
                return FACECORE
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged or incomplete ({reason}); get or write the file again") from error
    return ""
