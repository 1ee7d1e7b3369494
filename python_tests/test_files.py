"""MATLAB files that cannot be read: one message wherever they come from."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.io

from facecore.data import read_face_parameters
from facecore.evaluation.picture_folders import yaw_of_mat
from facecore.files import matlab_names, read_matlab
from facecore.morphable import load

READERS: dict[str, Callable[[pathlib.Path], Any]] = {
    "variables": read_matlab,
    "names": matlab_names,
    "morphable model": load,
    "parameters": read_face_parameters,
    "yaw": yaw_of_mat,
}


@pytest.mark.parametrize("reader", READERS)
def test_level_7_3_and_damage_say_the_same_everywhere(tmp_path: pathlib.Path, reader: str) -> None:
    path = tmp_path / "a.mat"
    # The header of level 7.3: 116 characters of text, 8 of an offset, version 2.0, the mark of the byte order.
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n".ljust(900))
    with pytest.raises(ValueError, match=r"a\.mat is a MATLAB 7\.3 file; save it again with `-v7`"):
        READERS[reader](path)
    scipy.io.savemat(path, {"shapeMU": np.zeros(1000)})
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(ValueError, match=r"a\.mat is not a readable MATLAB file \(.*\); get it again"):
        READERS[reader](path)


def test_names_of_variables(tmp_path: pathlib.Path) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"one": np.zeros(2), "two": {"field": 1}})
    assert matlab_names(tmp_path / "a.mat") == {"one", "two"} == set(read_matlab(tmp_path / "a.mat"))
