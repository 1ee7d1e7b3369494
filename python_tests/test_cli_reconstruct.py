"""`facecore reconstruct`: what it writes, and that bad input gets one line and leaves nothing half-written."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from collections.abc import Callable

import numpy as np
import pytest
import torch
import trimesh
from cli_runs import VERTICES, WRITTEN, Shared, everything_below, pictures

from facecore.data import read_image, read_landmarks, write_png
from facecore.morphable import load
from facecore.training.checkpoint import Checkpoint


@pytest.mark.parametrize("source", ["model", "checkpoint"])
def test_reconstruct(run, shared, tmp_path, source):
    out = tmp_path / "new" / "out"
    options = ["--out", out, "--refine", 4, "--size", 48, f"--{source}", getattr(shared, source)]
    code, text, errors = run("reconstruct", shared.picture, *options)
    assert (code, errors) == (0, "") and "index.html" in text
    assert everything_below(out) == ["face.glb", "face.npz", "face.obj", "face_overlay.png", "index.html"]
    arrays = np.load(out / "face.npz")
    assert arrays["vertices"].shape == (VERTICES, 3)
    millimetres, metres = (trimesh.load_mesh(out / f"face.{kind}", process=False) for kind in ("obj", "glb"))
    for mesh, scale in ((millimetres, 1.0), (metres, 1000.0)):
        assert len(mesh.vertices) == VERTICES and len(mesh.faces) == len(arrays["triangles"])
        # eight decimals of a millimetre in OBJ, float32 in GLB
        np.testing.assert_allclose(np.asarray(mesh.vertices) * scale, arrays["vertices"], atol=1e-3)
    height = float(np.ptp(arrays["vertices"][:, 1]))
    assert 120 < height < 300, "a face in millimetres"
    given = read_landmarks(shared.picture.with_suffix(".pts"))[0].points.numpy()
    box = np.sqrt(np.prod(np.ptp(given, axis=0)))
    # four steps: the face lies on its landmarks, roughly; the untrained network starts anywhere near the middle
    allowed = {"model": 0.1, "checkpoint": 0.4}[source]
    assert np.linalg.norm(arrays["landmarks_2d"] - given, axis=1).mean() < allowed * box
    if source == "model":
        start = f"the mean face of {shared.model}"
    else:
        start = f"model.safetensors (configuration {Checkpoint.load(shared.checkpoint).plain['config_hash']})"
    page = (out / "index.html").read_text(encoding="utf-8")
    assert f"facecore reconstruct</h1><p>Started from {start}; 4 refinement steps" in page


def test_one_refused_picture_does_not_stop_the_others(run, shared, tmp_path):
    good = pictures(tmp_path, shared, "a", "b")
    lonely, text = tmp_path / "lonely.png", tmp_path / "text.jpg"
    shutil.copy(shared.picture, lonely)
    text.write_text("not a picture")
    options = ["--model", shared.model, "--size", 48, "--detector", "none", "--out", tmp_path / "out"]
    code, _, errors = run("reconstruct", good[0], lonely, text, good[1], *options)
    assert code == 1
    refused_lonely, refused_text = errors.splitlines()
    assert f"refused {lonely}: no landmarks; put lonely.pts (68 or 5 points) beside it" in refused_lonely
    assert f"refused {text} is not a picture" in refused_text
    assert {f"{name}.{kind}" for name in "ab" for kind in WRITTEN} <= set(everything_below(tmp_path / "out"))
    assert not any("lonely" in name or "text" in name for name in everything_below(tmp_path / "out"))
    cropped = run("reconstruct", lonely, "--assume-cropped", *options[:-1], tmp_path / "out2")
    assert cropped[0] == 0 and "lonely.glb" in everything_below(tmp_path / "out2")


def test_a_face_that_diverges_does_not_stop_the_others(run, shared, tmp_path, monkeypatch):
    from facecore.cli import reconstruct
    from facecore.systems.refinement import Diverged

    plain = reconstruct.reconstruct_with_progress

    def diverge_on_a(face, *rest):
        if face.path.stem == "a":
            raise Diverged("the refinement diverged")
        return plain(face, *rest)

    monkeypatch.setattr(reconstruct, "reconstruct_with_progress", diverge_on_a)
    good = pictures(tmp_path, shared, "a", "b")
    code, _, errors = run("reconstruct", *good, "--model", shared.model, "--size", 48, "--out", tmp_path / "out")
    assert (code, errors) == (1, f"facecore reconstruct: refused {good[0]}: the refinement diverged")
    assert "b.glb" in everything_below(tmp_path / "out") and "a.glb" not in everything_below(tmp_path / "out")


def test_a_face_that_cannot_be_exported_does_not_stop_the_others(run, shared, tmp_path, monkeypatch):
    from facecore.systems import export

    plain = export.export_face

    def refuse_a(folder, name, *rest):
        if name == "a":
            raise ValueError("a: the reconstruction has NaN")
        return plain(folder, name, *rest)

    monkeypatch.setattr(export, "export_face", refuse_a)
    good = pictures(tmp_path, shared, "a", "b")
    code, out, errors = run("reconstruct", *good, "--model", shared.model, "--size", 48, "--out", tmp_path / "out")
    assert (code, errors) == (1, f"facecore reconstruct: refused {good[0]}: a: the reconstruction has NaN")
    assert "1 faces" in out and {"b.glb", "index.html"} <= set(everything_below(tmp_path / "out"))


def test_landmarks_of_one_picture_serve_one_picture(run, shared, tmp_path):
    (picture,) = pictures(tmp_path, shared, "a")
    points = picture.with_suffix(".pts").rename(tmp_path / "points.pts")
    options = ["--model", shared.model, "--size", 48, "--out", tmp_path / "out"]
    code, out, errors = run("reconstruct", picture, "--landmarks", points, *options)
    assert (code, errors) == (0, "") and "every shape is the mean face" in out
    assert "every shape" not in run("reconstruct", picture, "--landmarks", points, *options, "--refine", 1)[1]


def test_hidden_pictures_masks_and_results_are_not_faces(run, shared, tmp_path):
    """As in training (PhotoFolder); masks are found by the pictures' paths in their folder."""
    root = tmp_path / "in"
    for name in (".hidden", "masks/deep", "deep", "masks", "faces"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in (".hidden", "deep", "faces"):
        pictures(root / name, shared, "a")
    size = read_image(shared.picture).shape[1:]
    write_png(root / "masks" / "deep" / "a.png", torch.ones(size))
    write_png(root / "masks" / "a.png", torch.ones(3, 3))
    options = ["--model", shared.model, "--size", 48, "--masks", root / "masks", "--out", root / "faces"]
    code, out, errors = run("reconstruct", root, *options)
    assert (code, errors) == (0, "") and "1 faces" in out


def test_a_folder_is_searched_and_its_manifest_read(run, shared, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (picture,) = pictures(tmp_path / "in" / "deep", shared, "a")
    (tmp_path / "in" / "points").mkdir()
    picture.with_suffix(".pts").rename(tmp_path / "in" / "points" / "p.pts")
    (tmp_path / "in" / "index.csv").write_text("image,landmark_file\ndeep/a.png,points/p.pts\n")
    code, _, errors = run(
        "reconstruct", tmp_path / "in", "--model", shared.model, "--size", 48, "--out", tmp_path / "out"
    )
    assert (code, errors) == (0, "") and "a.glb" in everything_below(tmp_path / "out")


def damaged(content: bytes) -> Callable[[Shared, pathlib.Path], object]:
    def make(shared: Shared, folder: pathlib.Path) -> object:
        path = folder / "bad.file"
        path.write_bytes(content)
        return path

    return make


def half_checkpoint(shared: Shared, folder: pathlib.Path) -> object:
    path = folder / "bad.file"
    path.write_bytes(shared.checkpoint.read_bytes()[:100_000])
    return path


def changed_checkpoint(change: Callable[[Checkpoint], object]) -> Callable[[Shared, pathlib.Path], object]:
    def make(shared: Shared, folder: pathlib.Path) -> object:
        checkpoint = Checkpoint.load(shared.checkpoint)
        change(checkpoint)
        checkpoint.save(folder / "bad.file")
        return folder / "bad.file"

    return make


def changed_model(name: str, value: float) -> Callable[[Shared, pathlib.Path], object]:
    def make(shared: Shared, folder: pathlib.Path) -> object:
        arrays = dict(np.load(shared.model))
        arrays[name] = arrays[name].copy()
        arrays[name][7, 1] = value
        with open(folder / "bad.file", "wb") as file:
            np.savez(file, **arrays)
        return folder / "bad.file"

    return make


BAD_RECONSTRUCTIONS = {
    "no pictures named": ([], 2, "name at least one picture or folder of pictures"),
    "no such picture": (["{folder}/none.png"], 2, "{folder}/none.png: no such file or folder"),
    "empty folder": (["{empty}"], 2, "no pictures in {empty}"),
    "negative steps": (["{picture}", "--refine", "-1"], 2, "--refine must be at least 0, got -1"),
    "size": (["{picture}", "--size", "8"], 2, "--size must lie in [32, 1024], got 8"),
    "not a number": (["{picture}", "--size", "big"], 2, "Error parsing --size: invalid literal"),
    "out is a file": (["{picture}", "--out", "{picture}"], 2, "--out {picture} is a file; give a folder"),
    "masks are a file": (["{picture}", "--masks", "{picture}"], 2, "--masks {picture} is not a folder"),
    "no such model": (["{picture}", "--model", "flame"], 2, "--model flame: no such file or folder; give 'procedural'"),
    "landmarks of one face": (
        ["{picture}", "{second}", "--landmarks", "{points}"],
        1,
        "{points} has the landmarks of one picture",
    ),
    "two sources": (
        ["{picture}", "--model", "procedural", "--checkpoint", "{points}"],
        2,
        "--model and --checkpoint: a",
    ),
    "no such checkpoint": (["{picture}", "--checkpoint", "none.safetensors"], 2, "none.safetensors: no such file"),
}


@pytest.mark.parametrize("case", BAD_RECONSTRUCTIONS)
def test_bad_reconstructions_write_nothing(run, shared, tmp_path, tmp_path_factory, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    names = {"folder": tmp_path, "empty": tmp_path / "empty", "picture": shared.picture}
    names["points"] = shared.picture.with_suffix(".pts")
    names["second"] = shutil.copy(shared.picture, tmp_path_factory.mktemp("other") / "second.png")
    arguments, code, message = BAD_RECONSTRUCTIONS[case]
    result = run("reconstruct", *(argument.format(**names) for argument in arguments))
    assert result[:2] == (code, "") and result[2].count("\n") == 0
    assert result[2].startswith("facecore reconstruct: " + message.format(**names))
    assert everything_below(tmp_path) == ["empty"]


BAD_FILES = {
    "text as checkpoint": ("checkpoint", damaged(b"hello" * 100), "bad.file is damaged"),
    "half a checkpoint": ("checkpoint", half_checkpoint, "bad.file is damaged"),
    "checkpoint of another system": (
        "checkpoint",
        changed_checkpoint(lambda c: c.plain.update(system="of-another-time")),
        "bad.file holds the system 'of-another-time'",
    ),
    "checkpoint without weights": (
        "checkpoint",
        changed_checkpoint(lambda c: c.tensors["model"].pop("pose_head.weight")),
        "bad.file is damaged or of another version",
    ),
    "checkpoint without settings": (
        "checkpoint",
        changed_checkpoint(lambda c: c.plain.update(config=[])),
        "bad.file is damaged or of another version",
    ),
    "checkpoint of another size": (
        "checkpoint",
        changed_checkpoint(lambda c: c.plain["config"]["model"].update(identity_size=9)),
        "bad.file is damaged or of another version",
    ),
    "checkpoint whose triangles are out of range": (
        "checkpoint",
        changed_checkpoint(lambda c: c.tensors["assets"]["triangles"].__setitem__((5, 0), VERTICES)),
        "bad.file is damaged or of another version: triangles must index vertices 0 to 2499",
    ),
    "checkpoint whose template has NaN": (
        "checkpoint",
        changed_checkpoint(lambda c: c.tensors["assets"]["template"].__setitem__((5, 0), float("nan"))),
        "bad.file is damaged or of another version: vertices must be finite",
    ),
    "text as model": ("model", damaged(b"hello" * 100), "bad.file is not a morphable model of a known kind"),
    "model whose triangles are out of range": (
        "model",
        changed_model("triangles", VERTICES),
        "triangles must hold indices from 0 to 2499, got 0 to 2500",
    ),
    "model with NaN vertices": ("model", changed_model("template", float("nan")), "template must be finite"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_named_and_nothing_is_written(run, shared, tmp_path, case):
    option, make, message = BAD_FILES[case]
    path = make(shared, tmp_path)
    code, out, errors = run("reconstruct", shared.picture, f"--{option}", path, "--out", tmp_path / "out")
    assert (code, out) == (1, "") and errors.count("\n") == 0
    assert "bad.file" in errors and message in errors
    assert everything_below(tmp_path) == ["bad.file"]
    with pytest.raises(ValueError, match=r"bad\.file"):
        run("reconstruct", shared.picture, f"--{option}", path, "--out", tmp_path / "out", "--debug")


def test_weights_that_are_not_finite_write_nothing(run, shared, tmp_path):
    make = changed_checkpoint(lambda c: c.tensors["model"]["pose_head.bias"].fill_(float("nan")))
    path = make(shared, tmp_path)
    code, _, errors = run("reconstruct", shared.picture, "--checkpoint", path, "--size", 48, "--out", tmp_path / "out")
    assert code == 1 and errors.count("\n") == 0 and "NaN or infinity" in errors
    assert everything_below(tmp_path / "out") == []


def test_a_full_disk_leaves_nothing_of_the_face(run, shared, tmp_path, full_disk):
    """The NPZ fits under the limit, the OBJ does not: neither appears."""
    options = ["--model", shared.model, "--size", 48, "--out", tmp_path]
    full_disk(200_000)
    code, _, errors = run("reconstruct", shared.picture, *options)
    assert code == 1 and errors.count("\n") == 0
    assert "File too large; make room or choose another folder" in errors and str(tmp_path / "face.") in errors
    assert everything_below(tmp_path) == []


def with_a_crowded_edge(shared: Shared, folder: pathlib.Path) -> pathlib.Path:
    """The model with one triangle more, at an edge that has two already."""
    model = load(shared.model)
    first, second = model.triangles[1000, :2].tolist()
    extra = torch.tensor([[first, second, int(model.triangles[50, 0])]], dtype=torch.int32)
    dataclasses.replace(model, triangles=torch.cat([model.triangles, extra])).save(folder / "crowded.npz")
    return folder / "crowded.npz"


def test_non_manifold_edges_work_with_a_warning(run, shared, tmp_path):
    path = with_a_crowded_edge(shared, tmp_path)
    for command in (
        ["reconstruct", shared.picture, "--model", path, "--size", 48, "--out", tmp_path / "out"],
        ["train", "--config", shared.settings, "--model.morphable", path, "--run.out", tmp_path / "run"],
    ):
        with pytest.warns(UserWarning, match="1 non-manifold edges"):
            assert run(*command)[0] == 0
    assert "face.glb" in everything_below(tmp_path / "out")
