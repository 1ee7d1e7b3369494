"""Morphable models in files: as they were, whole, of a known kind, and refused otherwise."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pytest
import torch
from grid_faces import grid_model

from facecore.morphable import Prior, load
from facecore.morphable.io import model_from_tensors, model_to_tensors
from facecore.morphable.recognise import BFM_300WLP, BFM_2009, DEEP3D, EOS, FLAME, STATISMO, recognise


def _tensors(value: Any) -> dict[str, torch.Tensor]:
    found = {}
    for field in dataclasses.fields(value):
        entry = getattr(value, field.name)
        if isinstance(entry, torch.Tensor):
            found[field.name] = entry
        elif dataclasses.is_dataclass(entry):
            found |= {f"{field.name}.{key}": tensor for key, tensor in _tensors(entry).items()}
        elif isinstance(entry, dict):
            found |= {f"{field.name}.{key}": tensor for key, tensor in entry.items()}
    return found


@pytest.mark.parametrize("complete", [True, False])
def test_saved_models_come_back_equal(tmp_path: pathlib.Path, complete: bool) -> None:
    model = grid_model() if complete else grid_model(albedo=False, mirror_map=None, uv=None, prior=Prior.normal(4, 3))
    model.save(tmp_path / "model.npz")
    same = load(tmp_path / "model.npz")
    before, after = _tensors(model), _tensors(same)
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    for field in ("name", "source", "albedo_source", "identity_names", "expression_names", "albedo_names"):
        assert getattr(same, field) == getattr(model, field)
    assert (same.prior.blendshapes is None) == (model.prior.blendshapes is None)
    assert same.content_hash() == model.content_hash()
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.npz"]


def test_models_come_back_equal_from_a_checkpoints_tensors_and_values() -> None:
    """Through JSON, as checkpoints keep the plain values; blendshapes, regions and names too."""
    model = load("procedural", num_vertices=2500)
    tensors, plain = model_to_tensors(model)
    again = model_from_tensors(tensors, json.loads(json.dumps(plain)))
    assert again.content_hash() == model.content_hash() and again.name == model.name
    del tensors["template"]
    with pytest.raises(TypeError, match="template"):
        model_from_tensors(tensors, plain)


def test_content_hash_covers_every_tensor_but_not_the_name() -> None:
    model = grid_model()
    assert (
        model.content_hash() == dataclasses.replace(model, name="other").content_hash() == grid_model().content_hash()
    )
    rule = dataclasses.replace(model.prior.blendshapes, activity=0.4)  # type: ignore[type-var]
    changes: list[dict[str, Any]] = [
        {key: getattr(model, key) * 0.5}
        for key in ("template", "identity_basis", "expression_std", "albedo_mean", "uv")
    ]
    changes += [
        {"triangles": model.triangles.roll(1, 0)},
        {"landmarks68": model.landmarks68.flip(0)},
        {"mirror_map": None},
        {"regions": {"right": model.regions["left"]}},
        {"prior": dataclasses.replace(model.prior, blendshapes=rule)},
        {"expression_names": ("a", "b", "c")},
    ]
    hashes = {dataclasses.replace(model, **change).content_hash() for change in changes} | {model.content_hash()}
    assert len(hashes) == len(changes) + 1


def test_saving_is_all_or_nothing(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.npz"
    grid_model().save(path)
    before = path.read_bytes()

    def fails_halfway(file: Any, **arrays: np.ndarray) -> None:
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fails_halfway)
    with pytest.raises(OSError, match="disk full"):
        grid_model(albedo=False).save(path)
    assert path.read_bytes() == before and [entry.name for entry in tmp_path.iterdir()] == ["model.npz"]
    with pytest.raises(ValueError, match=r"must end in \.npz"):
        grid_model().save(tmp_path / "model.pkl")


def test_damaged_files_are_refused_in_one_line(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "model.npz"
    grid_model().save(path)
    whole = path.read_bytes()
    cuts = [whole[:length] for length in (100, len(whole) // 2, len(whole) - 1)]
    flips = [
        whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        for place in np.linspace(200, len(whole) - 200, 12).astype(int)
    ]
    for content in cuts + flips:
        path.write_bytes(content)
        try:
            model = load(path)
        except ValueError as error:
            assert "\n" not in str(error) and str(path) in str(error)
        else:  # a byte that zip itself does not read, such as a time stamp: nothing may have changed
            assert model.content_hash() == grid_model().content_hash()
    assert sum(1 for content in cuts if _refused(path, content)) == 3
    assert sum(1 for content in flips if _refused(path, content)) >= 10


def _refused(path: pathlib.Path, content: bytes) -> bool:
    path.write_bytes(content)
    try:
        load(path)
    except ValueError:
        return True
    return False


def test_tampered_and_newer_files_are_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "model.npz"
    grid_model().save(path)
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **(arrays | {"template": arrays["template"] * 1.5}))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="do not match the hash"):
        load(path)
    newer = str(arrays["header"]).replace('"version": 1', '"version": 2')
    np.savez(path, **(arrays | {"header": np.array(newer)}))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="format version 2, this facecore reads up to 1"):
        load(path)
    del arrays["triangles"]
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="damaged or incomplete"):
        load(path)


def test_foreign_files_are_refused_by_kind(tmp_path: pathlib.Path) -> None:
    import scipy.io

    def refused(name: str) -> str:
        with pytest.raises(ValueError, match="supported kinds: 'procedural', a facecore npz") as caught:
            load(tmp_path / name)
        return str(caught.value)

    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for name in ("notes.txt", "empty.npz", "folder", "other.npz"):
        assert "not a morphable model of a known kind" in refused(name)
    scipy.io.savemat(tmp_path / "other.mat", {"a": np.zeros(3)})
    assert "not a morphable model of a known kind" in refused("other.mat")
    with pytest.raises(FileNotFoundError, match="or 'procedural'"):
        load(tmp_path / "nothing.npz")


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.pkl", b"\x80\x02}.", FLAME),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(100), STATISMO),
        ("a.bin", b"\x04\x00\x00\x00" + bytes(100), EOS),
        ("a.mat", {"shapeMU": np.zeros(3), "shapePC": np.zeros((3, 2))}, BFM_2009),
        ("a.mat", {"meanshape": np.zeros(3), "idBase": np.zeros((3, 2))}, DEEP3D),
        ("a.mat", {"model": {"shapeMU": np.zeros(3)}}, BFM_300WLP),
        ("folder/BFM.mat", {"model": {"shapeMU": np.zeros(3)}}, BFM_300WLP),
        ("folder/BFM_model_front.mat", {"meanshape": np.zeros(3)}, DEEP3D),
    ],
)
def test_kinds_are_recognised_by_content_and_empty_ones_refused(
    tmp_path: pathlib.Path, name: str, content: Any, kind: str
) -> None:
    import scipy.io

    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content) if isinstance(content, bytes) else scipy.io.savemat(path, content)
    path = path.parent if name.startswith("folder") else path
    assert recognise(path) == kind
    with pytest.raises(ValueError, match=str(tmp_path)) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_no_pickle_is_ever_read(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "evil.npz"
    grid_model().save(path)
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **(arrays | {"uv": np.array([{"a": 1}], dtype=object)}))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="allow_pickle"):
        load(path)


def test_options_a_kind_does_not_have_are_refused(tmp_path: pathlib.Path) -> None:
    grid_model().save(tmp_path / "model.npz")
    with pytest.raises(ValueError, match="a facecore npz has no option region; it takes none"):
        load(tmp_path / "model.npz", region="face")
    with pytest.raises(ValueError, match="the procedural model has no option refine; it takes num_vertices"):
        load("procedural", refine=1)
