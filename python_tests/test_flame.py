"""FLAME: released pickles with chumpy objects, cleaned ones, npz; metres; what is not part of a linear model."""

from __future__ import annotations

import pathlib
import pickle
import sys
import types
from typing import Any

import numpy as np
import pytest
from model_files import check_model, small_truth

from facecore.morphable import load


def _fields(num_identity: int = 300, num_expression: int = 100) -> dict[str, Any]:
    """FLAME's names: metres, [V, 3, K] directions scaled by sigma, identity first."""
    truth = small_truth()
    directions = np.zeros((len(truth.vertices), 3, num_identity + num_expression))
    directions[:, :, :3] = (truth.identity * truth.identity_std / 1000).reshape(-1, 3, 3)
    directions[:, :, num_identity : num_identity + 2] = (truth.expression * truth.expression_std / 1000).reshape(
        -1, 3, 2
    )
    return {
        "v_template": truth.neutral() / 1000,
        "f": truth.triangles.astype(np.uint32),
        "shapedirs": directions,
        "posedirs": np.zeros((3, 3, 36)),
        "kintree_table": np.array([[4294967295, 0, 1, 1, 1], [0, 1, 2, 3, 4]], dtype=np.int64),
        "bs_type": "lrotmin",
    }


@pytest.fixture
def landmarks(tmp_path: pathlib.Path) -> pathlib.Path:
    np.save(tmp_path / "landmarks.npy", small_truth().landmarks68)
    return tmp_path / "landmarks.npy"


def _check(path: pathlib.Path, landmarks: pathlib.Path, num_identity: int = 300) -> None:
    """Only the first modes move anything; a standard deviation of 1 each, as the files scale them."""
    import torch

    model = load(path, landmarks=landmarks)
    assert model.num_identity == num_identity and model.albedo_mean is None
    assert bool((model.identity_basis[3:] == 0).all()) and bool((model.expression_basis[2:] == 0).all())
    small = load(path, landmarks=landmarks, num_identity=3, num_expression=2)
    check_model(small, small_truth(), albedo=False, own_std=False)
    assert torch.equal(small.identity_basis, model.identity_basis[:3])


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_cleaned_pickles(tmp_path: pathlib.Path, landmarks: pathlib.Path, protocol: int) -> None:
    """Of the small release, 10 + 10 modes."""
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(_fields(10, 10), protocol))
    _check(tmp_path / "model.pkl", landmarks, 10)


def test_the_full_release_as_npz(tmp_path: pathlib.Path, landmarks: pathlib.Path) -> None:
    np.savez(tmp_path / "model.npz", **_fields())
    _check(tmp_path / "model.npz", landmarks)


def test_chumpy_objects_are_read_without_chumpy(
    tmp_path: pathlib.Path, landmarks: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Classes of that name, pickled by protocol 2 as the release was."""

    class Ch:
        def __init__(self, **state: Any) -> None:
            self.__dict__.update(state)

    class Select(Ch):
        pass

    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    for name, kind in (("chumpy.ch", Ch), ("chumpy.reordering", Select)):
        module = types.ModuleType(name)
        kind.__module__, kind.__qualname__ = name, kind.__name__
        setattr(module, kind.__name__, kind)
        monkeypatch.setitem(sys.modules, name, module)
    fields = _fields()
    order = np.arange(fields["shapedirs"].size)[::-1].copy()
    reversed_ = Ch(x=fields["shapedirs"].ravel()[::-1].copy(), _dirty_vars={"x"}, _itr=None, _status="new")
    fields["shapedirs"] = Select(a=reversed_, idxs=order, preferred_shape=fields["shapedirs"].shape)
    fields["v_template"] = Ch(x=fields["v_template"], _make_dense=False)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(fields, 2))
    for name in ("chumpy.ch", "chumpy.reordering"):
        monkeypatch.delitem(sys.modules, name)
    _check(tmp_path / "model.pkl", landmarks)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"f": np.array([[0, 1, 2500]])}, "f must hold indices from 0 to 2499"),
        ({"shapedirs": np.zeros((2500, 3, 19))}, "shapedirs must have at least 20 modes, got 19"),
        ({"shapedirs": np.zeros((2499, 3, 400))}, r"shapedirs must have shape \[2500, 3, K\]"),
        ({"v_template": small_truth().vertices}, "mm from the centroid"),  # millimetres
        ({"v_template": np.full((2500, 3), np.nan)}, "v_template must hold finite numbers"),
        ({"v_template": "text"}, "an array is expected, got str"),
        ({"v_template": np.array([None])}, "not numbers"),
    ],
)
def test_wrong_arrays_are_refused(
    tmp_path: pathlib.Path, landmarks: pathlib.Path, changes: dict[str, Any], message: str
) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(_fields() | changes, 2))
    with pytest.raises(ValueError, match=message) as caught:
        load(tmp_path / "model.pkl", landmarks=landmarks)
    assert "model.pkl" in str(caught.value)


def test_what_it_lacks_is_said(tmp_path: pathlib.Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(_fields(), 2))
    with pytest.raises(ValueError, match=r"model.pkl has no 68 landmarks; give a file of their"):
        load(tmp_path / "model.pkl")
    (tmp_path / "other.pkl").write_bytes(pickle.dumps({"a": 1}, 2))
    with pytest.raises(ValueError, match="not FLAME: it has no v_template, shapedirs, f"):
        load(tmp_path / "other.pkl")
