"""`facecore compare`: the table's numbers are those of the systems, whatever size each of them sees."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import pytest
import torch
from tiny_regression import write_recognition
from tiny_weak import write_recogniser

from facecore.cli import main
from facecore.data import LabelledRenders, PersonRenders
from facecore.evaluation.held_out import Baseline, evaluate_held_out
from facecore.perception import load_identity_network
from facecore.systems import load
from facecore.systems.comparison import errors_of, identity_auc, network_view, tone_groups
from facecore.training.checkpoint import Checkpoint

COMMON = ["--model.num-vertices", "2500", "--run.validation-size", "4", "--data.labelled-batch", "4"]
TRAININGS = {
    "semi": [
        *("--preset", "quick", "--data.no-unlabelled", "--model.image-size", "32", "--model.surface-points", "0"),
        *("--model.point-features", "0", "--model.shape-channels", "8", "8", "8", "--model.factors", "4", "4"),
        *("--model.albedo-channels", "8", "8", "8", "--model.critic-channels", "8", "8"),
        *("--stages.decoder-iterations", "1", "--stages.encoder-iterations", "1", "--stages.head-renders", "0"),
        *("--stages.hybrid-iterations", "0"),
    ],
    "joint": [
        *("--system", "joint-recognition", "--model.encoder", "sphereface", "--model.width", "0.0625"),
        *("--stages.head-renders", "0", "--stages.encoder-iterations", "1"),
        *("--stages.joint-iterations", "0", "--stages.final-iterations", "0", "--world.persons", "5"),
        *("--world.pictures", "3"),
    ],
    "weak": [
        *("--system", "weakly-supervised", "--preset", "quick", "--model.image-size", "32"),
        *("--model.surface-points", "0", "--model.point-features", "0", "--stages.encoder-iterations", "1"),
        *("--stages.head-renders", "0", "--stages.weak-iterations", "0", "--stages.confidence-iterations", "0"),
    ],
    "conditional": [
        *("--system", "conditional-estimation", "--model.width", "0.0625", "--model.image-size", "32"),
        *("--model.texture-size", "32", "--stages.warmup-iterations", "1", "--stages.iterations", "0"),
        *("--stages.head-renders", "8", "--model.surface-points", "68", "--model.point-features", "1"),
    ],
    "regression": [
        *("--system", "unsupervised-regression", "--model.image-size", "64", "--model.width", "16"),
        *("--stages.synthetic-iterations", "1", "--stages.mixed-iterations", "0", "--stages.pool", "0"),
    ],
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, pathlib.Path]:
    """All five systems, which have learned nothing."""
    root = tmp_path_factory.mktemp("runs")
    features = write_recognition(tmp_path_factory.mktemp("features"), seed=1)
    for name, options in TRAININGS.items():
        options = [*options, *(("--model.recognition", str(features)) if name == "regression" else ())]
        assert main.main(["train", *options, *COMMON, "--run.out", str(root / name)]) == 0
    return {name: root / name / "model.safetensors" for name in TRAININGS}


@pytest.fixture(scope="module")
def recognition(tmp_path_factory) -> pathlib.Path:
    return write_recogniser(tmp_path_factory.mktemp("net"))


def test_command(checkpoints, recognition, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--count", "3", "--shown", "1", "--persons", "4", "--size", "48", "--out", str(out)]
    paths = [str(path) for path in checkpoints.values()]
    assert main.main(["compare", *paths, "--recognition", str(recognition), *options]) == 0
    assert "trained on renders" in capsys.readouterr().out
    results = json.loads((out / "results.json").read_text())
    rows = {row["system"]: row for row in results["summary"]}
    systems = ["semi-supervised", "joint-recognition", "weakly-supervised"]
    assert list(rows) == ["mean face", *systems, "conditional-estimation", "unsupervised-regression"]
    for name, checkpoint in zip(list(rows)[1:], checkpoints.values()):
        row = rows[name]
        assert row["parameters"] == sum(p.numel() for p in load(checkpoint).parameters())
        assert row["ms"] > 0 and 0 <= row["identity_AUC"] <= 100
        thirds = [row[f"identity_shape_{tone}_mm"] for tone in ("dark", "medium", "light")]
        assert sum(thirds) / 3 == pytest.approx(row["identity_shape_mm"], rel=1e-5)  # of one render each
    # a system that has learned nothing of shape says the mean face: its head starts at 0, one step hardly moves it
    assert rows["weakly-supervised"]["identity_shape_mm"] == pytest.approx(
        rows["mean face"]["identity_shape_mm"], rel=0.2
    )
    # what was fitted to the truth is not counted
    assert rows["joint-recognition"]["landmark_NME_percent"] is None and rows["joint-recognition"]["pixels"] is None
    assert rows["weakly-supervised"]["landmark_NME_percent"] > 0 and rows["semi-supervised"]["pixels"] > 0
    regression = rows["unsupervised-regression"]
    assert regression["shape_mm"] is None and regression["pixels"] is None  # its expression is fitted, too
    assert rows["joint-recognition"]["shape_mm"] > 0 and regression["identity_shape_mm"] > 0
    assert rows["conditional-estimation"]["pixels"] > 0 and rows["conditional-estimation"]["landmark_NME_percent"] > 0
    notes = " ".join(results["notes"])
    assert "joint-recognition, unsupervised-regression: pose, light" in notes
    assert "unsupervised-regression: its recognition network was trained on renders alone" in notes
    assert "<h1>facecore compare</h1>" in (out / "index.html").read_text()
    assert len(results["rows"]) == 15 and "render 0" in (out / "index.html").read_text()


def test_errors_are_those_of_the_held_out_protocol(checkpoints):
    """At the system's own size, for one that estimates pose and light."""
    system = load(checkpoints["weak"])
    model = system.morphable
    renders = LabelledRenders(model, 32, 32, seed=9)
    baseline = Baseline.of(model, LabelledRenders(model, 32, 32, seed=10))
    errors = errors_of(system, renders, baseline, 3)
    expected = evaluate_held_out(system.reconstruct, model, renders, baseline, 3)
    for name in ("shape_mm", "neutral_mm", "albedo", "shading", "landmark_percent"):
        assert float(errors[name].mean()) == pytest.approx(expected[name], rel=1e-4)
    with pytest.raises(ValueError, match="at least 1 render"):
        errors_of(system, renders, baseline, 0)


def test_tones_are_thirds():
    groups = tone_groups(torch.tensor([0.9, 0.1, 0.5, 0.2, 0.8, 0.6]))
    assert {name: sorted(index.tolist()) for name, index in groups.items()} == {
        "dark": [1, 3],
        "medium": [2, 5],
        "light": [0, 4],
    }


def test_views_of_a_person_without_its_picture_are_one(checkpoints, recognition):
    """Pose, light and expression of the picture are not in what the evaluation network sees."""
    system, network = load(checkpoints["weak"]), load_identity_network(recognition)
    face = system.reconstruct(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    other = dataclasses.replace(face, sh_coefficients=2 * face.sh_coefficients, vertices=face.vertices + 5.0)
    torch.testing.assert_close(network_view(face, network), network_view(other, network))
    persons = PersonRenders(system.morphable, 32, 32, 3, pictures=2)
    assert 0 <= identity_auc(system, persons, 4, network) <= 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "2"], "--count must be at least 3"),  # one for each third of the tones
        (["--persons", "3"], "--persons must be at least 4"),
        (["--count", "4", "--shown", "5"], "--shown must be at most"),
        (["--seed", "0"], "its faces are not held out"),
        (["--recognition", "/nowhere"], "--recognition /nowhere: no such file"),
    ],
)
def test_bad_usage_is_one_line(checkpoints, tmp_path, capsys, arguments, message):
    command = ["compare", str(checkpoints["weak"]), "--out", str(tmp_path / "out"), *arguments]
    assert main.main(command) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1 and not (tmp_path / "out").exists()


def test_systems_of_other_faces_are_refused(checkpoints, tmp_path, capsys):
    other = [*TRAININGS["weak"], *COMMON, "--model.num-vertices", "3000", "--run.out", str(tmp_path / "run")]
    assert main.main(["train", *other]) == 0
    paths = [str(checkpoints["weak"]), str(tmp_path / "run" / "model.safetensors")]
    assert main.main(["compare", *paths, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "was trained with other faces (procedural, 3000 vertices) than" in error and "(procedural, 2500 v" in error


def test_a_morphable_model_that_is_gone_is_asked_for_by_the_option_that_there_is(checkpoints, tmp_path, capsys):
    checkpoint = Checkpoint.load(checkpoints["weak"], ("model", "assets"))
    checkpoint.plain["config"]["model"]["morphable"] = "/nowhere"
    checkpoint.save(tmp_path / "moved.safetensors")
    assert main.main(["compare", str(tmp_path / "moved.safetensors"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "--model: the morphable model of the training, /nowhere, is not there" in error
    assert "--model.morphable" not in error and not (tmp_path / "out").exists()


def test_no_network_judges_a_training_that_used_it(recognition, tmp_path, capsys):
    options = [*TRAININGS["weak"], *COMMON, "--weights.perception", "0.2", "--model.recognition", str(recognition)]
    options += ["--stages.weak-iterations", "1", "--data.photo-batch", "2", "--run.out", str(tmp_path / "run")]
    assert main.main(["train", *options]) == 0
    checkpoint = str(tmp_path / "run" / "model.safetensors")
    assert "renders alone" in load(checkpoint).caution  # and so do the rows of the training
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows and all(row["recognition_trained_on"] == "renders" for row in rows)
    command = ["compare", checkpoint, "--recognition", str(recognition), "--out", str(tmp_path / "out")]
    assert main.main(command) == 2
    assert (
        "is a network that the system was trained with" in capsys.readouterr().err and not (tmp_path / "out").exists()
    )
