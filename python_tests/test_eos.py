"""eos models (.bin): every class version, blendshapes, units; the Surrey Face Model; damaged files."""

from __future__ import annotations

import json
import pathlib
import re
import struct

import numpy as np
import pytest
import torch
from model_files import blendshape_content, check_model, eos_content, small_truth

from facecore.morphable import load


@pytest.fixture
def landmarks(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "landmarks.txt").write_text("\n".join(map(str, small_truth().landmarks68)))
    return tmp_path / "landmarks.txt"


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_every_version(tmp_path: pathlib.Path, landmarks: pathlib.Path, version: int) -> None:
    truth, path = small_truth(), tmp_path / "model.bin"
    path.write_bytes(eos_content(truth, version))
    model = load(path, landmarks=None if version >= 3 else landmarks)
    if version == 1:  # no expressions; the mean holds what they would add
        assert model.num_expression == 0
        (tmp_path / "shapes.bin").write_bytes(blendshape_content(truth))
        model = load(path, landmarks=landmarks, expressions=tmp_path / "shapes.bin")
        assert model.expression_names == ("mode0", "mode1")
    check_model(model, truth)
    assert (model.uv is None) == (version == 4)
    if model.uv is not None:
        np.testing.assert_allclose(model.uv[0].numpy(), [0, 1 - 1 / 4999], atol=1e-6)  # v downwards in the file


def test_blendshapes_in_the_model(tmp_path: pathlib.Path) -> None:
    (tmp_path / "model.bin").write_bytes(eos_content(small_truth(), 4, blendshapes=True))
    model = load(tmp_path / "model.bin")
    assert model.expression_names == ("shape 0", "shape 1")
    weights = model.sample(100, torch.Generator().manual_seed(0)).expression
    assert model.prior.blendshapes is not None and 0 <= weights.min() and weights.max() <= 1 and weights.max() > 0.5
    (tmp_path / "pca.bin").write_bytes(eos_content(small_truth(), 4))
    assert load(tmp_path / "pca.bin").prior.blendshapes is None
    check_model(model, small_truth())


def test_the_surrey_face_model(tmp_path: pathlib.Path, data_dir: pathlib.Path) -> None:
    folder = data_dir / "meshes/surrey_face_model"
    with pytest.raises(ValueError, match=r"sfm_shape_3448.bin has no 68 landmarks"):
        load(folder / "sfm_shape_3448.bin")
    mapping = {int(a): int(b) for a, b in re.findall(r"^ *(\d+) += +(\d+)", _text(folder / "ibug_to_sfm.txt"), re.M)}
    contour = json.loads(_text(folder / "sfm_model_contours.json"))["model_contour"]
    for i in range(8):  # the points that the mapping leaves out: some contour vertex, and the lips' own corners
        mapping[1 + i] = contour["right_contour"][2 * i]
        mapping[17 - i] = contour["left_contour"][2 * i]
    mapping[61], mapping[65] = mapping[49], mapping[55]
    (tmp_path / "landmarks.json").write_text(json.dumps([mapping[i] for i in range(1, 69)]))
    model = load(
        folder / "sfm_shape_3448.bin",
        landmarks=tmp_path / "landmarks.json",
        expressions=folder / "expression_blendshapes_3448.bin",
    )
    assert (model.num_vertices, model.num_triangles, model.num_identity) == (3448, 6736, 63)
    assert model.expression_names == ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
    corners = model.template[model.landmarks68[[36, 45]]]
    assert abs(float((corners[0] - corners[1]).norm()) - 92) < 1  # README: 92 mm
    assert model.identity_std[0].item() == pytest.approx(np.sqrt(56502), rel=1e-4)
    assert model.uv is not None  # v upwards: high places of the face lie high
    assert float(np.corrcoef(model.uv[:, 1].numpy(), model.template[:, 1].numpy())[0, 1]) > 0.9


def _text(path: pathlib.Path) -> str:
    return path.read_text(encoding="utf-8")


def test_every_cut_is_noticed(tmp_path: pathlib.Path) -> None:
    content = eos_content(small_truth(), 4)
    path = tmp_path / "model.bin"
    cuts = [5, 11, 40, *np.random.default_rng(0).integers(12, len(content), 20).tolist(), len(content) - 1]
    for size in cuts:
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"model\.bin"):
            load(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(ValueError, match="1 bytes follow the end of the model"):
        load(path)


def test_hostile_sizes_are_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "model.bin"
    for header in (struct.pack("<ii", 2**31 - 1, 2**31 - 1), struct.pack("<ii", -1, 3), struct.pack("<ii", 0, 0)):
        path.write_bytes(struct.pack("<I", 1) + header + bytes(1000))
        with pytest.raises(ValueError, match="damaged or incomplete"):
            load(path)
    path.write_bytes(struct.pack("<I", 7) + bytes(1000))
    with pytest.raises(ValueError, match="class version 7"):
        load(path)


def test_wrong_options_are_refused(tmp_path: pathlib.Path, landmarks: pathlib.Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(eos_content(small_truth(), 4))
    with pytest.raises(ValueError, match="has expressions of its own"):
        load(path, expressions=tmp_path / "any.bin")
    path.write_bytes(eos_content(small_truth(), 1))
    with pytest.raises(ValueError, match="is not a file"):
        load(path, landmarks=landmarks, expressions=tmp_path / "any.bin")
    (tmp_path / "any.bin").write_bytes(blendshape_content(small_truth())[:-4])
    with pytest.raises(ValueError, match=r"any\.bin is damaged"):
        load(path, landmarks=landmarks, expressions=tmp_path / "any.bin")
