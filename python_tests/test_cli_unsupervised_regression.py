"""Commands of system 4: train, evaluate held-out and recognisability, reconstruct; what they refuse."""

from __future__ import annotations

import json
import pathlib

import pytest
import torch
from tiny_faces import write_portraits
from tiny_regression import config, write_recognition

from facecore.cli import main
from facecore.cli.errors import UsageError
from facecore.cli.train_unsupervised_regression import COMMAND
from facecore.evaluation.claims_regression import drift_by_blur, drift_by_occlusion, drift_by_yaw
from facecore.morphable import load as load_model
from facecore.perception.manifest import RENDERS
from facecore.systems import unsupervised_regression_ablation
from facecore.systems.unsupervised_regression_config import PRESETS
from facecore.systems.unsupervised_regression_training import UnsupervisedRegressionTrainer
from facecore.training.ablation import read_rows
from facecore.training.config import config_hash, overlay, to_plain


@pytest.fixture(scope="module")
def morphable():
    return load_model("procedural", num_vertices=2500)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> pathlib.Path:
    return write_recognition(tmp_path_factory.mktemp("recognition"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory, morphable) -> pathlib.Path:
    """Two persons, two photographs of each."""
    root = tmp_path_factory.mktemp("photos")
    for name in ("ann", "bob"):
        write_portraits(root / name, morphable, ["1", "2"], size=96, one_person=True)
    return root


OPTIONS = [
    *("--system", "unsupervised-regression", "--model.num-vertices", "2500", "--model.image-size", "64"),
    *("--model.width", "16", "--stages.synthetic-iterations", "2", "--stages.mixed-iterations", "1"),
    *("--stages.pool", "0", "--data.labelled-batch", "4", "--data.photo-batch", "4", "--run.validation-size", "4"),
]


def test_commands(tmp_path, capsys, manifest, photos):
    """Trained on photographs, measured, and a photograph's face reconstructed; what the network has seen is said."""
    out = tmp_path / "run"
    train = ["train", *OPTIONS, "--model.recognition", str(manifest), "--data.photos", str(photos)]
    assert main.main([*train, "--run.out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "4 photographs" in printed and "renders alone" in printed and "shape_variance" in printed
    row = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert row["iteration"] == 3 and row["recognition_trained_on"] == RENDERS
    checkpoint = out / "model.safetensors"
    held_out = ["evaluate", "held-out", "--checkpoint", str(checkpoint), "--count", "4", "--out", str(tmp_path / "e")]
    assert main.main(held_out) == 0
    results = json.loads((tmp_path / "e" / "results.json").read_text())
    assert "renders alone" in results["settings"]["caution"]
    neutral = next(entry for entry in results["summary"] if entry["measure"] == "identity shape, mm")
    assert neutral["error"] == pytest.approx(row["neutral_mm"], rel=1e-4)  # the same renders, their landmarks given
    capsys.readouterr()
    faces = ["reconstruct", str(photos / "ann" / "1.png"), "--checkpoint", str(checkpoint), "--detector", "none"]
    assert main.main([*faces, "--out", str(tmp_path / "f")]) == 0
    assert "renders alone" in capsys.readouterr().out and (tmp_path / "f" / "1.glb").is_file()
    pictures = [str(photos / "ann" / f"{k}.png") for k in (1, 2)]
    joined = ["reconstruct", *pictures, "--average", "--checkpoint", str(checkpoint), "--detector", "none"]
    assert main.main([*joined, "--out", str(tmp_path / "j")]) == 0
    assert "from the average" in capsys.readouterr().out and (tmp_path / "j" / "average.glb").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.recognition", "absent.json"], "absent.json"),
        (["--stages.synthetic-iterations", "0", "--stages.mixed-iterations", "0"], "must not all be 0"),
        (["--stages.mixed-iterations", "0", "--data.photos", "."], "--data.photos has no effect here"),
        (["--world.persons", "0"], "stage 2 needs --data.photos"),
        (["--data.no-unlabelled"], "stage 2 needs --data.photos"),
        (["--data.photo-batch", "0"], "--data.photo-batch must be at least 1"),
        (["--stages.views", "0"], "--stages.views must be at least 1"),
        (["--stages.frontal"], "--stages.frontal needs --stages.views 1"),
        (["--stages.frontal", "--stages.views", "1", "--weights.identity", "0"], "--stages.frontal has no effect here"),
        (["--weights.loop", "-1"], "--weights.loop must be at least 0"),
        (["--weights.identity", "inf"], "--weights.identity must be at least 0 and finite"),
        (["--weights.shape", "0", "--weights.texture", "0"], "--weights: shape, texture must not all be 0"),
        (
            [
                *("--stages.synthetic-iterations", "0", "--weights.shape", "0", "--weights.texture", "0"),
                *("--weights.identity", "0", "--weights.batch", "0"),
            ],
            "--weights: shape, texture, identity, batch must not all be 0",
        ),
        (["--data.labelled", "."], "--data.labelled has no effect here"),
    ],
)
def test_bad_usage_is_one_line(tmp_path, capsys, manifest, arguments, message):
    given = ["--model.recognition", str(manifest), "--run.out", str(tmp_path / "run")]
    code = main.main(["train", *OPTIONS, *given, *arguments])
    captured = capsys.readouterr()
    assert code == 2 and message in captured.err and len(captured.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_photographs_that_processes_cannot_share_are_refused_before_anything_is_loaded():
    """Also where renders stand for them."""
    config = overlay(PRESETS["quick"], {"data": {"labelled_batch": 4, "photo_batch": 3}})
    assert config.data.photos is None
    COMMAND.check_shares(config, 1)
    with pytest.raises(UsageError, match=r"--data.photo-batch must be a multiple of the 2 processes, got 3"):
        COMMAND.check_shares(config, 2)
    COMMAND.check_shares(overlay(config, {"stages": {"mixed_iterations": 0}}), 2)


def test_the_network_must_be_named(tmp_path, capsys):
    assert main.main(["train", *OPTIONS, "--run.out", str(tmp_path / "run")]) == 2
    assert "--model.recognition: give the manifest" in capsys.readouterr().err


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, manifest, morphable) -> pathlib.Path:
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    UnsupervisedRegressionTrainer(config(manifest), morphable, None).checkpoint(0, resumable=False).save(path)
    return path


def test_recognisability(tmp_path, capsys, photos, checkpoint):
    judge = write_recognition(tmp_path / "judge", seed=3)
    (photos / "bob" / "faceless.png").write_bytes((photos / "bob" / "1.png").read_bytes())
    command = ["evaluate", "recognisability", str(photos), "--checkpoint", str(checkpoint), "--network", str(judge)]
    options = ["--largest-missing", "0.3", "--out", str(tmp_path / "out")]
    assert main.main([*command, *options]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    (summary,) = results["summary"]
    assert summary["photographs"] == 4 and results["total"] == 5 and len(results["skipped"]) == 1
    assert 0 <= summary["recall_1"] <= summary["recall_5"] == 100  # of four photographs
    assert -1 <= summary["similarity"] <= 1 and summary["emd_same"] >= 0
    assert len(results["rows"]) == 4 and results["settings"]["judge_trained_on"] == RENDERS
    assert "renders alone" in capsys.readouterr().out
    assert main.main([*command, *options, "--identities", "none"]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["summary"][0]["emd_same"] is None  # nobody is known
    assert main.main([*command, "--count", "1"]) == 2


def test_a_system_is_not_judged_by_its_own_network(capsys, photos, checkpoint, manifest):
    command = ["evaluate", "recognisability", str(photos), "--checkpoint", str(checkpoint), "--network", str(manifest)]
    assert main.main(command) == 2
    assert "--network: " in (said := capsys.readouterr().err) and "the system was trained with" in said


def test_steadiness_is_of_what_its_names_say(manifest, morphable):
    """Claim 16: each measure is that of its own corruption."""
    trainer = UnsupervisedRegressionTrainer(config(manifest), morphable, None)
    seen = trainer.unseen.faces(torch.arange(3))

    def encode(images, landmarks):
        return torch.cat(trainer.system.encode(images, landmarks), 1)

    rows = {
        "blurred": drift_by_blur(encode, seen.image, seen.landmarks, (2.0,)),
        "covered": drift_by_occlusion(encode, seen.image, seen.landmarks, (0.3,)),
        "turned": drift_by_yaw(encode, trainer.unseen, 3, (45.0,)),
        "far_turned": drift_by_yaw(encode, trainer.unseen, 3, (90.0,)),
    }
    expected = {name: found[0]["of_persons"] for name, found in rows.items()}
    assert unsupervised_regression_ablation.steadiness(trainer, 3) == pytest.approx(expected)
    assert len(set(expected.values())) == 4 and min(expected.values()) > 0


def test_ablation(tmp_path, capsys, manifest):
    """Claims 15 and 16: variants branch from one warm-up of stage 1, and have the measures that are compared."""
    (tmp_path / "settings.yaml").write_text(json.dumps(to_plain(config(manifest))))
    command = ["ablate", "--system", "unsupervised-regression", "--out", str(tmp_path / "out"), "--seeds", "0"]
    command += ["--config", str(tmp_path / "settings.yaml"), "--variants", "all", "one frontal view"]
    assert main.main(command) == 0
    rows = read_rows(tmp_path / "out" / "rows.jsonl")
    assert [row.variant for row in rows] == ["all", "one frontal view"] and rows[0].measures != rows[1].measures
    experiment = unsupervised_regression_ablation.ablation(PRESETS["ablation"])
    compared = {name for part in experiment.comparisons for name in (part.measure, part.worse_measure)}
    assert compared <= set(rows[0].measures)
    plain = [overlay(PRESETS["ablation"], dict(part)) for part in (experiment.warmup, *experiment.variants.values())]
    assert plain[0].stages.mixed_iterations == 0 and len({config_hash(part) for part in plain}) == len(plain)
    assert "claim 15: open" in capsys.readouterr().out  # one seed says nothing
