"""BFM 2017 and 2019 (.h5): versions, transposed arrays, variances, landmarks, hostile files."""

from __future__ import annotations

import builtins
import json
import pathlib
from typing import Any

import numpy as np
import pytest
from model_files import bfm_truth, check_model, small_truth, write_statismo

from facecore.morphable import load

h5py = pytest.importorskip("h5py")


@pytest.fixture
def landmarks(tmp_path: pathlib.Path) -> pathlib.Path:
    np.save(tmp_path / "landmarks.npy", small_truth().landmarks68)
    return tmp_path / "landmarks.npy"


@pytest.mark.parametrize("version", [None, (0, 8), (0, 9), (1, 0)])
def test_every_version(tmp_path: pathlib.Path, landmarks: pathlib.Path, version: tuple[int, int] | None) -> None:
    """Old bases are divided by their standard deviations, others are not; the model is the same."""
    write_statismo(tmp_path / "model.h5", small_truth(), version)
    model = load(tmp_path / "model.h5", landmarks=landmarks)
    check_model(model, small_truth())
    np.testing.assert_allclose(model.identity_std.numpy(), small_truth().identity_std, rtol=1e-6)  # of millimetres
    assert model.mirror_map is not None and np.array_equal(model.mirror_map.numpy(), small_truth().mirror)


@pytest.mark.parametrize("version", [(0, 8), (0, 9)])
def test_the_version_of_the_shape_holds_for_groups_without_one(
    tmp_path: pathlib.Path, landmarks: pathlib.Path, version: tuple[int, int]
) -> None:
    path = tmp_path / "model.h5"
    write_statismo(path, small_truth(), version)
    with h5py.File(path, "a") as file:
        del file["expression/version"], file["color/version"]
    check_model(load(path, landmarks=landmarks), small_truth())


def test_parts_may_be_missing(tmp_path: pathlib.Path, landmarks: pathlib.Path) -> None:
    path = tmp_path / "model.h5"
    write_statismo(path, small_truth())
    with h5py.File(path, "a") as file:
        del file["expression"], file["color"]
    model = load(path, landmarks=landmarks)
    check_model(model, small_truth(), expression=False, albedo=False)
    assert model.albedo_mean is None


def test_landmarks_in_the_file(tmp_path: pathlib.Path) -> None:
    path, truth = tmp_path / "model.h5", small_truth()
    write_statismo(path, truth)
    with pytest.raises(ValueError, match=r"model.h5 has no 68 landmarks; give a file of their"):
        load(path)
    places = truth.vertices[truth.landmarks68].tolist()
    names = [str(i + 1) for i in range(68)]
    for value in (json.dumps, lambda entries: np.array([json.dumps(entries).encode()])):
        with h5py.File(path, "a") as file:
            if "metadata" in file:
                del file["metadata"]
            file["metadata/landmarks/json"] = value(
                [{"id": "center.nose.tip", "coordinates": [0, 0, 0]}]
                + [{"id": name, "coordinates": place} for name, place in zip(names, places)]
            )
        check_model(load(path), truth)
    mean = truth.neutral()[truth.landmarks68].tolist()
    (tmp_path / "places.json").write_text(json.dumps([{"id": "a", "coordinates": place} for place in mean]))
    check_model(load(path, landmarks=tmp_path / "places.json"), truth)


def test_on_the_topology_of_the_basel_face_model(tmp_path: pathlib.Path, data_dir: pathlib.Path) -> None:
    truth = bfm_truth(data_dir)
    write_statismo(tmp_path / "model.h5", truth)
    path = data_dir / "meshes/bfm_topology/keypoints_flat_53215.npy"
    check_model(load(tmp_path / "model.h5", landmarks=path), truth)


def _replace(file: Any, name: str, value: Any) -> None:
    if name in file:
        del file[name]
    if value is not None:
        file[name] = value


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("shape", None, "the group shape is missing"),
        ("shape/model/mean", None, "/shape/model/mean is missing"),
        ("shape/model/mean", np.zeros(10), r"mean and basis must be \[7500\] and \[7500, 3\], got \[10\]"),
        ("shape/model/pcaBasis", np.zeros((7500, 2)), "mean and basis must be"),
        ("shape/model/pcaVariance", np.array([1.0, 0.0, 1.0]), "pcaVariance must be positive"),
        ("shape/model/mean", np.full(7500, np.nan), "must be finite"),
        ("shape/model/mean", b"text", "numbers, got 1 "),
        ("shape/representer/points", np.zeros((2500, 3)), r"must be \[3, V\]"),
        ("shape/representer/cells", np.full((3, 5), 2500), "must hold indices from 0 to 2499"),
        ("shape/representer/cells", np.zeros((3, 5)), "must hold indices"),
        ("color/representer/colorspace", b"sRGB", "must be RGB, got 'sRGB'"),
        ("color/model/mean", np.full(7500, 128.0), "the mean albedo must lie in 0 to 1"),
        ("metadata/landmarks/json", b"{", "damaged or incomplete"),
        ("metadata/landmarks/json", np.array([b"[]", b"[]"]), "must hold one string, got 2"),
        ("shape/version", 3, "is missing"),
    ],
)
def test_wrong_files_are_refused(
    tmp_path: pathlib.Path, landmarks: pathlib.Path, name: str, value: Any, message: str
) -> None:
    path = tmp_path / "model.h5"
    write_statismo(path, small_truth())
    with h5py.File(path, "a") as file:
        _replace(file, name, value)
        if name == "shape/version":
            _replace(file, "shape/version", None)
            file["shape/version/majorVersion"] = 1
    with pytest.raises(ValueError, match=message) as caught:
        load(path, landmarks=landmarks)
    assert "model.h5" in str(caught.value) and "\n" not in str(caught.value)


def test_nothing_outside_the_file_is_read(tmp_path: pathlib.Path, landmarks: pathlib.Path) -> None:
    path, other = tmp_path / "model.h5", tmp_path / "other.h5"
    write_statismo(other, small_truth())
    raw = tmp_path / "raw.bin"
    small_truth().vertices.ravel().astype(np.float32).tofile(raw)
    for kind in ("link", "raw", "virtual"):
        write_statismo(path, small_truth())
        with h5py.File(path, "a") as file:
            del file["shape/model/mean"]
            if kind == "link":
                file["shape/model/mean"] = h5py.ExternalLink(str(other), "shape/model/mean")
            elif kind == "raw":
                file.create_dataset("shape/model/mean", (7500,), "f4", external=[(str(raw), 0, 30000)])
            else:
                layout = h5py.VirtualLayout((7500,), "f4")
                layout[:] = h5py.VirtualSource(str(other), "shape/model/mean", (7500,))
                file.create_virtual_dataset("shape/model/mean", layout)
        with pytest.raises(ValueError, match=r"a link to another file|must be a data set of this file"):
            load(path, landmarks=landmarks)


def test_damaged_files_are_refused(tmp_path: pathlib.Path, landmarks: pathlib.Path) -> None:
    path = tmp_path / "model.h5"
    write_statismo(path, small_truth())
    content = path.read_bytes()
    for size in (20, 500, len(content) // 2, len(content) - 8):
        (tmp_path / "cut.h5").write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"cut\.h5"):
            load(tmp_path / "cut.h5", landmarks=landmarks)
    rng = np.random.default_rng(1)
    for _ in range(8):
        damaged = bytearray(content)
        for place in rng.integers(8, 3000, 4):
            damaged[place] = rng.integers(0, 256)
        (tmp_path / "damaged.h5").write_bytes(damaged)
        try:
            load(tmp_path / "damaged.h5", landmarks=landmarks)
        except ValueError as error:
            assert "damaged.h5" in str(error)


def test_without_h5py_the_message_says_what_to_install(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_statismo(tmp_path / "model.h5", small_truth())
    original = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "h5py":
            raise ImportError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"pip install 'facecore\[h5\]'"):
        load(tmp_path / "model.h5")
