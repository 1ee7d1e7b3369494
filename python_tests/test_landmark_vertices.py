"""Files of landmark vertices: every kind gives the same 68 with its own index base, wrong ones are refused."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable

import numpy as np
import pytest
import scipy.io

from facecore.morphable.landmark_vertices import read_landmark_vertices

VERTICES = np.random.default_rng(0).uniform(-80, 80, (400, 3))
INDEX = np.random.default_rng(1).permutation(400)[:68]

WRITERS: dict[str, Callable[[pathlib.Path], object]] = {
    "plain.npy": lambda path: np.save(path, INDEX.astype(np.uint16)),
    "flat.npy": lambda path: np.save(path, (3 * INDEX[:, None] + np.arange(3)).ravel()),
    "lines.txt": lambda path: path.write_text("\n".join(map(str, INDEX)) + "\n"),
    "row.csv": lambda path: path.write_text(",".join(map(str, INDEX))),
    "face3d.mat": lambda path: scipy.io.savemat(path, {"kpt_ind": (INDEX + 1).astype(np.uint16)[None]}),
    "deep3d.mat": lambda path: scipy.io.savemat(path, {"keypoints": (INDEX + 1.0)[None]}),
    "list.json": lambda path: path.write_text(json.dumps(INDEX.tolist())),
    "places.json": lambda path: path.write_text(
        json.dumps([{"id": str(i), "coordinates": (place + 0.01).tolist()} for i, place in enumerate(VERTICES[INDEX])])
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind(tmp_path: pathlib.Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    result = read_landmark_vertices(tmp_path / name, VERTICES)
    assert result.dtype == np.int64 and np.array_equal(result, INDEX)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", b"not numpy", "not a readable .npy"),
        ("a.txt", b"1 2 three", "whole numbers only"),
        ("a.txt", b"1 2 3", "68 vertex indices, got 3"),
        ("a.txt", b"400 " * 68, "indices from 0 to 399"),
        ("a.txt", b"-1 " * 68, "indices from 0 to 399"),
        ("a.txt", b"1" * 5000, "whole numbers only"),
        ("a.mat", b"MATLAB", "not a readable MATLAB file"),
        ("a.json", b"[" * 100_000, "not readable JSON"),
        ("a.json", b"{}", "a list of 68 entries"),
        ("a.json", json.dumps([{"id": "x"}] * 68).encode(), "three `coordinates` each"),
        ("a.json", json.dumps([{"coordinates": [1e3, 0, 0]}] * 68).encode(), "mm from the mesh"),
        ("a.json", b"[" + b",".join([b'{"coordinates": [NaN, 0, 0]}'] * 68) + b"]", "not finite"),
        ("a.pts", b"", "must end in"),
    ],
)
def test_wrong_files_are_refused(tmp_path: pathlib.Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_landmark_vertices(tmp_path / name, VERTICES)
    assert name in str(caught.value)


def test_wrong_arrays_are_refused(tmp_path: pathlib.Path) -> None:
    for values, message in (
        (np.arange(204), "204 values that are not rows"),  # wrong order: 0, 1, 2, 3, ... are rows of 68 vertices
        (np.arange(68) + 0.5, "68 vertex indices"),
        (np.array(["a"] * 68), "68 vertex indices"),
    ):
        if message.startswith("204"):
            values = values[::-1]
        np.save(tmp_path / "a.npy", values)
        with pytest.raises(ValueError, match=message):
            read_landmark_vertices(tmp_path / "a.npy", VERTICES)
    scipy.io.savemat(tmp_path / "zero.mat", {"keypoints": np.arange(68)[None]})  # a .mat counts from 1
    with pytest.raises(ValueError, match="indices from 0 to 399"):
        read_landmark_vertices(tmp_path / "zero.mat", VERTICES)
    scipy.io.savemat(tmp_path / "other.mat", {"a": 1})
    with pytest.raises(ValueError, match="neither kpt_ind nor keypoints"):
        read_landmark_vertices(tmp_path / "other.mat", VERTICES)
    with pytest.raises(ValueError, match="is not a file"):
        read_landmark_vertices(tmp_path / "absent.npy", VERTICES)
