"""`facecore train recognition`: learns persons, resumes to the bit, and writes a network that loads elsewhere."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from functools import partial

import numpy as np
import pytest
import torch
from tiny_faces import write_portraits
from trainer_checks import assert_resumes

from facecore.cli import main
from facecore.cli.train_recognition import COMMAND
from facecore.data import PhotoFolder, five_points
from facecore.morphable import load as load_model
from facecore.perception import alignment, load_identity_network
from facecore.systems.recognition_config import PRESETS, RecognitionConfig, options_of
from facecore.systems.recognition_training import HELD_OUT_PICTURES, RecognitionTrainer
from facecore.training.checkpoint import Checkpoint
from facecore.training.config import overlay
from facecore.training.loop import FINAL, LAST

TINY = {
    "model": {"architecture": "sphereface", "width": 0.0625, "num_vertices": 2500, "image_size": 64},
    "stages": {"iterations": 4},
    "data": {"labelled_batch": 8, "photo_batch": 4},
    "world": {"persons": 6, "pictures": 4},
    "run": {"validation_size": 4, "validate_every": 100, "checkpoint_every": 2, "log_every": 1},
}
OPTIONS = [
    *("--model.architecture", "sphereface", "--model.width", "0.0625", "--model.num-vertices", "2500"),
    *("--model.image-size", "64", "--stages.iterations", "4", "--data.labelled-batch", "8", "--data.photo-batch", "4"),
    *("--stages.coefficient-iterations", "1"),
    *("--world.persons", "6", "--world.pictures", "4", "--run.validation-size", "4", "--run.checkpoint-every", "2"),
]


@pytest.fixture(scope="module")
def morphable():
    return load_model("procedural", num_vertices=2500)


@pytest.fixture(scope="module")
def photos(tmp_path_factory, morphable) -> pathlib.Path:
    """Two persons, two photographs of each, with landmarks; the folders are their names."""
    root = tmp_path_factory.mktemp("photos")
    for name in ("ann", "bob"):
        write_portraits(root / name, morphable, ["1", "2"], size=64, one_person=True)
    return root


def config(**changes) -> RecognitionConfig:
    return overlay(overlay(RecognitionConfig(), TINY), changes)


def open_folder(root: pathlib.Path) -> PhotoFolder:
    return PhotoFolder(root, height=64, width=64, seed=0)


def test_a_step_lowers_the_loss_of_its_batch(morphable):
    trainer = RecognitionTrainer(config(stages={"learning_rate": 3e-3}), morphable, None)
    faces, person = trainer._faces(0)
    first = trainer.objective(faces, person)[0].item()
    for _ in range(10):
        trainer.step(0)  # the same batch, at the rates of a first step
    assert trainer.objective(faces, person)[0].item() < first


def test_photographs_are_persons_of_their_own(morphable, photos):
    trainer = RecognitionTrainer(config(), morphable, open_folder(photos))
    faces, person = trainer._faces(0)
    assert faces.shape == (8 + 4, 3, 112, 96) and trainer.objective.persons.out_features == 6 + 2
    assert person[:8].max() < 6 and set(person[8:].tolist()) == {6, 7}
    assert trainer.images_in(0) == 12
    assert torch.equal(person[:8].view(4, 2)[:, 0], person[:8].view(4, 2)[:, 1])  # two pictures of a person


POINTS = {"architecture": "point-recognition", "surface_points": 70, "point_features": 2}


@pytest.mark.parametrize("architecture", ["sphereface", "small-recognition", "point-recognition"])
def test_resumes_to_the_same_weights(morphable, photos, architecture):
    """small-recognition has batch statistics, which are part of its state; stopped at the end of the first stage."""
    pointed = architecture == "point-recognition"
    solved = {"head_renders": 8} if pointed else {}
    settings = config(
        model=POINTS if pointed else {"architecture": architecture},
        stages={"coefficient_iterations": 2, "iterations": 2} | solved,
    )
    make = partial(RecognitionTrainer, settings, morphable, open_folder(photos))
    assert_resumes(make, 2, lambda trainer: trainer.objective)


def test_coefficients_come_first(morphable, photos):
    """By the truth of renders alone; then persons start where their pictures are embedded."""
    settings = config(stages={"coefficient_iterations": 3, "iterations": 1})
    trainer = RecognitionTrainer(settings, morphable, open_folder(photos))
    assert (trainer.total_iterations, trainer.images_in(0), trainer.images_in(3)) == (4, 8, 12)
    batch, person = trainer._labelled(0)
    assert int(person.min()) >= 6  # nobody of those that are told apart later
    truth = trainer.renders.renders.coefficients(4 * person)  # the first picture's, whose identity and albedo are all's
    whitened = torch.cat([morphable.prior.whiten(part, getattr(truth, part)) for part in ("identity", "albedo")], 1)
    torch.testing.assert_close(trainer.objective.truth(batch), whitened)
    before = trainer.objective.persons.weight.clone()
    first = trainer.step(0)
    assert float(first["right"]) == 0.0 and 0.5 < float(first["total"]) < 10  # 2, were nothing said: over the variance
    assert torch.equal(trainer.objective.persons.weight, before)
    last = [trainer.step(0)["total"] for _ in range(8)][-1]
    assert float(last) < float(first["total"])
    trainer._place_persons()
    trainer.objective.eval()
    with torch.no_grad():
        faces = trainer.aligned(trainer.renders.batch(torch.arange(4)))
        embed = torch.nn.functional.normalize(trainer.network(faces).embed, dim=1)
    torch.testing.assert_close(trainer.objective.persons.weight[0], embed.mean(0), rtol=1e-4, atol=1e-5)
    assert not torch.equal(trainer.objective.persons.weight[7], before[7])  # the photographs' persons too


def test_points_come_first(morphable):
    """A PointRecognition learns where points are; solved, its embedding is nearer to the coefficients than before."""
    stages = {"coefficient_iterations": 2, "iterations": 0, "head_renders": 64}
    trainer = RecognitionTrainer(config(model=POINTS, stages=stages), morphable, None)
    objective, network = trainer.objective, trainer.network
    assert network.head.out_features == morphable.num_identity + morphable.num_albedo
    batch = trainer.renders.renders.batch(torch.tensor(trainer.renders.renders.one_of_each(6, 64)))  # that solve it

    def error() -> float:
        network.eval()
        with torch.no_grad():
            return float(objective.code_error(network(objective.aligned(batch)).embed - objective.truth(batch)).mean())

    first = trainer.step(0)["total"]
    before = error()
    trainer.step(1)
    assert error() < 0.9 * before and error() < 2  # 2, were nothing said
    with torch.no_grad():
        assert float(objective.labelled(batch)) < float(first)


def test_points_are_where_the_aligned_faces_have_them(morphable):
    """The 68 landmarks among them are those of the picture, moved as the picture is, the mean face."""
    trainer = RecognitionTrainer(config(model=POINTS), morphable, None)
    points, batch = trainer.objective.points, trainer.renders.renders.batch(torch.arange(3))
    align = alignment(five_points(batch.landmarks))
    pixels = batch.landmarks @ align[:, :, :2].mT + align[:, None, :, 2]
    found = (points.aligned(batch)[:, :68] * torch.tensor([1.0, -1.0]) + 1) * 56
    torch.testing.assert_close(found, pixels, rtol=0, atol=1e-2)  # pixels: float32 through three maps
    mean = dataclasses.replace(
        batch,
        identity=morphable.prior.identity_mean.expand(3, -1),
        expression=morphable.prior.expression_mean.expand(3, -1),
    )
    # roll, size and place are undone by the alignment: pitch and yaw alone say where the mean face has its points
    torch.testing.assert_close(trainer.network.expected(batch.pose[:, :2]), points.aligned(mean), rtol=0, atol=1e-4)


def test_a_network_of_points_is_exported_and_loaded(tmp_path, capsys):
    """With its depth, too, which manifests of before do not name."""
    options = [*OPTIONS, "--model.architecture", "point-recognition", "--model.surface-points", "68"]
    options += ["--model.depth", "34"]
    options[options.index("--model.width") + 1] = "1"
    options[options.index("--stages.iterations") + 1] = "0"
    out = tmp_path / "run"
    assert main.main(["train", "recognition", *options, "--stages.head-renders", "16", "--run.out", str(out)]) == 0
    network = load_identity_network(out / "manifest.json")
    assert json.loads((out / "manifest.json").read_text())["options"]["depth"] == 34
    assert "depth" not in options_of(config(model=POINTS).model, load_model("procedural", num_vertices=2500))
    faces = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0), requires_grad=True)
    features = network(faces)
    assert torch.equal(features.embed, features.pooled)
    (gradient,) = torch.autograd.grad(features.embed.square().sum(), faces)
    assert float(gradient.abs().sum()) > 0
    torch.testing.assert_close(network(faces[:1]).embed, features.embed[:1], rtol=1e-3, atol=1e-4)


def test_another_run_is_not_resumed(morphable, photos):
    saved = RecognitionTrainer(config(), morphable, None).checkpoint(0, resumable=True)
    with pytest.raises(ValueError, match="without photographs"):
        RecognitionTrainer(config(), morphable, open_folder(photos)).restore(saved)
    with pytest.raises(ValueError, match="seed 0, this run has 1"):
        RecognitionTrainer(config(run={"seed": 1}), morphable, None).restore(saved)
    with pytest.raises(ValueError, match="configuration"):
        RecognitionTrainer(config(stages={"margin": 0.1}), morphable, None).restore(saved)
    final = RecognitionTrainer(config(), morphable, None).checkpoint(4, resumable=False)
    with pytest.raises(ValueError, match="no optimiser state"):
        RecognitionTrainer(config(), morphable, None).restore(final)


def test_seeds_and_held_out_persons_differ(morphable):
    one, other = (RecognitionTrainer(config(run={"seed": seed}), morphable, None) for seed in (0, 1))
    index = torch.tensor([0])
    pictures = [source.batch(index).image for t in (one, other) for source in (t.renders, t.held_out)]
    for i in range(4):
        for j in range(i):
            assert not torch.equal(pictures[i], pictures[j])
    weights = [next(trainer.network.parameters()) for trainer in (one, other)]
    assert not torch.equal(*weights)


def test_validation_tells_a_network_that_knows_from_one_that_does_not(morphable, monkeypatch):
    """Embeddings of the person's number alone verify perfectly; random ones like a coin."""
    trainer = RecognitionTrainer(config(run={"validation_size": 20}), morphable, None)
    person = np.repeat(np.arange(20), HELD_OUT_PICTURES)
    rng = np.random.default_rng(0)
    of_person = rng.standard_normal((20, 16))[person]
    monkeypatch.setattr(trainer, "embed_held_out", lambda: of_person)
    assert trainer.validate()["auc"] == pytest.approx(100)
    monkeypatch.setattr(trainer, "embed_held_out", lambda: rng.standard_normal((80, 16)))
    assert 30 < trainer.validate()["auc"] < 70  # 120 pairs of each kind: a standard error of about 4


def test_unknown_persons_do_not_count(morphable):
    objective = RecognitionTrainer(config(), morphable, None).objective
    faces = torch.rand(4, 3, 112, 96, generator=torch.Generator().manual_seed(0))
    some = objective(faces, torch.tensor([0, -1, 1, -1]))
    alone = objective(faces[[0, 2]], torch.tensor([0, 1]))
    torch.testing.assert_close(some[0], alone[0])
    torch.testing.assert_close(some[1], alone[1])


def test_command(tmp_path, capsys, photos):
    out = tmp_path / "run"
    arguments = ["train", "recognition", *OPTIONS, "--data.photos", str(photos), "--run.out", str(out)]
    assert main.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "6 rendered persons" in printed and "2 persons on 4 photographs" in printed and "auc" in printed
    assert {"config.yaml", LAST, FINAL, "metrics.jsonl", "network.safetensors", "manifest.json"} <= {
        path.name for path in out.iterdir()
    }
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["trained_on"] == "renders and photographs"
    network = load_identity_network(out / "manifest.json")
    assert network.trained_on == "renders and photographs" and network.input_size == (112, 96)
    trainer = RecognitionTrainer(config(), load_model("procedural", num_vertices=2500), None)
    trainer.network.load_state_dict(Checkpoint.load(out / FINAL).tensors["model"])
    faces = torch.rand(2, 3, 112, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network.embed(faces), trainer.network.eval()(faces).embed)
    row = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert 0 <= row["auc"] <= 100 and row["iteration"] == 5 and row["morphable"]


def test_a_finished_run_is_resumed_to_write_what_it_lacks(tmp_path, capsys):
    """As after a full disk: nothing is left to train, and the network is written."""
    out = tmp_path / "run"
    arguments = ["train", "recognition", *OPTIONS, "--run.out", str(out)]
    assert main.main(arguments) == 0
    (out / "network.safetensors").unlink()
    assert main.main([*arguments, "--run.resume"]) == 0
    assert (out / "network.safetensors").is_file() and "Traceback" not in capsys.readouterr().err


def test_photographs_of_nobody_are_refused(tmp_path, capsys, photos):
    arguments = [*OPTIONS, "--data.photos", str(photos / "ann"), "--run.out", str(tmp_path / "run")]
    assert main.main(["train", "recognition", *arguments]) == 2
    assert "nobody is known on them" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_a_network_of_renders_alone_is_marked(tmp_path, capsys):
    out = tmp_path / "run"
    assert main.main(["train", "recognition", *OPTIONS, "--run.out", str(out), "--stages.iterations", "1"]) == 0
    assert load_identity_network(out / "manifest.json").trained_on == "renders"
    assert "train longer" in capsys.readouterr().out  # one step teaches nothing, and it is said


def test_settings_of_a_file(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("stages:\n  margin: 0.2\n")
    argv = ["--preset", "small", "--config", str(path), "--stages.scale", "20"]
    resolved = COMMAND.parse(argv)
    expected = dataclasses.replace(PRESETS["small"].stages, margin=0.2, scale=20.0)
    assert resolved.stages == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stages.margin", "2"], "--stages.margin must lie in [0, 2)"),
        (["--stages.scale", "0"], "--stages.scale must be positive"),
        (["--model.width", "nan"], "--model.width must be positive"),
        (["--model.architecture", "small-recognition"], "--model.width scales sphereface alone"),
        (["--stages.head-renders", "8"], "are for point-recognition alone"),
        (["--model.depth", "34"], "are for point-recognition alone"),
        (["--stages.iterations", "0", "--stages.margin", "0.1"], "--stages.margin has no effect here"),
        (["--stages.iterations", "0", "--data.photos", "."], "--data.photos has no effect here"),
        (["--stages.iterations", "0", "--stages.coefficient-iterations", "0"], "must not both be 0"),
        (
            ["--data.photos", ".", "--data.photo-batch", "0"],
            "no effect here: --data.photo-batch is 0",
        ),
        (["--world.labelled-modes", "5"], "--world.labelled-modes has no effect here"),
        (["--data.masks", "."], "--data.masks has no effect here"),
        (["--world.steady-light"], "--world.steady-light has no effect here"),
        (["--world.yaw", "60"], "--world.yaw has no effect here"),
        (["--world.bumps", "5", "--world.bump-mm", "inf"], "--world.bump-mm must be positive"),
        (["--world.persons", "1"], "--world.persons must be at least 2"),
        (["--run.validation-size", "3"], "--run.validation-size must be at least 4"),
        (["--data.assume-cropped"], "aligned by their landmarks"),
        (["--data.photos", "/nowhere"], "--data.photos /nowhere: no such file or folder"),
        (["--run.start-from", "/nowhere"], "--run.start-from /nowhere: no such file"),
        (["--preset", "none"], "invalid choice"),
        (["--model.architecture", "vgg"], "architecture"),
    ],
)
def test_bad_usage_is_one_line(tmp_path, capsys, arguments, message):
    code = main.main(["train", "recognition", *OPTIONS, "--run.out", str(tmp_path / "run"), *arguments])
    captured = capsys.readouterr()
    assert code == 2 and message in captured.err and len(captured.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
