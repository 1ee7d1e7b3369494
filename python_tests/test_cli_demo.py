"""`facecore demo`: from nothing to a face."""

from __future__ import annotations

import shutil

import pytest
from cli_runs import SETTINGS, everything_below

from facecore.cli import demo
from facecore.systems.semi_supervised_config import PRESETS
from facecore.training.checkpoint import Checkpoint
from facecore.training.config import overlay
from facecore.training.loop import Interrupted, NotFinite


@pytest.fixture
def quick_demo(monkeypatch):
    monkeypatch.setitem(PRESETS, "quick", overlay(PRESETS["quick"], SETTINGS))
    monkeypatch.setattr(demo, "REFINEMENT_STEPS", 3)
    monkeypatch.setattr(demo, "SIZE", 48)


def test_demo(run, shared, tmp_path, quick_demo):
    out = tmp_path / "out"
    code, text, _ = run("demo", "--out", out, "--picture", shared.picture)
    assert code == 0 and "index.html" in text
    kept = ["face.glb", "face.npz", "face.obj", "face_overlay.png", "index.html", "model.safetensors"]
    assert everything_below(out) == kept, "the training folder is gone"
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "held-out render 4" in page and "mean face" in page
    assert f"Configuration {Checkpoint.load(out / 'model.safetensors').plain['config_hash']}, seed 0." in page
    again = ["reconstruct", shared.picture, "--checkpoint", out / "model.safetensors", "--size", 48]
    assert run(*again, "--out", tmp_path / "again")[0] == 0


def test_demo_has_a_portrait_of_its_own(run, tmp_path, quick_demo):
    pytest.importorskip("skimage", reason="the portrait comes with scikit-image (facecore[demo])")
    code, _, _ = run("demo", "--out", tmp_path / "out")
    assert code == 0 and "portrait.glb" in everything_below(tmp_path / "out")
    assert "Eileen Collins" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            Interrupted("stopped by SIGINT after 3 iterations", "go on with --run.resume"),
            "after 3 iterations; the demo",
        ),
        (NotFinite("the loss 'total' is nan", "lower the rate"), "the loss 'total' is nan; run the demo again with"),
        (OSError(28, "No space left on device", "events.out"), "cannot write to {out}: No space left on device; make"),
    ],
)
def test_a_demo_that_stops_names_remedies_of_its_own(run, shared, tmp_path, quick_demo, monkeypatch, error, message):
    def stop(*_):
        raise error

    monkeypatch.setattr("facecore.training.loop.train", stop)
    code, _, errors = run("demo", "--out", tmp_path / "out", "--picture", shared.picture)
    assert code == 1 and message.format(out=tmp_path / "out") in errors and "--run" not in errors
    assert everything_below(tmp_path / "out") == []


def test_a_demo_on_a_full_disk_names_its_folder(run, shared, tmp_path, quick_demo, full_disk):
    full_disk(1_000_000)
    code, _, errors = run("demo", "--out", tmp_path / "out", "--picture", shared.picture)
    assert code == 1 and f"the demo cannot write to {tmp_path / 'out'}: " in errors and "--run" not in errors
    assert "choose another folder by --out" in errors and everything_below(tmp_path / "out") == []


BAD_DEMOS = {
    "no such picture": (["--picture", "none.png"], 2, "none.png: no such file"),
    "landmarks alone": (["--landmarks", "{points}"], 2, "--landmarks belong to --picture; give both"),
    "out is a file": (["--out", "{points}"], 2, "--out {points} is a file; give a folder"),
    "no landmarks": (["--picture", "{lonely}"], 1, "{lonely}: no landmarks; put lonely.pts beside it or give"),
    "not landmarks": (["--picture", "{lonely}", "--landmarks", "{lonely}"], 1, "{lonely} is not a landmark file"),
    "not a picture": (["--picture", "{points}"], 1, "{points} is not a picture"),
    "points at one place": (["--picture", "{lonely}", "--landmarks", "{same}"], 1, "{lonely}: the landmarks must be"),
}


@pytest.mark.parametrize("case", BAD_DEMOS)
def test_bad_demos_train_and_write_nothing(run, shared, tmp_path, tmp_path_factory, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    names = {"points": shared.picture.with_suffix(".pts"), "lonely": tmp_path / "lonely.png"}
    names["same"] = tmp_path_factory.mktemp("points") / "same.txt"
    names["same"].write_text("9 9\n" * 5)
    shutil.copy(shared.picture, names["lonely"])
    arguments, code, message = BAD_DEMOS[case]
    result = run("demo", *(argument.format(**names) for argument in arguments))
    assert result[:2] == (code, "") and result[2].count("\n") == 0
    assert result[2].startswith("facecore demo: " + message.format(**names))
    assert everything_below(tmp_path) == ["lonely.png"]
