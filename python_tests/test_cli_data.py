"""`facecore data`, and `facecore reconstruct` on pictures without landmarks."""

from __future__ import annotations

import importlib.metadata
import json
import pathlib

import numpy as np
import pytest
import torch
from cli_runs import call
from dataset_files import write_celeba
from toy_perception import landmarks_of, picture, write_manifest, write_toy_manifests

from facecore.data import write_png
from facecore.morphable import load


@pytest.fixture
def run(capsys):
    """As of every test, without the bar of the pictures."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code, text, errors = call(capsys, *arguments)
        return code, text, "\n".join(line for line in errors.splitlines() if "picture/s" not in line)

    return run


@pytest.fixture
def networks(tmp_path) -> list[object]:
    """Options that name the toy networks."""
    folder = tmp_path / "networks"
    folder.mkdir()
    paths = write_toy_manifests(folder)
    return ["--detector", paths["detector"], "--landmark-network", paths["landmarks"]]


@pytest.fixture
def photographs(tmp_path) -> pathlib.Path:
    root = tmp_path / "in"
    (root / "anna").mkdir(parents=True)
    write_png(root / "anna" / "one.png", picture(120, 220, (30, 40, 60)))
    write_png(root / "anna" / "two.png", picture(120, 220, (20, 30, 80), (150, 60, 40)))
    return root


@pytest.fixture
def no_mediapipe(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("model") / "model.npz"
    load("procedural", num_vertices=2500).save(path)
    return path


def test_check_reads_a_data_set_as_training_does(run, tmp_path):
    write_celeba(tmp_path / "celeba")
    code, text, _ = run("data", "check", tmp_path / "celeba", "--dataset", "celeba", "--size", 32)
    assert code == 0 and "8 faces in 8 pictures, of 6 persons" in text
    code, _, errors = run("data", "check", tmp_path / "celeba", "--size", 32)
    assert code == 1 and "no usable photograph" in errors, "a folder of pictures without landmarks"


def test_prepare_and_check(run, photographs, networks, tmp_path):
    out = tmp_path / "out"
    arguments = ["data", "prepare", photographs, "--out", out, "--size", 64, *networks]
    code, text, errors = run(*arguments)
    assert (code, errors) == (0, "")
    assert text.splitlines() == [
        f"2 faces in 2 pictures (0 were done before): {out / 'index.html'}",
        "1 pictures show several faces, took the largest; --faces all takes all",
        f"to train: facecore train --data.photos {out / 'photos'} --data.masks {out / 'masks'} "
        f"--data.identities {out / 'identities.csv'}",
    ]
    names = {path.name for path in out.iterdir()}
    assert names == {
        *("photos", "masks", "records", "sheets", "settings.json", "identities.csv", "manifest.json", "index.html")
    }
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["pictures"], manifest["faces"], manifest["identities"]) == (2, 2, 1)
    assert "(2 were done before)" in run(*arguments)[1]
    code, text, errors = run("data", "check", out / "photos", "--masks", out / "masks", "--size", 64)
    assert (code, errors) == (0, "") and text == f"{out / 'photos'}: 2 faces in 2 pictures, of 1 persons\n"


def test_a_picture_without_a_face_is_one_line(run, photographs, networks, tmp_path):
    write_png(photographs / "empty.png", picture(60, 60))
    (photographs / "half.jpg").write_bytes(b"\xff\xd8\xff")
    code, text, errors = run("data", "prepare", photographs, "--out", tmp_path / "out", "--size", 64, *networks)
    assert code == 1 and "2 faces in 4 pictures" in text
    first, second = errors.splitlines()
    assert first == f"facecore data: skipped {photographs / 'empty.png'}: no face found"
    assert second.startswith(f"facecore data: skipped {photographs / 'half.jpg'}: ")


def test_many_refusals_are_counted(run, networks, tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(23):
        write_png(tmp_path / "in" / f"{i}.png", picture(16, 16))
    code, text, errors = run("data", "prepare", tmp_path / "in", "--out", tmp_path / "out", *networks)
    assert code == 1 and "0 faces in 23 pictures" in text and "to train" not in text
    assert len(errors.splitlines()) == 21 and errors.endswith(
        f"skipped 3 more; {tmp_path / 'out/index.html'} lists all"
    )


BAD = {
    "nothing said": ([], 2, "prepare, check"),
    "no folder": (["prepare"], 2, "FOLDER"),
    "no such folder": (["prepare", "{tmp}/none"], 2, "{tmp}/none: no such file or folder"),
    "a file": (["prepare", "{photographs}/anna/one.png"], 2, "is a file; give a folder of photographs"),
    "size": (["prepare", "{photographs}", "--size", "4"], 2, "--size must lie in [64, 4096], got 4"),
    "min face": (["prepare", "{photographs}", "--min-face", "nan"], 2, "--min-face must be at least 24, got nan"),
    "no such manifest": (["prepare", "{photographs}", "--detector", "x.json"], 2, "x.json: no such file or folder"),
    "no landmark network": (
        ["prepare", "{photographs}", "--landmark-network", "none"],
        2,
        "--landmark-network none: no such file or folder; give a manifest, or 'mediapipe'",
    ),
    "manifest of another role": (
        ["prepare", "{photographs}", "--detector", "{landmarks}", "--landmark-network", "{landmarks}"],
        1,
        "{landmarks} describes a network for landmarks; one for detector is needed here",
    ),
    "segmentation of another role": (
        ["prepare", "{photographs}", "--segmentation", "{landmarks}"],
        1,
        "{landmarks} describes a network for landmarks; one for segmentation is needed here",
    ),
    "check": (["check", "{tmp}/none"], 2, "FOLDER {tmp}/none: no such file or folder"),
    "check a file": (["check", "{landmarks}"], 2, "FOLDER {landmarks} is a file; give a folder"),
    "check without masks": (["check", "{tmp}", "--masks", "x"], 2, "--masks x: no such file or folder"),
    "check without landmarks": (["check", "{tmp}", "--landmarks", "x"], 2, "--landmarks x: no such file or folder"),
    "check without persons": (["check", "{tmp}", "--identities", "x"], 2, "--identities x: no such file or folder"),
    "landmarks of one's own": (
        ["check", "{tmp}", "--dataset", "celeba", "--landmarks", "{landmarks}"],
        2,
        "--landmarks: celeba brings its own landmarks; leave it out",
    ),
    "persons of one's own": (
        ["check", "{tmp}", "--dataset", "aflw2000", "--identities", "none"],
        2,
        "--identities: aflw2000 brings its own identities; leave it out",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_usage(run, photographs, networks, tmp_path, case):
    arguments, code, message = BAD[case]
    names = {"tmp": tmp_path, "photographs": photographs, "landmarks": networks[3]}
    out = ["--out", tmp_path / "out"] if "prepare" in arguments else []
    result = run("data", *(argument.format(**names) for argument in arguments), *out)
    assert result[:2] == (code, "") and message.format(**names) in result[2] and result[2].count("\n") == 0
    assert not (tmp_path / "out").exists()


# ---- reconstruct


def test_reconstruct_finds_the_largest_face_or_all(run, photographs, networks, model, tmp_path):
    options = ["--model", model, "--size", 48, "--cache", tmp_path / "cache", *networks]
    code, text, errors = run("reconstruct", photographs, *options, "--out", tmp_path / "a")
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == 2
    assert (code, errors) == (0, "")
    assert f"{photographs / 'anna/two.png'}: 2 faces, took the largest; --faces all takes all" in text
    assert {path.stem for path in (tmp_path / "a").glob("*.glb")} == {"one", "two"}
    found = np.load(tmp_path / "a" / "two.npz")["landmarks_2d"]
    assert np.abs(found.mean(0) - landmarks_of((20, 30, 80)).numpy().mean(0)).max() < 10  # on the larger square
    code, text, _ = run("reconstruct", photographs, *options, "--faces", "all", "--out", tmp_path / "b")
    assert code == 0 and "took the largest" not in text
    assert {path.stem for path in (tmp_path / "b").glob("*.glb")} == {"one", "two", "two-2"}


def test_reconstruct_goes_on_after_a_picture_without_a_face(run, photographs, networks, model, tmp_path):
    write_png(photographs / "empty.png", picture(60, 60))
    options = ["--model", model, "--size", 48, "--out", tmp_path / "out", *networks]
    code, text, errors = run("reconstruct", photographs, *options)
    assert code == 1 and "2 faces: " in text
    assert errors == (
        f"facecore reconstruct: refused {photographs / 'empty.png'}: no face found; give --landmarks, or "
        "--assume-cropped if it shows a face alone"
    )


def test_given_landmarks_come_first(run, photographs, networks, model, tmp_path):
    given = landmarks_of((35, 45, 40))
    (photographs / "anna/one.txt").write_text("\n".join(f"{u - 0.5} {v - 0.5}" for u, v in given.tolist()))
    options = ["--model", model, "--size", 48, *networks]
    spans = []
    for extra in ([], ["--redetect"]):
        out = tmp_path / f"out{len(extra)}"
        assert run("reconstruct", photographs / "anna/one.png", *options, *extra, "--out", out)[0] == 0
        spans.append(float(np.ptp(np.load(out / "one.npz")["landmarks_2d"][:, 0])))
    assert spans[1] / spans[0] == pytest.approx(60 / 40, rel=0.05)  # the square is 60 pixels, the given face 40


def test_masks_by_a_network(run, photographs, networks, model, tmp_path, monkeypatch):
    from facecore.cli import reconstruct

    manifest = write_manifest(
        tmp_path / "s.json", "segmentation", "callable", "toy_perception:segment", crop_factor=1.5
    )
    seen = []
    plain = reconstruct.reconstruct_with_progress

    def look(face, *rest):
        seen.append(face.mask)
        return plain(face, *rest)

    monkeypatch.setattr(reconstruct, "reconstruct_with_progress", look)
    options = ["--model", model, "--size", 48, "--out", tmp_path / "out", *networks, "--segmentation", manifest]
    assert run("reconstruct", photographs / "anna/one.png", *options)[0] == 0
    wanted = torch.zeros(120, 220)
    wanted[40:100, 30:90] = 1
    assert float((seen[0] - wanted).abs().mean()) < 0.02


def test_a_picture_that_is_cropped_has_a_mask_by_a_network_too(run, model, tmp_path, monkeypatch):
    """The picture stands for the crop around a face, so the network sees crop_factor / 1.5 of it: here all."""
    from facecore.cli import reconstruct

    manifest = write_manifest(
        tmp_path / "s.json", "segmentation", "callable", "toy_perception:segment", crop_factor=1.5
    )
    write_png(tmp_path / "cropped.png", picture(96, 96, (24, 40, 30)))
    seen = []
    plain = reconstruct.reconstruct_with_progress
    monkeypatch.setattr(
        reconstruct, "reconstruct_with_progress", lambda face, *rest: seen.append(face.mask) or plain(face, *rest)
    )
    options = ["--model", model, "--size", 48, "--out", tmp_path / "out", "--segmentation", manifest]
    assert run("reconstruct", tmp_path / "cropped.png", "--assume-cropped", *options)[0] == 0
    wanted = torch.zeros(96, 96)
    wanted[40:70, 24:54] = 1
    assert float((seen[0] - wanted).abs().mean()) < 0.02  # of 96 pixels the network sees 64: edges of 1.5 pixels


@pytest.mark.parametrize("detector", ["mediapipe", "none"])
def test_a_manifest_beside_a_built_in_name_is_read_at_once(
    run, photographs, networks, model, tmp_path, no_mediapipe, detector
):
    """A network of one's own is refused where it is named, also where MediaPipe is absent or nothing is detected."""
    options = ["--detector", detector, "--landmark-network", networks[1], "--out", tmp_path / "out"]
    message = f"{networks[1]} describes a network for detector; one for landmarks is needed here"
    for command in (["reconstruct", photographs, "--model", model], ["data", "prepare", photographs]):
        code, _, errors = run(*command, *options)
        assert code == 1 and message in errors and errors.count("\n") == 0
    assert not (tmp_path / "out").exists()


def test_a_fitting_manifest_beside_mediapipe_still_needs_it(run, photographs, networks, tmp_path, no_mediapipe):
    options = ["--landmark-network", networks[3], "--out", tmp_path / "out"]
    code, _, errors = run("data", "prepare", photographs, *options)
    assert code == 1 and "pip install 'facecore[landmarks]'" in errors


def test_without_a_detector_the_refusal_says_what_to_install(run, photographs, model, tmp_path, no_mediapipe):
    options = ["--model", model, "--out", tmp_path / "out"]
    code, out, errors = run("reconstruct", photographs / "anna/one.png", *options)
    assert (code, out) == (1, "") and errors.count("\n") == 0
    assert "no landmarks; put one.pts (68 or 5 points) beside it, give --landmarks" in errors
    assert "MediaPipe is not installed: pip install 'facecore[landmarks]'" in errors
    assert "MediaPipe" not in run("reconstruct", photographs / "anna/one.png", *options, "--detector", "none")[2]
    assert not (tmp_path / "out").exists()
    code, out, errors = run("data", "prepare", photographs, "--out", tmp_path / "prepared")
    assert code == 1 and "0 faces in 2 pictures" in out and "pip install 'facecore[landmarks]'" in errors
