"""The phases of system 1, photographs that are fitted, what its commands make of a checkpoint and what they refuse."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
import torch
from tiny_faces import write_portraits
from tiny_joint import POINTS, config
from trainer_checks import assert_resumes

from facecore import systems
from facecore.cli import main
from facecore.data import Augmentation, PhotoFolder
from facecore.morphable import load as load_model
from facecore.systems.fitted_photos import fit_photographs
from facecore.systems.joint_recognition import CODE_RANGE, SOLVED_RANGE, JointAssets, JointRecognition
from facecore.systems.joint_recognition_config import PRESETS
from facecore.systems.joint_recognition_training import JointRecognitionTrainer

OPTIONS = [
    *("--system", "joint-recognition", "--model.encoder", "sphereface", "--stages.head-renders", "0"),
    *("--model.width", "0.0625", "--model.num-vertices", "2500"),
    *("--stages.encoder-iterations", "2", "--stages.joint-iterations", "1", "--stages.final-iterations", "1"),
    *("--data.labelled-batch", "4", "--data.photo-batch", "4", "--world.persons", "5", "--world.pictures", "3"),
    *("--run.validation-size", "4"),
]


@pytest.fixture(scope="module")
def morphable():
    return load_model("procedural", num_vertices=2500)


@pytest.fixture(scope="module")
def photos(tmp_path_factory, morphable) -> pathlib.Path:
    """Two persons, two photographs of each, and one of nobody known."""
    root = tmp_path_factory.mktemp("photos")
    for name in ("ann", "bob"):
        write_portraits(root / name, morphable, ["1", "2"], size=112, one_person=True)
    write_portraits(root, morphable, ["stranger"], size=112)
    return root


@pytest.fixture(autouse=True)
def few_strangers(monkeypatch):
    monkeypatch.setattr("facecore.systems.joint_recognition_training.VERIFIED_PERSONS", 4)


def open_folder(root: pathlib.Path) -> PhotoFolder:
    return PhotoFolder(root, height=112, width=112, seed=0, augmentation=Augmentation(mirror=0.0))


def test_phases(morphable):
    trainer = JointRecognitionTrainer(config(), morphable, None)
    assert [trainer.stage(i) for i in range(4)] == ["encoder", "encoder", "joint", "final"]
    before = {name: value.clone() for name, value in trainer.system.state_dict().items()}

    def changed() -> set[str]:
        return {n.split(".")[0] for n, v in trainer.system.state_dict().items() if not torch.equal(v, before[n])}

    assert set(trainer.step(0)) == {"code", "total"}
    assert changed() == {"encoder", "identity_head", "expression_head"}  # phase I: the encoder alone
    terms = trainer.step(2)
    assert set(terms) == {"reconstruction", "recognition", "total"}
    assert {"identity_decoder", "expression_decoder"} <= changed()
    weights = trainer.config.weights
    expected = weights.reconstruction * terms["reconstruction"] + weights.recognition * terms["recognition"]
    torch.testing.assert_close(terms["total"], expected)
    last = trainer.step(3)
    torch.testing.assert_close(last["total"], last["reconstruction"] + last["recognition"])  # lambda_R = 1


def test_phase_one_can_count_shapes(morphable):
    """Beyond the paper: codes whose faces are as wrong cost the same, whichever mode is wrong."""
    trainer = JointRecognitionTrainer(config(stages={"code_error": "shape"}), morphable, None)
    prior, size = morphable.prior, trainer.system.identity_size
    moved = prior.identity_std[:, None, None] * morphable.identity_basis
    # in units of the code, 1 = three deviations; what a similarity undoes counts less, so modes that have little of it
    away = torch.eye(size) / (CODE_RANGE * moved.square().sum((1, 2)).sqrt()[:, None])
    cost = trainer.objective.code_error(torch.nn.functional.pad(away, (0, trainer.system.expression_size)))
    assert float(cost.max() / cost.median()) < 2 < float((away.square().sum(1)).max() / away.square().sum(1).median())


def test_heads_are_solved_after_phase_one(morphable):
    """On the features as they are then, linear heads leave less than those that the optimiser left; decoders stay."""
    trainer = JointRecognitionTrainer(config(stages={"head_renders": 64}), morphable, None)
    batch = trainer.persons.batch(torch.tensor(trainer.persons.one_of_each(5, 64)))  # those that solve them

    def error() -> float:
        codes = trainer.system.eval().encode(batch.image, batch.landmarks)
        target = trainer.system.codes_of(morphable, batch.identity, batch.expression)
        return float((torch.cat(codes, 1) - torch.cat(target, 1)).square().sum(1).mean())

    trainer.step(0)
    with torch.no_grad():
        before, decoder = error(), trainer.system.identity_decoder.weight.clone()
        trainer._solve_heads()
        assert error() < 0.9 * before
    assert torch.equal(decoder, trainer.system.identity_decoder.weight)
    codes = trainer.system.codes_of(morphable, batch.identity, batch.expression)
    torch.testing.assert_close(
        trainer.system.activations_of(codes).tanh(), torch.cat(codes, 1).clamp(-SOLVED_RANGE, SOLVED_RANGE)
    )


SOLVED = {"stages": {"classifier": "solved", "encoder_iterations": 1}}


def test_the_softmax_over_persons_can_begin_solved(morphable, photos, monkeypatch):
    """Once, as phase III begins; where codes are right it tells from the start who they are of, a random one does not.
    The photographs' persons come after the rendered ones, and one without labels stands for the mean face."""
    trainer = JointRecognitionTrainer(config(**SOLVED), morphable, open_folder(photos))
    truth, classifier = trainer._codes_of_persons(), trainer.objective.classifier
    fits, person = trainer.labels.identity, trainer.photos.identity
    for number in (0, 1):
        own = fits[person == number][:1]
        expected = trainer.system.codes_of(morphable, own, own.new_zeros(1, morphable.num_expression)).identity
        torch.testing.assert_close(truth[5 + number], expected[0])
    random = classifier(truth).softmax(1).diagonal().detach()
    monkeypatch.setattr(trainer.system, "encode", lambda images, landmarks: right[id(images)])
    batch, right = trainer.persons.batch, {}

    def remembered(index):
        renders = batch(index)
        right[id(renders.image)] = trainer.system.codes_of(morphable, renders.identity, renders.expression)
        return renders

    with monkeypatch.context() as patch:
        patch.setattr(trainer.persons, "batch", remembered)
        trainer._solve_classifier()
    solved = classifier(truth).softmax(1).diagonal().detach()[:5]  # the photographs' two persons look alike
    assert float(random.max()) < 0.5 < float(solved.min())
    trainer.labels.known[person == 1] = False
    assert float(trainer._codes_of_persons()[6].abs().max()) < 1e-6


def test_it_is_solved_as_phase_three_begins(morphable, monkeypatch):
    trainer, solved = JointRecognitionTrainer(config(**SOLVED), morphable, None), []
    monkeypatch.setattr(trainer, "_solve_classifier", lambda: solved.append(trainer.system.training))
    for iteration, count in ((0, 0), (1, 1), (2, 1)):
        trainer.step(iteration)
        assert len(solved) == count


def test_phase_one_never_sees_a_person_twice(morphable):
    """Heads could learn a few persons by heart: each render of phase I, and of the solving after it, shows another; in
    phase III the persons to be told apart come, with their numbers."""
    trainer = JointRecognitionTrainer(config(stages={"head_renders": 6}), morphable, None)
    numbers = torch.cat([trainer._numbers(0), trainer._numbers(1), torch.tensor(trainer.persons.one_of_each(5, 6))])
    persons = numbers // trainer.persons.pictures
    assert len(persons.unique()) == len(persons) and int(persons.min()) == 5
    assert trainer.batch(0).person.tolist() == [-1] * 4
    assert int(trainer.batch(2).person.min()) >= 0 and int(trainer.batch(2).person.max()) < 5


def test_an_encoder_that_finds_points(morphable, photos):
    """Renders teach where these are, photographs beside them do not; corrections stay 0 until heads are solved."""
    model = {"encoder": "point-recognition", "width": 1.0, "surface_points": 70, "point_features": 2}
    stages = {"code_error": "shape", "head_renders": 32, "encoder_iterations": 1, "learning_rate": 1e-4}
    trainer = JointRecognitionTrainer(config(model=model, stages=stages), morphable, open_folder(photos))
    assert len(trainer.batch(0).image) > len(trainer.batch(0).renders)
    correction = trainer.system.identity_correction.weight
    assert not bool(correction.any())
    assert set(trainer.step(0)) == {"surface_points", "turn", "code", "total"}
    assert bool(correction.any())  # phase I ended
    solved = correction.clone()
    assert set(trainer.step(1)) == {"reconstruction", "recognition", "total"}
    assert torch.equal(trainer.system.identity_correction.weight, solved)
    loaded = JointRecognition(trainer.config.model, JointAssets.from_morphable(morphable))
    loaded.load_state_dict(trainer.system.state_dict())
    batch = trainer.batch(0)
    with torch.no_grad():
        own = trainer.system.eval().encode(batch.image, batch.points)
        assert torch.equal(loaded.eval().encode(batch.image, batch.points).identity, own.identity)


def test_a_step_lowers_the_loss_of_its_batch(morphable):
    trainer = JointRecognitionTrainer(config(stages={"encoder_learning_rate": 1e-3}), morphable, None)
    first = trainer.step(0)["total"]
    for _ in range(8):
        last = trainer.step(0)["total"]
    assert float(last) < float(first)


def test_photographs_are_fitted_person_by_person(morphable, photos):
    folder = open_folder(photos)
    labels = fit_photographs(folder, morphable, 112)
    person = folder.identity
    assert labels.known.tolist() == (person >= 0).tolist() and int((~labels.known).sum()) == 1
    for number in (0, 1):
        own = labels.identity[person == number]
        assert torch.equal(own[0], own[1]) and float(own[0].abs().sum()) > 0
    trainer = JointRecognitionTrainer(config(), morphable, folder)
    images, points, identity, expression, persons, renders = trainer.batch(0)
    assert torch.equal(images[:4], renders.image)
    assert len(images) == len(points) == len(identity) == len(expression) == len(persons)
    assert persons[:4].max() < 5 and set(persons[4:].tolist()) <= {5, 6}
    rows = trainer._stream.batches.index(0)
    known = labels.known[rows]
    assert torch.equal(identity[4:], labels.identity[rows][known])
    assert torch.equal(persons[4:], person[rows][known] + 5)


@pytest.mark.parametrize(("changes", "stop"), [({}, 3), (POINTS, 1), (POINTS, 2), (SOLVED, 1), (SOLVED, 2)])
def test_resumes_to_the_same_weights(morphable, photos, changes, stop):
    """With points: stopped before and right after their heads are solved, with batch statistics; with a softmax that is
    solved: before and after that."""
    settings = config(**changes)
    assert_resumes(
        lambda: JointRecognitionTrainer(settings, morphable, open_folder(photos)), stop, lambda t: t.objective
    )


def test_commands(tmp_path, capsys, photos):
    """Trained, loaded, measured, and its face posed by a photograph's landmarks."""
    out = tmp_path / "run"
    assert main.main(["train", *OPTIONS, "--data.photos", str(photos), "--run.out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "4 photographs with fitted labels" in printed and "verification_auc" in printed
    row = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert row["iteration"] == 4 and row["neutral_mm"] > 0 and 0 <= row["verification_auc"] <= 100
    checkpoint = out / "model.safetensors"
    system = systems.load(checkpoint)
    assert isinstance(system, JointRecognition)
    held_out = ["evaluate", "held-out", "--checkpoint", str(checkpoint), "--count", "4", "--out", str(tmp_path / "e")]
    assert main.main(held_out) == 0
    results = json.loads((tmp_path / "e" / "results.json").read_text())
    assert results["settings"]["config_hash"] == row["config_hash"]
    bases = ["evaluate", "bases", "--checkpoint", str(checkpoint), "--shown", "1", "--out", str(tmp_path / "b")]
    assert main.main(bases) == 0
    rows = json.loads((tmp_path / "b" / "results.json").read_text())["summary"]
    assert [row["part"] for row in rows] == ["identity", "expression"]
    # two steps at a rate of 3e-4 and less move the bases by little, and not by nothing
    assert all(0 < row["between_mm"] < 0.1 * row["model_mm"] and row["cosine"] > 0.99 for row in rows)
    sweep = ["evaluate", "expressions", "--checkpoint", str(checkpoint), "--count", "2", "--out", str(tmp_path / "x")]
    assert main.main(sweep) == 0
    table = json.loads((tmp_path / "x" / "results.json").read_text())["summary"]
    assert [row["expression"] for row in table][:2] == ["neutral", "happiness"] and len(table) == 7
    assert table[0]["identity_growth_percent"] == pytest.approx(0) and all(row["neutral_mm"] > 0 for row in table)
    faces = ["reconstruct", str(photos / "ann" / "1.png"), "--checkpoint", str(checkpoint), "--detector", "none"]
    assert main.main([*faces, "--out", str(tmp_path / "f")]) == 0
    face = np.load(tmp_path / "f" / "1.npz")
    points = np.loadtxt((photos / "ann" / "1.pts").read_text().splitlines()[3:-1]) - 0.5
    box = (points.max(0) - points.min(0)).mean()
    # an untrained shape in the best pose: far nearer than one that looks ahead would be, as the portrait is turned
    assert np.linalg.norm(face["landmarks_2d"] - points, axis=1).mean() / box < 0.1
    assert main.main(["reconstruct", str(photos / "ann"), "--average", *faces[2:], "--out", str(tmp_path / "a")]) == 0


def test_photographs_of_nobody_known_teach_nothing(tmp_path, capsys, photos):
    """Labels are fitted to the photographs of a person: there must be one."""
    run = ["--data.photos", str(photos), "--data.identities", "none", "--run.out", str(tmp_path / "run")]
    assert main.main(["train", *OPTIONS, *run]) == 2
    assert "--data.photos: nobody is known on them" in capsys.readouterr().err and not (tmp_path / "run").exists()


ALL_ZERO = [word for phase in ("encoder", "joint", "final") for word in (f"--stages.{phase}-iterations", "0")]


def test_presets_state_the_papers_sizes():
    """METHODS 3: SphereFace-20 at its full width, lambda_R 0.5 then 1, Adam 1e-4, batch 64."""
    paper = PRESETS["paper"]
    assert (paper.model.width, paper.weights.reconstruction, paper.weights.final_reconstruction) == (1.0, 0.5, 1.0)
    assert (paper.stages.learning_rate, paper.data.labelled_batch) == (1e-4, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (ALL_ZERO, "--stages: iterations must not all be 0"),
        (["--weights.reconstruction", "-1"], "--weights.reconstruction must be at least 0"),
        (["--weights.recognition", "nan"], "--weights.recognition must be at least 0"),
        (["--weights.recognition", "inf"], "--weights.recognition must be at least 0 and finite"),
        (["--weights.reconstruction", "0", "--weights.recognition", "0"], "recognition must not all be 0"),
        (["--weights.final-reconstruction", "0", "--weights.recognition", "0"], "recognition must not all be 0"),
        (
            ["--data.photos", ".", "--data.photo-batch", "0"],
            "no effect here: --data.photo-batch is 0",
        ),
        (["--data.photos", ".", "--data.no-unlabelled"], "--data.photos has no effect here: --data.no-unlabelled"),
        (["--model.width", "0"], "--model.width must be positive"),
        (["--model.image-size", "20"], "--model.image-size must be at least 56"),
        (["--data.assume-cropped"], "labels are fitted to landmarks"),
        (["--stages.head-renders", "8", "--stages.encoder-iterations", "0"], "are for the end of phase I"),
        (["--stages.encoder-iterations", "0", "--stages.code-error", "shape"], "--stages.code-error is phase I's"),
        (["--model.encoder", "point-recognition"], "--model.width scales sphereface alone"),
        (
            ["--stages.encoder-iterations", "0", "--stages.skipped-persons", "4"],
            "skipped-persons is phase I's",
        ),
        (["--stages.skipped-persons", "-1"], "--stages.skipped-persons must be at least 0"),
        (["--model.surface-points", "80"], "are for point-recognition alone"),
        (["--model.surface-points", "60"], "--model.surface-points must be at least 68"),
        (["--data.masks", "."], "--data.masks has no effect here"),
        (["--world.steady-light"], "--world.steady-light has no effect here"),
        (["--world.yaw", "60"], "--world.yaw has no effect here"),
        (["--stages.classifier", "solved", "--weights.recognition", "0"], "--stages.classifier is phase III's"),
        (["--world.labelled-modes", "1000"], "--world.labelled-modes must be at most"),
        (["--system", "nobody"], "invalid choice"),
    ],
)
def test_bad_usage_is_one_line(tmp_path, capsys, arguments, message):
    code = main.main(["train", *OPTIONS, "--run.out", str(tmp_path / "run"), *arguments])
    captured = capsys.readouterr()
    assert code == 2 and message in captured.err and len(captured.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
