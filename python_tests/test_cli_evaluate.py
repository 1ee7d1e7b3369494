"""`facecore evaluate`: every protocol end to end, what is missing or damaged, exit codes, one-line errors."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from tiny_settings import TINY_MODEL

from facecore.cli.main import main
from facecore.data import write_png
from facecore.mesh import save_obj
from facecore.morphable import MorphableModel, load
from facecore.ops import vertex_normals
from facecore.systems import seeds
from facecore.systems.semi_supervised_config import SemiSupervisedConfig
from facecore.systems.semi_supervised_training import SemiSupervisedTrainer
from facecore.training.config import overlay

Run = Callable[..., tuple[int, dict[str, Any] | None, str]]


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return load("procedural", num_vertices=2500)


@dataclasses.dataclass
class Untrained:
    """A system that has learned nothing: its checkpoint, and what training would say of two held-out renders."""

    checkpoint: pathlib.Path
    validation: dict[str, float]


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory, model: MorphableModel) -> Untrained:
    folder = tmp_path_factory.mktemp("evaluate")
    model.save(folder / "model.npz")  # loads faster than it is built
    settings = {"model": TINY_MODEL | {"morphable": str(folder / "model.npz")}, "run": {"validation_size": 2}}
    trainer = SemiSupervisedTrainer(overlay(SemiSupervisedConfig(), settings), model, None)
    trainer.checkpoint(0, resumable=False).save(folder / "model.safetensors")
    return Untrained(folder / "model.safetensors", trainer.validate())


@pytest.fixture
def checkpoint(untrained: Untrained) -> pathlib.Path:
    return untrained.checkpoint


@pytest.fixture
def run(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `facecore evaluate ... --out out`: exit code, results.json or None, what was printed."""

    def run(*arguments: object) -> tuple[int, dict[str, Any] | None, str]:
        capsys.readouterr()
        code = main(["evaluate", *map(str, arguments), "--out", str(tmp_path / "out")])
        printed = capsys.readouterr()
        written = tmp_path / "out/results.json"
        result = json.loads(written.read_text()) if written.is_file() else None
        if result is not None:
            assert (tmp_path / "out/index.html").is_file()
            assert result["settings"]["largest_missing"] == 0.05 or "--largest-missing" in arguments
        return code, result, printed.out + printed.err

    return run


def write_face(path: pathlib.Path, model: MorphableModel, offset_mm: float = 0.0, **more: object) -> None:
    """The template, moved along its normals; landmarks stay where they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    vertices = model.template + offset_mm * vertex_normals(model.template[None], model.triangles)[0]
    arrays = {
        "vertices": vertices.numpy(),
        "triangles": model.triangles.numpy(),
        "landmarks_3d": model.template[model.landmarks68].numpy(),
        **more,
    }
    np.savez(path, **arrays)  # type: ignore[arg-type]


@pytest.fixture
def faces(tmp_path: pathlib.Path, model: MorphableModel) -> tuple[pathlib.Path, pathlib.Path]:
    """Two people; three predictions, 1 and 3 mm off for ann and exact for bob."""
    for name in ("ann", "bob"):
        write_face(tmp_path / "truth" / f"{name}.npz", model, neutral_vertices=model.template.numpy())
    for name, offset in (("ann/1", 1.0), ("ann/2", 3.0), ("bob/1", 0.0)):
        neutral = model.template.numpy() + np.float32(1.0)
        write_face(tmp_path / "predictions" / f"{name}.npz", model, offset, neutral_vertices=neutral)
    return tmp_path / "predictions", tmp_path / "truth"


def test_point_to_plane_frozen(run, faces):
    code, result, printed = run("point-to-plane", *faces, "--alignment", "none")
    assert code == 0
    errors = {pathlib.Path(row["prediction"]).stem + row["subject"]: row["error_mm"] for row in result["rows"]}
    assert errors["1ann"] == pytest.approx(1, rel=0.05) and errors["1bob"] == pytest.approx(0, abs=1e-5)
    (summary,) = result["summary"]
    ann = (errors["1ann"] + errors["2ann"]) / 2
    assert summary["mean"] == pytest.approx(ann / 2) and summary["subjects"] == 2 and summary["comparisons"] == 3
    assert (
        result["settings"]["settings"]["crop_mm"] == 95 and result["settings"]["settings"]["icp"]["iterations"] == 100
    )
    for said in ("Direction symmetric", "cropped to 95 mm", "averaged per subject", "alignment none"):
        assert said in printed


def test_averaging_shapes_is_not_averaging_errors(run, faces):
    """The mean of 1 and 3 mm is 2 mm off; one comparison per subject."""
    code, result, _ = run("point-to-plane", *faces, "--alignment", "none", "--average-shapes", "--statistic", "rms")
    assert code == 0 and len(result["rows"]) == 2 and result["total"] == 3
    errors = {row["subject"]: row["error_mm"] for row in result["rows"]}
    assert errors["ann"] == pytest.approx(2, rel=0.1) and errors["bob"] == pytest.approx(0, abs=1e-5)


def test_groups_of_a_table(run, faces, tmp_path):
    table = tmp_path / "pairs.csv"
    lines = ["prediction,truth,subject,group", "ann/1,ann,ann,indoor", "ann/2,ann,ann,outdoor", "bob/1,bob,bob,indoor"]
    table.write_text("\n".join(lines))
    code, result, _ = run("rmse", *faces, "--pairs", table)
    assert code == 0 and {row["group"]: row["subjects"] for row in result["summary"]} == {"indoor": 2, "outdoor": 1}
    assert result["summary"][1]["mean"] == pytest.approx(3, rel=1e-3), "landmarks hold it in place: 3 mm everywhere"


def test_correspondence_by_region(run, faces, tmp_path, model):
    mask = np.zeros(model.num_vertices, dtype=bool)
    mask[:100] = True
    np.savez(tmp_path / "regions.npz", top=mask)
    code, result, _ = run("correspondence", *faces, "--alignment", "none", "--regions", tmp_path / "regions.npz")
    assert code == 0
    measures = {row["measure"]: row["mean"] for row in result["summary"]}
    assert list(measures) == ["error_mm", "error top mm", "identity_mm", "identity top mm"]
    assert measures["error_mm"] == pytest.approx((1 + 3) / 2 / 2, rel=1e-4)
    assert measures["identity_mm"] == pytest.approx(3**0.5, rel=1e-4)


def test_predictions_without_a_truth_and_identity_shapes_of_some(run, faces, model):
    write_face(faces[0] / "zoe.npz", model)
    write_face(faces[0] / "bob/1.npz", model)  # without neutral_vertices
    code, result, printed = run("correspondence", *faces)
    assert code == 0 and "1 predictions have no truth of their name and do not count" in printed
    counts = {row["measure"]: row["comparisons"] for row in result["summary"]}
    assert counts == {"error_mm": 3, "identity_mm": 2}


def test_dense_nme(run, faces, tmp_path, model):
    (tmp_path / "region.txt").write_text("\n".join(map(str, range(0, 2500, 50))))
    code, result, _ = run("dense-nme", *faces, "--alignment", "none", "--region", tmp_path / "region.txt")
    points = model.template[model.landmarks68]
    eyes = float((points[36] - points[45]).norm())
    ann = result["rows"][0]
    assert code == 0 and ann["vertices"] == 50 and ann["nme_percent"] == pytest.approx(100 / eyes, rel=0.1)
    assert result["curves"]["dense NME"][-1] == [10.0, 1.0]
    assert "statistic" not in result["settings"]["settings"]  # of point-to-plane alone
    code, _, printed = run("dense-nme", *faces, "--statistic", "rms")
    assert code == 2 and "--statistic" in printed


def test_other_methods_write_obj_and_other_units(run, faces, tmp_path, model):
    """OBJ in metres, landmarks as vertex numbers that hold for all."""
    (tmp_path / "objs").mkdir()
    for name in ("ann", "bob"):
        save_obj(tmp_path / f"objs/{name}.obj", 0.001 * model.template, model.triangles)
    numbers = tmp_path / "vertices68.txt"
    numbers.write_text("\n".join(map(str, model.landmarks68.tolist())))
    options = ["--prediction-landmarks", numbers, "--prediction-unit-mm", "1000"]
    code, result, _ = run("point-to-plane", tmp_path / "objs", faces[1], *options, "--alignment", "rigid")
    assert code == 0 and max(row["error_mm"] for row in result["rows"]) < 0.01
    assert all(row["icp_converged"] and row["icp_scale"] == 1.0 for row in result["rows"]), "rigid"


def test_missing_and_damaged_are_counted_listed_and_too_many_fail(run, faces, tmp_path):
    predictions, truth = faces
    (predictions / "ann/2.npz").write_bytes(b"PK\x03\x04 half of an archive")
    shutil.rmtree(predictions / "bob")
    code, result, printed = run("rmse", predictions, truth)
    assert code == 1 and "66.7 % are missing or damaged, more than the 5 % of --largest-missing" in printed
    assert result["total"] == 3 and len(result["rows"]) == 1
    reasons = {pathlib.Path(entry["what"]).name: entry["why"] for entry in result["skipped"]}
    assert "not a readable face npz" in reasons["2.npz"] and reasons["bob.npz"] == "no prediction of it"
    assert run("rmse", predictions, truth, "--largest-missing", "0.7")[0] == 0


def test_nothing_that_can_be_evaluated_is_a_failure_and_writes_nothing(run, faces):
    for path in faces[0].rglob("*.npz"):
        path.write_bytes(b"no")
    code, result, printed = run("rmse", *faces)
    assert code == 1 and result is None and "none of the 3 could be evaluated; nothing was written" in printed


def test_landmarks_by_yaw(run, tmp_path):
    """AFLW2000-3D's files: 1-based points and Pose_Para; predictions 3 pixels off in x."""
    points = np.random.default_rng(0).uniform(0, 1, size=(68, 2)) * [90, 40]
    points[0], points[1] = (0, 0), (90, 40)
    for name, yaw in (("a", 0.1), ("b", -0.7), ("c", 1.4)):
        pose = np.array([[0, yaw, 0, 0, 0, 0, 1e-3]])
        (tmp_path / "truth").mkdir(exist_ok=True)
        (tmp_path / "faces").mkdir(exist_ok=True)
        three = np.vstack([points.T + 0.5, np.zeros(68)])
        scipy.io.savemat(tmp_path / f"truth/{name}.mat", {"pt3d_68": three, "Pose_Para": pose})
        np.savez(tmp_path / f"faces/{name}.npz", landmarks_2d=points + [3 * (name != "a"), 0])
    code, result, _ = run("landmarks", tmp_path / "faces", tmp_path / "truth")
    nme = 100 * 3 / 60
    assert code == 0
    assert [(row["|yaw|"], row["pictures"], row["nme_percent"]) for row in result["summary"]] == [
        ("[0, 30]", 1, pytest.approx(0, abs=1e-6)),
        ("(30, 60]", 1, pytest.approx(nme)),
        ("(60, 90]", 1, pytest.approx(nme)),
        ("mean of the bins", 3, pytest.approx(2 * nme / 3)),
        ("all pictures", 3, pytest.approx(2 * nme / 3)),
    ]
    assert result["curves"]["all pictures"][-1] == [10.0, 1.0]
    (tmp_path / "faces/b.npz").unlink()
    assert run("landmarks", tmp_path / "faces", tmp_path / "truth")[0] == 1


def test_photometric(run, tmp_path):
    for folder, value in (("drawn", 0.6), ("truth", 0.4)):
        (tmp_path / folder).mkdir()
        write_png(tmp_path / folder / ("a_overlay.png" if folder == "drawn" else "a.png"), torch.full((3, 8, 8), value))
    code, result, printed = run("photometric", tmp_path / "drawn", tmp_path / "truth")
    assert (
        code == 0 and result["summary"][0]["mean"] == pytest.approx(51, abs=0.01) and "over whole pictures" in printed
    )


def test_verification(run, tmp_path):
    """Ten folds; two people of opposite codes, so that everything is right."""
    names, codes = ("a1", "a2", "b1", "b2"), ([1.0, 0.1], [1.0, 0.2], [-1.0, 0.1], [-1.0, 0.0])
    for name, code in zip(names, codes):
        np.savez(
            tmp_path / f"{name}.npz",
            codes=np.array([9.0, *code]),
            code_names=np.array(["other", "identity"]),
            code_sizes=np.array([1, 2]),
        )
    pairs = [f"{fold},{pair}" for fold in range(10) for pair in ("a1,a2,1", "b1,b2,1", "a1,b1,0", "a2,b2,0")]
    (tmp_path / "pairs.csv").write_text("fold,first,second,same\n" + "\n".join(pairs))
    code, result, _ = run("verification", tmp_path / "pairs.csv", tmp_path)
    assert code == 0 and len(result["rows"]) == 10
    assert {row["measure"]: row["mean"] for row in result["summary"]} == dict.fromkeys(
        ("accuracy", "100 - EER", "AUC", "TAR at FAR 10 %", "TAR at FAR 1 %"), 100.0
    )
    (tmp_path / "given.csv").write_text("fold,similarity,same\n0,0.5,1\n1,0.1,0\n")
    code, _, printed = run("verification", tmp_path / "given.csv", tmp_path)
    assert code == 2 and "brings similarities and names no faces" in printed
    code, _, printed = run("verification", tmp_path / "pairs.csv")
    assert code == 2 and "FEATURES" in printed and "give their features" in printed


def test_held_out_is_the_validation_of_the_training(run, untrained):
    code, result, _ = run("held-out", "--checkpoint", untrained.checkpoint, "--count", "2")
    assert code == 0 and result["settings"]["seed"] == seeds.HELD_OUT and len(result["rows"]) == 2
    rows = {row["measure"]: row for row in result["summary"]}
    for name in ("full shape, mm", "identity shape, mm", "albedo", "light (shading on the face)"):
        row = rows[name]
        assert row["gain_percent"] == pytest.approx(100 * (1 - row["error"] / row["mean_face"]), rel=1e-6), name
    said = untrained.validation
    assert rows["full shape, mm"]["error"] == pytest.approx(said["shape_mm"], rel=1e-6)
    assert rows["full shape, mm"]["gain_percent"] == pytest.approx(said["shape_gain_percent"], rel=1e-4)
    assert rows["landmark NME, %"]["error"] == pytest.approx(said["landmark_percent"], rel=1e-6)


def test_held_out_faces_are_of_the_trainings_world(run, model, tmp_path):
    """Beyond the labelled model: as the preset `ablation` has them."""
    model.save(tmp_path / "model.npz")
    settings = {
        "model": TINY_MODEL | {"morphable": str(tmp_path / "model.npz")},
        "run": {"validation_size": 2},
        "world": {"labelled_modes": 5, "bumps": 3},
    }
    trainer = SemiSupervisedTrainer(overlay(SemiSupervisedConfig(), settings), model, None)
    trainer.checkpoint(0, resumable=False).save(tmp_path / "model.safetensors")
    code, result, _ = run("held-out", "--checkpoint", tmp_path / "model.safetensors", "--count", "2")
    assert code == 0
    found = {row["measure"]: row["error"] for row in result["summary"]}
    assert found["full shape, mm"] == pytest.approx(trainer.validate()["shape_mm"], rel=1e-5)


def test_faces_of_the_training_are_not_held_out(run, checkpoint):
    code, result, printed = run("held-out", "--checkpoint", checkpoint, "--seed", "0")
    assert code == 2 and result is None and "--seed 0 is one that the training drew from" in printed
    seed = str(seeds.PERSONS)  # of rendered persons, that of the training being 0
    code, _, printed = run("held-out", "--checkpoint", checkpoint, "--seed", seed)
    assert code == 2 and "its faces are not held out" in printed


def test_held_out_needs_the_model_of_the_training(run, checkpoint, model, tmp_path):
    dataclasses.replace(model, template=model.template + 1.0).save(tmp_path / "other.npz")
    code, _, printed = run("held-out", "--checkpoint", checkpoint, "--model", tmp_path / "other.npz")
    assert code == 1 and "is not the model that" in printed


def test_pose_sweep(run, checkpoint, tmp_path):
    options = ["--checkpoint", checkpoint, "--count", "2", "--yaws", "-40", "0", "40", "--pitches", "0", "--seed", "5"]
    code, result, _ = run("pose-sweep", *options)
    assert code == 0 and [row["|yaw|"] for row in result["summary"]] == [0, 40]
    assert [row["pictures"] for row in result["summary"]] == [2, 4] and result["summary"][0]["growth_mm"] == 0
    assert len(result["rows"]) == 3 and result["settings"]["yaws"] == [-40, 0, 40] and result["settings"]["seed"] == 5


def test_pose_sweep_for_another_method(run, checkpoint, tmp_path):
    """Its answer to every picture is the first face: exact for that one, at every yaw."""
    options = ["--checkpoint", checkpoint, "--count", "2", "--yaws", "0", "40"]
    code, _, printed = run("pose-sweep", *options, "--write", tmp_path / "sweep")
    assert code == 0 and "4 pictures" in printed
    for picture in (tmp_path / "sweep/pictures").glob("*.png"):
        (tmp_path / "answers").mkdir(exist_ok=True)
        shutil.copy(tmp_path / "sweep/truth/face000.npz", tmp_path / f"answers/{picture.stem}.npz")
    sweep = tmp_path / "sweep"
    code, result, _ = run("rmse", tmp_path / "answers", sweep / "truth", "--pairs", sweep / "pairs.csv")
    assert code == 0 and [row["group"] for row in result["summary"]] == ["|yaw| 0", "|yaw| 40"]
    errors = {(row["subject"], row["group"]): row["error_mm"] for row in result["rows"]}
    assert errors["face000", "|yaw| 40"] < 1e-3 < 0.5 < errors["face001", "|yaw| 40"]
    assert run("pose-sweep", *options, "--write", tmp_path / "sweep")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["rmse", "none", "{truth}"], 2, "PREDICTIONS none: no such file or folder"),
        (["rmse", "{truth}", "{truth}", "--pairs", "none.csv"], 2, "--pairs none.csv: no such file"),
        (["rmse", "{truth}", "{truth}", "--crop-mm", "0"], 2, "--crop-mm must be positive, got 0"),
        (["rmse", "{truth}", "{truth}", "--truth-unit-mm", "-1"], 2, "--truth-unit-mm must be positive"),
        (["rmse", "{truth}", "{truth}", "--largest-missing", "2"], 2, "--largest-missing must lie in [0, 1]"),
        (["point-to-plane", "{truth}", "{truth}", "--icp.trim", "1.5"], 2, "trim must lie in [0, 1)"),
        (["point-to-plane", "{truth}"], 2, "TRUTH"),
        (["correspondence", "{truth}", "{truth}", "--alignment", "best"], 2, "alignment"),
        (["point-to-plane", "{truth}", "{truth}", "--crop-mm", "-1"], 2, "--crop-mm must be positive, got -1.0"),
        (["rmse", "{empty}", "{truth}"], 1, "no mesh; endings that are read"),
        (["held-out", "--checkpoint", "none"], 2, "--checkpoint none: no such file"),
        (["pose-sweep", "--checkpoint", "{truth}/ann.npz", "--yaws", "400"], 2, "--yaws must be degrees"),
        (["held-out", "--checkpoint", "{truth}/ann.npz"], 1, "ann.npz is damaged"),
        (["nothing"], 2, "nothing"),
    ],
)
def test_errors_are_one_line(run, faces, tmp_path, arguments, code, message):
    (tmp_path / "empty").mkdir()
    filled = [part.format(truth=faces[1], empty=tmp_path / "empty") for part in arguments]
    found, result, printed = run(*filled)
    assert found == code and result is None and message in printed and printed.count("\n") == 1


PROTOCOLS = (
    ["point-to-plane"],
    ["rmse"],
    ["correspondence"],
    ["dense-nme"],
    ["landmarks"],
    ["pose-sweep"],
    ["verification"],
    ["photometric"],
    ["held-out"],
    ["recognisability"],
)


@pytest.mark.parametrize("command", [[], *PROTOCOLS])
def test_help_has_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *command, "--help"]) == 0
    assert f"Example: facecore evaluate {' '.join(command)}" in capsys.readouterr().out
