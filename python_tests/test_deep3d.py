"""The Deep3D cut of the Basel Face Model: the finished file, and the same model put together from its parts."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
import scipy.io
from model_files import Truth, bfm2009_fields, bfm_truth, check_model, deep3d_fields, deep3d_info, small_truth

from facecore.morphable import load
from facecore.morphable.deep3d import read_exp_pca


def _write_parts(folder: pathlib.Path, truth: Truth, trim: np.ndarray, front: np.ndarray) -> None:
    """A raw model of which `front` of `trim` of the vertices are the truth's; the others are far away."""
    count, num_raw = len(truth.vertices), trim.max() + 10
    chosen = trim[front]
    rows = (3 * chosen[:, None] + np.arange(3)).ravel()
    raw = bfm2009_fields(truth) | {"segbin": np.ones((num_raw, 4))}
    for name in ("shapeMU", "shapePC", "texMU", "texPC"):
        whole = np.full((3 * num_raw, raw[name].shape[1]), 200.0, dtype=np.float32)
        whole[rows] = raw[name]
        raw[name] = whole
    scipy.io.savemat(folder / "01_MorphableModel.mat", raw)
    scipy.io.savemat(folder / "BFM_exp_idx.mat", {"trimIndex": (trim + 1).astype(np.uint16)[:, None]})
    scipy.io.savemat(folder / "BFM_front_idx.mat", {"idx": (front + 1).astype(np.float32)[:, None]})
    scipy.io.savemat(folder / "facemodel_info.mat", deep3d_info(truth))
    modes = np.full((1 + truth.expression.shape[1], 3 * len(trim)), 7.0, dtype="<f4")  # row 0: the mean, never used
    modes[1:, (3 * front[:, None] + np.arange(3)).ravel()] = truth.expression.T
    header = np.array([truth.expression.shape[1]], dtype="<i4").tobytes()
    (folder / "Exp_Pca.bin").write_bytes(header + modes.tobytes())
    (folder / "std_exp.txt").write_text(" ".join(f"{s * 1e3:.9g}" for s in truth.expression_std))
    assert count == len(front)


def _parts(folder: pathlib.Path) -> Truth:
    """The parts of the small truth, whose vertices keep no order in the trimmed mesh."""
    truth = small_truth()
    rng = np.random.default_rng(5)
    _write_parts(folder, truth, np.sort(rng.permutation(3000)[:2800]), rng.permutation(2800)[: len(truth.vertices)])
    return truth


def test_the_finished_file(tmp_path: pathlib.Path) -> None:
    truth = small_truth()
    scipy.io.savemat(tmp_path / "BFM_model_front.mat", deep3d_fields(truth))
    model = load(tmp_path / "BFM_model_front.mat")
    check_model(model, truth, own_std=False)
    assert load(tmp_path).content_hash() == model.content_hash()
    assert model.mirror_map is not None and np.array_equal(model.mirror_map.numpy(), truth.mirror)
    assert model.region("skin_mask")[:6].tolist() == [False, True, True] * 2
    assert int(model.region("front").sum()) == len(truth.vertices) // 2


def test_put_together_from_its_parts(tmp_path: pathlib.Path) -> None:
    truth = _parts(tmp_path)
    model = load(tmp_path)
    assert model.origin is not None
    # the family never adds the mean of Exp_Pca.bin, so that the template is the neutral mean alone
    np.testing.assert_allclose(model.origin.numpy(), truth.vertices.mean(0), atol=1e-4)
    np.testing.assert_allclose(model.template.numpy(), truth.vertices - truth.vertices.mean(0), atol=1e-4)
    identity = np.moveaxis(model.identity_basis.numpy(), 0, 2).reshape(-1, 3)
    np.testing.assert_allclose(identity, truth.identity * truth.identity_std, atol=1e-4)
    expression = np.moveaxis(model.expression_basis.numpy(), 0, 2).reshape(-1, 2)
    np.testing.assert_allclose(expression, truth.expression * truth.expression_std, atol=1e-4)
    np.testing.assert_allclose(model.expression_std.numpy(), truth.expression_std * 1e3, rtol=1e-6)
    assert model.albedo_mean is not None
    np.testing.assert_allclose(model.albedo_mean.numpy(), truth.albedo_mean, atol=1e-6)
    assert load(tmp_path, num_expression=1).num_expression == 1


def test_on_the_real_index_files(tmp_path: pathlib.Path, data_dir: pathlib.Path) -> None:
    folder = data_dir / "meshes/bfm_topology"
    info = scipy.io.loadmat(folder / "facemodel_info.mat")
    front = scipy.io.loadmat(folder / "BFM_front_idx.mat")["idx"].ravel().astype(int) - 1
    whole = bfm_truth(data_dir)
    fields = deep3d_fields(whole)
    rows = (3 * front[:, None] + np.arange(3)).ravel()
    for name in ("idBase", "exBase", "texBase"):
        fields[name] = fields[name][rows]
    for name in ("meanshape", "meantex"):
        fields[name] = fields[name][:, rows]
    fields |= {name: info[name] for name in ("tri", "keypoints", "frontmask2_idx", "skinmask", "point_buf")}
    scipy.io.savemat(tmp_path / "model.mat", fields)
    model = load(tmp_path / "model.mat")
    assert (model.num_vertices, model.num_triangles) == (35709, 70789)
    assert np.array_equal(model.triangles.numpy(), info["tri"].astype(int) - 1)  # counter-clockwise already
    assert model.mirror_map is not None and int(model.region("front").sum()) == 27660
    # the 68 points of both families are the same vertices (README of the data)
    assert np.array_equal(front[model.landmarks68.numpy()], whole.landmarks68)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoints": np.zeros((1, 68))}, "keypoints must hold numbers from 1"),
        ({"idBase": np.zeros((7500, 0))}, None),  # no identity modes: allowed
        ({"idBase": np.zeros((7503, 2))}, "idBase must be a matrix 7500 x K"),
        ({"frontmask2_idx": np.array([[2501.0]])}, "frontmask2_idx must hold numbers from 1 to 2500"),
        ({"skinmask": np.ones((1, 3))}, "skinmask must have 2500 entries"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: pathlib.Path, changes: dict[str, Any], message: str | None) -> None:
    scipy.io.savemat(tmp_path / "model.mat", deep3d_fields(small_truth()) | changes)
    if message is None:
        assert load(tmp_path / "model.mat").num_identity == 0
    else:
        with pytest.raises(ValueError, match=message):
            load(tmp_path / "model.mat")


def test_wrong_parts_are_refused(tmp_path: pathlib.Path) -> None:
    _parts(tmp_path)
    (tmp_path / "std_exp.txt").write_text("1.0")
    with pytest.raises(ValueError, match=r"std_exp.txt must hold 2 positive numbers, got 1"):
        load(tmp_path)
    (tmp_path / "std_exp.txt").write_text("one two")
    with pytest.raises(ValueError, match=r"std_exp.txt must hold numbers only"):
        load(tmp_path)
    content = (tmp_path / "Exp_Pca.bin").read_bytes()
    for wrong in (content[:-1], content + b"\0", b"", b"\x05\0\0", b"\xff\xff\xff\xff" + content[4:]):
        (tmp_path / "Exp_Pca.bin").write_bytes(wrong)
        with pytest.raises(ValueError, match=r"Exp_Pca.bin has \d+ bytes"):
            load(tmp_path)
    (tmp_path / "Exp_Pca.bin").unlink()
    with pytest.raises(ValueError, match=r"nor Exp_Pca.bin; get the missing files"):
        load(tmp_path)


def test_the_size_of_the_published_expression_file() -> None:
    """FORMATS B2: 51,086,404 bytes for 79 modes of 53,215 vertices; here its header and length alone."""
    assert 4 + 4 * 159645 * (1 + 79) == 51_086_404


def test_expression_modes_are_component_major(tmp_path: pathlib.Path) -> None:
    values = np.arange(3 * 6, dtype="<f4").reshape(3, 6)  # the mean and two modes of two vertices
    (tmp_path / "Exp_Pca.bin").write_bytes(np.array([2], dtype="<i4").tobytes() + values.tobytes())
    assert np.array_equal(read_exp_pca(tmp_path / "Exp_Pca.bin", 2), values[1:].T)
