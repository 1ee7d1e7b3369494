"""The stages of system 2, what its commands make of its checkpoint, and what they refuse."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib

import numpy as np
import pytest
import torch
from tiny_faces import write_portraits
from tiny_weak import SIZE, config, write_recogniser
from trainer_checks import assert_resumes

from facecore import systems
from facecore.cli import main
from facecore.data import PhotoFolder, RenderedPhotos
from facecore.morphable import load as load_model
from facecore.perception import load_identity_network
from facecore.systems.loading import load, load_trained
from facecore.systems.weakly_supervised import WeaklySupervised
from facecore.systems.weakly_supervised_config import PRESETS
from facecore.systems.weakly_supervised_training import WeaklySupervisedTrainer
from facecore.training.distributed import Share


@pytest.fixture(scope="module")
def morphable():
    return load_model("procedural", num_vertices=2500)


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory):
    return write_recogniser(tmp_path_factory.mktemp("network"))


def test_stages_move_what_they_should(morphable):
    trainer = WeaklySupervisedTrainer(config(), morphable, None)
    assert [trainer.stage(i)[0] for i in range(4)] == ["encoder", "weak", "weak", "confidence"]
    with pytest.raises(ValueError, match="ends after 4"):
        trainer.stage(4)
    before = {name: value.clone() for name, value in trainer.system.state_dict().items()}

    def changed() -> set[str]:
        return {n.split(".")[0] for n, v in trainer.system.state_dict().items() if not torch.equal(v, before[n])}

    assert {"labelled_code", "surface_points", "labelled_light"} <= set(trainer.step(0))
    assert "identity_correction" in changed()  # the heads were solved at the stage's end
    before = {name: value.clone() for name, value in trainer.system.state_dict().items()}
    terms = trainer.step(1)
    assert set(terms) == {"photometric", "landmark", "coefficient", "flattening", "surface_points", "total"}
    weights = trainer.config.weights
    expected = sum(getattr(weights, name) * value for name, value in terms.items() if name != "total")
    torch.testing.assert_close(terms["total"], expected, rtol=1e-4, atol=0)
    assert {"encoder", "point_maps", "albedo_head", "identity_head", "pose_head", "light_head"} <= changed()
    assert "confidence_net" not in changed() and "identity_correction" not in changed()
    before = {name: value.clone() for name, value in trainer.system.state_dict().items()}
    assert set(trainer.step(3)) == {"photometric", "landmark", "coefficient", "total"}
    assert changed() == {"confidence_net"}  # batch statistics of R-Net are frozen, too


def test_c_net_may_learn_from_labelled_sets(morphable):
    """New persons in each batch, turned farther than R-Net's renders; at first the error is that of plain means; then
    C-Net alone learns."""
    stages = {"encoder_iterations": 0, "head_renders": 0, "weak_iterations": 0, "confidence_iterations": 9}
    stages |= {"confidence_pictures": "renders", "confidence_learning_rate": 1e-3}
    data = {"photo_batch": 6, "photos_per_identity": 3}
    trainer = WeaklySupervisedTrainer(config(stages=stages, data=data, world={"persons": 0}), morphable, None)
    system = trainer.system
    for head in system.code_heads():
        torch.nn.init.normal_(head.weight, std=0.02)
    one, other = trainer.batch(0), trainer.batch(1)
    persons = torch.cat([one.identity[::3], other.identity[::3]])
    assert len(persons.unique(dim=0)) == 4 and torch.equal(one.identity[0], one.identity[2])
    many = trainer.set_renders.batch(torch.arange(60)).pose[:, 1].abs()
    assert 60 < math.degrees(float(many.max())) <= 80
    before = {name: value.clone() for name, value in system.state_dict().items()}
    terms = trainer.step(0)
    assert set(terms) == {"labelled_code", "total"}
    with torch.no_grad():
        means = system.eval().encode(one.image).codes.identity.view(2, 3, -1).mean(1)
    error = means - morphable.prior.whiten("identity", one.identity[::3])
    expected = trainer.objective.metric.shape_error(torch.nn.functional.pad(error, (0, system.expression_size))).mean()
    torch.testing.assert_close(terms["labelled_code"], expected, rtol=1e-4, atol=0)
    changed = {n.split(".")[0] for n, v in system.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {"confidence_net"}
    with pytest.MonkeyPatch.context() as patch:
        halves = []
        for process in range(2):  # each looks at its own sets
            patch.setattr(trainer, "_share", Share(process, 2))
            halves.append(trainer.batch(0).image)
    # the model's products are of other heights, which some machines sum in another order: 1e-7 each, and a pixel on an
    # edge may fall to the neighbour
    assert float((torch.cat(halves) - one.image).abs().mean()) < 1e-5
    trainer.batch = lambda iteration: one
    last = [trainer.step(1)["total"] for _ in range(8)][-1]
    assert float(last) < float(terms["total"])


def test_a_step_lowers_the_loss_of_its_batch(morphable):
    stages = {"encoder_iterations": 0, "head_renders": 0, "weak_iterations": 9, "confidence_iterations": 0}
    trainer = WeaklySupervisedTrainer(config(stages=stages | {"learning_rate": 1e-3}), morphable, None)
    first = trainer.step(0)["total"]
    for _ in range(6):
        last = trainer.step(0)["total"]
    assert float(last) < float(first)


def test_attention_decides_which_pixels_count(morphable, recogniser):
    """Masks of nothing leave no photometric error; without attention the whole model counts."""
    photos = RenderedPhotos(morphable, SIZE, SIZE, persons=2, pictures=2)
    totals = {}
    for attention in ("skin", "mask", "none"):
        trainer = WeaklySupervisedTrainer(config(weights={"attention": attention}), morphable, photos)
        batch = photos.batch(torch.arange(2))
        batch.mask.zero_()
        totals[attention] = float(trainer.objective("weak", batch)[1]["photometric"])
    assert totals["mask"] == 0.0 and totals["skin"] > 0 and totals["none"] > 0


def test_perception_reaches_the_network_and_needs_one(morphable, recogniser):
    settings = config(weights={"perception": 0.2, "confidence_perception": 0.1})
    with pytest.raises(ValueError, match="L_per needs a recognition network"):
        WeaklySupervisedTrainer(settings, morphable, None)
    trainer = WeaklySupervisedTrainer(settings, morphable, None, load_identity_network(recogniser))
    assert "perception" in trainer.step(1) and "perception" in trainer.step(3)
    frozen = {name for name, _ in trainer.objective.named_parameters()}
    assert not any("recogniser" in name for name in frozen)  # its weights are no part of the training
    assert trainer.sources()["recognition"].startswith("recognition-")
    network = load_identity_network(recogniser)
    network.identity = "recognition-of-somebody-else"
    other = WeaklySupervisedTrainer(settings, morphable, None, network)
    with pytest.raises(ValueError, match="another recognition network"):
        other.restore(trainer.checkpoint(1, resumable=True))


def test_networks_of_an_earlier_training_cannot_judge(morphable, recogniser, tmp_path):
    """A training that begins from weights that L_per has shaped says so, and so does what resumes it."""
    taught = config(weights={"perception": 0.2})
    WeaklySupervisedTrainer(taught, morphable, None, load_identity_network(recogniser)).checkpoint(
        1, resumable=False
    ).save(tmp_path / "taught.safetensors")
    begun = WeaklySupervisedTrainer(config(run={"start_from": str(tmp_path / "taught.safetensors")}), morphable, None)
    checkpoint = begun.checkpoint(0, resumable=True)
    checkpoint.save(tmp_path / "begun.safetensors")
    identity = load_identity_network(recogniser).identity
    assert load_trained(tmp_path / "begun.safetensors").recognitions == (identity,)
    again = WeaklySupervisedTrainer(config(), morphable, None)
    again.restore(checkpoint)
    assert again.checkpoint(0, resumable=False).plain["recognitions"] == [identity]
    assert begun.system.caution == again.system.caution == load(tmp_path / "taught.safetensors").caution != ""


@pytest.mark.parametrize(("sets", "stop"), [("photos", 2), ("photos", 3), ("renders", 4)])
def test_resumes_to_the_same_weights(morphable, sets, stop):
    settings = config(stages={"confidence_pictures": sets, "confidence_iterations": 2})
    assert_resumes(lambda: WeaklySupervisedTrainer(settings, morphable, None), stop, lambda trainer: trainer.system)


@pytest.fixture(scope="module")
def photos(tmp_path_factory, morphable) -> pathlib.Path:
    """Two persons, two photographs of each."""
    root = tmp_path_factory.mktemp("photos")
    for name in ("ann", "bob"):
        write_portraits(root / name, morphable, ["1", "2"], size=64, one_person=True)
    return root


def test_what_would_fail_after_a_long_training_fails_before(morphable, photos):
    """Pictures without a common person make no sets, and a model may have no region for L_tex."""
    folder = PhotoFolder(photos, identities="none", height=SIZE, width=SIZE)
    with pytest.raises(ValueError, match="nobody is on 2 photographs"):
        WeaklySupervisedTrainer(config(), morphable, folder)
    WeaklySupervisedTrainer(config(stages={"confidence_iterations": 0}), morphable, folder)
    bare = dataclasses.replace(morphable, regions={})
    with pytest.raises(ValueError, match="no region 'skin' for L_tex"):
        WeaklySupervisedTrainer(config(), bare, None)
    WeaklySupervisedTrainer(config(weights={"flattening": 0.0}), bare, None)


OPTIONS = [
    *("--system", "weakly-supervised", "--preset", "quick", "--model.num-vertices", "2500", "--model.image-size", "32"),
    *("--model.surface-points", "68", "--model.point-features", "2", "--stages.encoder-iterations", "1"),
    *("--stages.head-renders", "8", "--stages.weak-iterations", "1", "--stages.confidence-iterations", "1"),
    *("--data.labelled-batch", "4", "--data.photo-batch", "4", "--data.photos-per-identity", "2"),
    *("--run.validation-size", "4"),
]


def test_commands(tmp_path, capsys, photos):
    """Trained, loaded, measured, and two photographs of a person aggregated."""
    out = tmp_path / "run"
    assert main.main(["train", *OPTIONS, "--data.photos", str(photos), "--run.out", str(out)]) == 0
    assert "4 photographs of 2 known persons" in capsys.readouterr().out
    row = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert row["iteration"] == 3 and row["neutral_mm"] > 0
    checkpoint = out / "model.safetensors"
    system = systems.load(checkpoint)
    assert isinstance(system, WeaklySupervised) and system.confidence_net is not None
    held_out = ["evaluate", "held-out", "--checkpoint", str(checkpoint), "--count", "4", "--out", str(tmp_path / "e")]
    assert main.main(held_out) == 0
    person = ["reconstruct", str(photos / "ann"), "--checkpoint", str(checkpoint), "--detector", "none"]
    assert main.main([*person, "--refine", "2", "--out", str(tmp_path / "f")]) == 0
    assert np.isfinite(np.load(tmp_path / "f" / "1.npz")["landmarks_2d"]).all()
    capsys.readouterr()
    assert main.main([*person, "--aggregate", "--out", str(tmp_path / "a")]) == 0
    assert "from the aggregated one" in capsys.readouterr().out and (tmp_path / "a" / "aggregate.glb").is_file()
    for more, message in ((["--average"], "give one of them"), (["--refine", "3"], "leave --refine out")):
        assert main.main([*person, "--aggregate", *more, "--out", str(tmp_path / "b")]) == 2
        assert message in capsys.readouterr().err
    alone = ["reconstruct", str(photos / "ann" / "1.png"), *person[2:], "--aggregate", "--out", str(tmp_path / "b")]
    assert main.main(alone) == 2
    assert "--aggregate needs at least two pictures of a person" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(("light", "outputs"), [("white", 239), ("rgb", 257)])
def test_r_net_has_the_papers_outputs(morphable, light, outputs):
    """Deng et al.: 80 + 64 + 80 coefficients, 9 or 27 of light, 6 of pose; coloured light has its own term."""
    settings = config(model={"light": light}, stages={"encoder_iterations": 0, "head_renders": 0})
    trainer = WeaklySupervisedTrainer(settings, morphable, None)
    system = trainer.system
    heads = (*system.code_heads(), system.light_head, system.pose_head)
    coefficients = morphable.num_identity + morphable.num_expression + morphable.num_albedo
    assert sum(head.out_features for head in heads) - coefficients == outputs - (80 + 64 + 80)
    terms = trainer.step(0)
    assert ("light_color" in terms) == (light == "rgb") and torch.isfinite(terms["total"])
    assert trainer.system.light_head.weight.grad.any(1).all()  # every number of the light learns


def test_aggregation_needs_its_network(tmp_path, capsys, photos):
    person = ["reconstruct", str(photos / "ann"), "--detector", "none", "--aggregate", "--out", str(tmp_path / "a")]
    assert main.main(person) == 2
    assert "--aggregate needs a checkpoint of 'facecore train --system weakly-supervised'" in capsys.readouterr().err


def test_presets_state_the_papers_sizes():
    """METHODS 4: weights, camera, batch of 5, Adam 1e-4, C-Net with 2e-5 over 10K iterations."""
    paper = PRESETS["paper"]
    weights = paper.weights
    assert (weights.photometric, weights.landmark, weights.perception) == (1.9, 1.6e-3, 0.2)
    assert (weights.coefficient, weights.flattening, weights.confidence_perception) == (3e-4, 5.0, 0.1)
    assert (paper.model.focal, paper.model.distance_mm, paper.model.encoder_depth) == (1015.0, 1000.0, 50)
    assert (paper.data.photo_batch, paper.stages.learning_rate) == (5, 1e-4)
    assert (paper.stages.confidence_iterations, paper.stages.confidence_learning_rate) == (10_000, 2e-5)
    assert (paper.stages.encoder_iterations, paper.model.surface_points) == (0, 0)  # nothing beyond the paper


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stages.encoder-iterations", "0"], "--stages.head-renders are for the end"),
        (["--weights.landmark", "-1"], "--weights.landmark must be at least 0"),
        (["--weights.perception", "0.2"], "L_per needs a recognition network"),
        (["--model.recognition", "nowhere"], "--model.recognition has no effect"),
        (["--weights.perception-background", "photo"], "--weights.perception-background has no effect"),
        (["--model.recognition", "nowhere", "--weights.perception", "1"], "--model.recognition nowhere: no such file"),
        (["--model.distance-mm", "0"], "--model.distance-mm must be positive"),
        (["--model.surface-points", "0"], "--model.point-features are of surface points"),
        (["--model.surface-points", "9999"], "--model.surface-points must be 0 or from 68"),
        (["--data.photos-per-identity", "1"], "--data.photos-per-identity must be at least 2 for C-Net"),
        (["--data.photo-batch", "5"], "must be a multiple of --data.photos-per-identity"),
        (["--data.photos", ".", "--data.masks", "."], "--data.masks has no effect here"),
        (["--data.masks", "."], "--data.masks is of --data.photos"),
        (["--data.labelled", "."], "--data.labelled has no effect here"),
        (["--world.persons", "0"], "R-Net and C-Net learn from photographs"),
        (
            ["--stages.confidence-pictures", "renders", "--weights.labelled-code", "0"],
            "labelled_code must not all be 0",
        ),
        (
            [*("--stages.confidence-pictures", "renders"), *("--weights.confidence-perception", "1")],
            "--weights.confidence-perception has no effect here: C-Net learns from renders",
        ),
        (
            [*("--stages.confidence-pictures", "renders"), *("--stages.confidence-iterations", "0")],
            "--stages.confidence-pictures is of C-Net",
        ),
        (["--world.yaw", "91"], "--world.yaw must lie in [0, 90] degrees, got 91"),
        (["--data.photos", ".", "--world.yaw", "80"], "--world.yaw is of rendered persons, of whom there are none"),
        (["--world.persons", "0", "--data.photos", ".", "--world.yaw", "80"], "--world.yaw is of rendered persons"),
        (
            ["--stages.weak-iterations", "0", "--weights.perception", "1", "--weights.perception-background", "photo"],
            "--weights.perception-background has no effect here: no stage that looks at photographs has L_per",
        ),
        (["--world.pictures", "1"], "--world.pictures must be at least --data.photos-per-identity"),
        (["--data.landmarks", "."], "--data.landmarks is of --data.photos"),
        (["--data.photos", ".", "--weights.attention", "mask"], "give the masks of the photographs"),
        (["--stages.encoder-iterations", "0", "--stages.head-renders", "0"], "--stages.hold-statistics holds what"),
        (
            ["--weights.photometric", "0", "--weights.landmark", "0", "--weights.coefficient", "0"],
            "--weights: photometric, landmark, coefficient, confidence_perception must not all be 0",
        ),
        (["--data.no-unlabelled"], "R-Net and C-Net learn from photographs"),
    ],
)
def test_bad_usage_is_one_line(tmp_path, capsys, arguments, message):
    code = main.main(["train", *OPTIONS, "--run.out", str(tmp_path / "run"), *arguments])
    captured = capsys.readouterr()
    assert code == 2 and message in captured.err and len(captured.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
