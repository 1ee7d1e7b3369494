"""`facecore fit`: its files agree with each other and with the person; what it refuses, it says."""

from __future__ import annotations

import pathlib
import shutil

import numpy as np
import pytest
import torch
from cli_runs import call
from tiny_faces import write_points, write_portraits

from facecore.data import write_png
from facecore.mesh import load_mesh
from facecore.morphable import load as load_model
from facecore.morphable.io import save_model

NAMES = ["a", "b", "c"]
VERTICES = 2500


@pytest.fixture(scope="module")
def person(tmp_path_factory) -> tuple[pathlib.Path, pathlib.Path, torch.Tensor]:
    """A folder of three photographs of one person, the model's file, and the person's identity."""
    folder = tmp_path_factory.mktemp("fit")
    morphable = load_model("procedural", num_vertices=VERTICES)
    save_model(morphable, folder / "model.npz")
    identity = write_portraits(folder / "person", morphable, NAMES, one_person=True)
    return folder / "person", folder / "model.npz", identity[0]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Pictures of the page are drawn small: most of the time would go there."""
    monkeypatch.setattr("facecore.evaluation.report.PANEL", 40)


@pytest.fixture
def run(capsys, tmp_path, person):
    """Runs `facecore fit` into tmp_path/out: exit code, output, errors, files."""

    def run(*arguments: object) -> tuple[int, str, str, set[str]]:
        out = tmp_path / "out"
        options = ["--model", person[1], "--out", out, "--detector", "none", "--size", 64]
        code, text, errors = call(capsys, "fit", *options, *arguments)
        return code, text, errors, {path.name for path in out.rglob("*") if path.is_file()}

    return run


def test_one_identity_of_three_photographs(run, person, tmp_path):
    folder, model_file, identity = person
    code, output, errors, files = run(folder)
    assert (code, errors) == (0, "") and "1 identity of 3 photographs" in output
    each = {f"{name}{end}" for name in NAMES for end in (".glb", ".obj", ".npz", "_overlay.png")}
    assert files == each | {"identity.glb", "identity.obj", "fit.npz", "index.html"}
    model = load_model(model_file)
    fit = np.load(tmp_path / "out" / "fit.npz", allow_pickle=False)
    assert list(fit["photographs"]) == NAMES
    coefficients = torch.from_numpy(fit["identity"])
    shape = model.shape(coefficients[None])[0].numpy()
    np.testing.assert_array_equal(fit["neutral_vertices"], shape)
    # an OBJ has as many digits as float32
    np.testing.assert_allclose(load_mesh(tmp_path / "out" / "identity.obj").vertices.numpy(), shape, atol=1e-3)
    std, mean = model.prior.identity_std, model.prior.identity_mean
    error, own = (((c - identity) / std).norm() for c in (coefficients, mean))
    assert float(error) < float(own)  # nearer to the person than the mean face is
    for number, name in enumerate(NAMES):
        face = np.load(tmp_path / "out" / f"{name}.npz", allow_pickle=False)
        np.testing.assert_allclose(face["neutral_vertices"], shape, atol=1e-4)  # one product or a batch of them
        assert list(face["code_names"]) == ["identity", "expression", "albedo"]
        codes = np.split(face["codes"], np.cumsum(face["code_sizes"])[:-1])
        np.testing.assert_allclose(codes[1], fit["expression"][number], atol=1e-5)
        np.testing.assert_allclose(face["pose"], fit["pose"][number], atol=1e-6)
        points = np.loadtxt((folder / f"{name}.pts").read_text().splitlines()[3:-1]) - 0.5
        box = (points.max(0) - points.min(0)).mean()
        distance = np.linalg.norm(face["landmarks_2d"] - points, axis=1)
        assert np.sqrt((distance**2).mean()) / box == pytest.approx(fit["residual"][number], rel=0.01)
    page = (tmp_path / "out" / "index.html").read_text()
    assert all(name in page for name in NAMES) and "RMS distance" in page


@pytest.mark.parametrize("name", ["identity", "fit"])
def test_a_photograph_named_like_the_result_overwrites_nothing(run, person, tmp_path, name):
    folder = tmp_path / "person"
    shutil.copytree(person[0], folder)
    for end in (".png", ".pts"):
        (folder / f"a{end}").rename(folder / f"{name}{end}")
    code, _, _, files = run(folder)
    assert code == 0 and {"identity.glb", "fit.npz", f"{name}.png.glb", f"{name}.png.npz", "b.glb"} <= files


def test_refused_photographs_do_not_stop_the_others(run, person, tmp_path):
    folder = tmp_path / "person"
    shutil.copytree(person[0], folder)
    write_png(folder / "nobody.png", torch.rand(3, 96, 96))
    (folder / "torn.png").write_bytes((folder / "a.png").read_bytes()[:500])
    write_points(folder / "torn.pts", torch.rand(68, 2) * 90)
    code, output, errors, files = run(folder)
    assert code == 1 and "1 identity of 3 photographs" in output and "index.html" in files
    assert "nobody.png: no landmarks" in errors and "torn.png" in errors and "Traceback" not in errors


def test_one_photograph(run, person):
    code, output, _, files = run(person[0] / "b.png")
    assert code == 0 and "1 identity of 1 photographs" in output and "b_overlay.png" in files


def test_five_points_are_not_enough(run, person, tmp_path):
    folder = tmp_path / "person"
    folder.mkdir()
    shutil.copy(person[0] / "a.png", folder / "a.png")
    (folder / "a.txt").write_text("30 40\n60 40\n45 55\n35 70\n55 70\n")
    code, _, errors, files = run(folder)
    assert code == 1 and "needs 68 landmarks" in errors and not files


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ridge", -1], "--ridge must be at least 0"),
        (["--ridge", "nan"], "--ridge must be at least 0"),
        (["--iterations", 0], "--iterations must be at least 1"),
        (["--landmarks", "/nowhere"], "no such file or folder"),
        (["--detector", "/nowhere"], "--detector /nowhere"),
    ],
)
def test_bad_usage_is_one_line(run, person, arguments, message):
    code, _, errors, files = run(person[0], *arguments)
    assert code == 2 and message in errors and len(errors.splitlines()) == 1 and not files


def test_an_empty_folder_is_bad_usage(run, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, errors, files = run(tmp_path / "empty")
    assert code == 2 and "no pictures" in errors and not files
