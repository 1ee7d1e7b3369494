"""System 2: cameras, terms by hand, stages, C-Net, and what commands make of its checkpoint."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib

import numpy as np
import pytest
import torch
from tiny_faces import write_portraits
from trainer_checks import assert_resumes

from facecore import systems
from facecore.cli import main
from facecore.data import LabelledRenders, PhotoFolder, RenderedPhotos, five_points
from facecore.evaluation.alignment import vertex_error
from facecore.evaluation.held_out import evaluate_held_out
from facecore.morphable import load as load_model
from facecore.nn import ConfidenceNet, RecognitionNet, aggregate
from facecore.perception import load_identity_network
from facecore.render import WeakPerspectiveCamera
from facecore.systems import weakly_supervised_ablation
from facecore.systems.aggregation import aggregate_faces
from facecore.systems.network_export import export_network
from facecore.systems.weakly_supervised import WeakCodes, WeaklySupervised
from facecore.systems.weakly_supervised_ablation import ablation
from facecore.systems.weakly_supervised_config import PRESETS, WeaklySupervisedConfig, WeakModelConfig, WeakWeights
from facecore.systems.weakly_supervised_losses import (
    coefficient_term,
    landmark_term,
    light_color_term,
    perception_term,
    picture_terms,
)
from facecore.systems.weakly_supervised_training import WeaklySupervisedTrainer
from facecore.training.config import overlay
from facecore.training.distributed import Share

SIZE = 32
TINY = {
    "model": {
        "num_vertices": 2500,
        "image_size": SIZE,
        "encoder_depth": 18,
        "surface_points": 68,
        "point_features": 2,
        "confidence_width": 4,
    },
    "weights": {"perception": 0.0, "confidence_perception": 0.0},
    "stages": {"encoder_iterations": 1, "head_renders": 8, "weak_iterations": 2, "confidence_iterations": 1},
    "data": {"labelled_batch": 4, "photo_batch": 4, "photos_per_identity": 2},
    "world": {"persons": 3, "pictures": 4},
    "run": {"validation_size": 4, "validate_every": 100, "checkpoint_every": 2, "log_every": 1},
}


@pytest.fixture(scope="module")
def morphable():
    return load_model("procedural", num_vertices=2500)


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory):
    """An untrained network, as a manifest."""
    torch.manual_seed(3)
    described = {
        "role": "recognition",
        "architecture": "small-recognition",
        "options": {},
        "input_size": [112, 112],
        "outputs": {"embed": "embed", "pooled": "pooled"},
    }
    network = RecognitionNet().eval()
    return export_network(network, tmp_path_factory.mktemp("network"), photographs=False, **described)


def config(**changes) -> WeaklySupervisedConfig:
    return overlay(overlay(WeaklySupervisedConfig(), TINY), changes)


def make_system(morphable, seed: int = 0, **model) -> WeaklySupervised:
    """Random heads: every code differs from picture to picture."""
    torch.manual_seed(seed)
    settings = overlay(WeakModelConfig(), TINY["model"] | {"surface_points": 0, "point_features": 0} | model)
    system = WeaklySupervised(settings, morphable)
    for head in (*system.code_heads(), system.light_head, system.pose_head, system.confidence_net.head):
        torch.nn.init.normal_(head.weight, std=0.05)
    return system.eval()


def pictures(morphable, count: int) -> torch.Tensor:
    return LabelledRenders(morphable, SIZE, SIZE, seed=5).batch(torch.arange(count)).image


def test_a_new_system_says_the_mean_face(morphable):
    """All heads start at 0: whitened 0 is the prior's mean, and the camera is straight ahead at its distance."""
    system = WeaklySupervised(overlay(WeakModelConfig(), TINY["model"]), morphable).eval()
    face = system.reconstruct(pictures(morphable, 2))
    torch.testing.assert_close(face.vertices, morphable.mean_shape().expand_as(face.vertices), rtol=0, atol=1e-4)
    assert float(face.pose[:, :3].abs().max()) == 0.0
    # focal 1015 at 224 pixels, 1000 mm away: 100 mm are 2 * 1015 / 224 / 1000 * 100 of NDC (METHODS 1.3)
    scale = 0.8 * face.pose[:, 3].exp()
    torch.testing.assert_close(scale, torch.full((2,), 2 * 1015 / 224 / 10), rtol=1e-5, atol=0)


def test_perspective_cameras_and_their_weak_equivalent(morphable):
    """At 10 m the rays are nearly parallel: both cameras agree within the depth of a face over the distance; the shift
    in depth changes the size as size_in_picture says."""
    system = make_system(morphable, focal=10150.0, distance_mm=10_000.0)
    pose = torch.tensor([[0.1, -0.4, 0.05, 0.2, -0.1, 0.0], [0.0, 0.3, 0.0, 0.0, 0.1, 2.0]])
    points = morphable.mean_shape()[None].expand(2, -1, -1)
    camera = system.camera(pose)
    weak = WeakPerspectiveCamera.from_pose(camera.weak_perspective_pose(), SIZE, SIZE)
    # a face is 100 mm deep on either side of its origin, of 8 m at least: 1.3 % of a face that fills the picture
    torch.testing.assert_close(camera.ndc(points), weak.ndc(points), rtol=0, atol=0.02)
    ratio = camera.weak_perspective_pose()[1, 3].exp() / camera.weak_perspective_pose()[0, 3].exp()
    torch.testing.assert_close(ratio, system.size_in_picture(pose)[1] / system.size_in_picture(pose)[0])
    larger = system.camera(pose, 64, 64)
    torch.testing.assert_close(larger.project(points), 2 * camera.project(points), rtol=1e-5, atol=1e-3)


def test_terms_by_hand(morphable):
    photos = RenderedPhotos(morphable, SIZE, SIZE, persons=1, pictures=2).batch(torch.arange(2))
    # 32 pixels stand for 224: one pixel off is 7, squared 49, at all 68 points; nose and inner lips 20-fold
    off = photos.landmarks + torch.tensor([1.0, 0.0])
    torch.testing.assert_close(landmark_term(off, photos, SIZE), torch.tensor(49.0 * (57 + 11 * 20) / 68))
    unknown = torch.zeros_like(photos.landmark_weight)
    five = five_points(photos.landmarks)
    fives = dataclasses.replace(photos, landmark_weight=unknown, five_points=five, five_point_weight=torch.ones(2, 5))
    torch.testing.assert_close(landmark_term(off, fives, SIZE), torch.tensor(49.0))
    ones = torch.ones(2, 3)
    codes = WeakCodes(ones, 2 * ones, 10 * ones, torch.zeros(2, 27), torch.zeros(2, 6))
    torch.testing.assert_close(coefficient_term(codes), torch.tensor(3 + 0.8 * 12 + 1.7e-3 * 300))
    codes.light = torch.tensor([[0.0, 0.3, 0.6] + 24 * [0.0]])
    torch.testing.assert_close(light_color_term(codes), torch.tensor(2 * 0.09 / 27))


def test_perception_is_zero_for_the_same_face_and_skips_unknown_points(morphable, recogniser):
    network = load_identity_network(recogniser)
    photos = RenderedPhotos(morphable, 64, 64, persons=2, pictures=1).batch(torch.arange(2))
    same = perception_term(network, photos.image, photos.landmarks, photos)
    assert abs(float(same)) < 1e-5  # one minus a cosine of 1, float32
    swapped = photos.image.flip(0)
    assert float(perception_term(network, swapped, photos.landmarks.flip(0), photos)) > 1e-4
    none = dataclasses.replace(photos, landmark_weight=torch.zeros(2, 68))
    assert float(perception_term(network, swapped, photos.landmarks, none)) == 0.0


def test_what_perception_sees_behind_the_face(morphable, recogniser):
    """A face that shows the photograph's own pixels: nothing is left over the photograph, black around it is."""
    network = load_identity_network(recogniser)
    photos = RenderedPhotos(morphable, 64, 64, persons=2, pictures=1).batch(torch.arange(2))
    system = make_system(morphable, image_size=64)
    camera = system.camera(torch.zeros(2, 6))
    true = dataclasses.replace(photos, landmarks=camera.project(system(photos.image).vertices[:, system.landmarks68]))
    estimate = dataclasses.replace(system(photos.image), camera=camera)
    rendering = system.render(estimate)
    drawn = dataclasses.replace(rendering, image=rendering.alpha[:, None] * photos.image)
    terms = {
        behind: picture_terms(
            system, estimate, drawn, true, WeakWeights(attention="none", perception_background=behind), network
        )
        for behind in ("black", "photo")
    }
    assert abs(float(terms["photo"]["perception"])) < 1e-5 < 1e-4 < float(terms["black"]["perception"])
    assert terms["photo"]["photometric"].equal(terms["black"]["photometric"])


def test_confidence_net_has_the_papers_size():
    network = ConfidenceNet(256, 2048, 80)
    assert sum(parameter.numel() for parameter in network.parameters()) == 2_991_440  # METHODS 4
    value = network(torch.rand(3, 256, 56, 56), torch.rand(3, 2048))
    assert torch.equal(value, torch.full((3, 80), 0.5))  # it starts as the plain average
    with pytest.raises(ValueError, match="at least 1"):
        ConfidenceNet(4, 4, 0)


def test_confidences_that_underflow_give_no_nan():
    values, confidence = torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1)
    assert bool(torch.isfinite(aggregate(values, confidence)).all())


def test_aggregation_by_hand():
    """Two pictures, two coefficients: (1 * 1 + 3 * 3) / 4, (2 * 2 + 2 * 4) / 4; a scalar counts for both."""
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    confidence = torch.tensor([[1.0, 2.0], [3.0, 2.0]])
    assert aggregate(values, confidence).tolist() == [2.5, 3.0]
    assert aggregate(values, torch.tensor([[1.0], [3.0]])).tolist() == [2.5, 3.5]
    assert torch.equal(aggregate(values, torch.full((2, 2), 0.5)), values.mean(0))


@pytest.mark.parametrize("kind", ["elementwise", "scalar"])
def test_sets_share_one_identity(morphable, kind):
    system = make_system(morphable, confidence=kind)
    images = pictures(morphable, 3)
    faces, confidence = system.reconstruct_set(images)
    single = system.reconstruct(images)
    assert confidence.shape == (3, morphable.num_identity if kind == "elementwise" else 1)
    assert bool(((confidence > 0) & (confidence < 1)).all()) and float(confidence.std()) > 0
    assert torch.equal(faces.neutral_vertices[0], faces.neutral_vertices[2])
    expected = aggregate(single.codes["identity"], confidence)
    torch.testing.assert_close(faces.codes["identity"][1], expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(faces.codes["expression"], single.codes["expression"])
    # the joined face of the command is the same, and as far from each single one as is said
    joined = aggregate_faces(system, single, images)
    torch.testing.assert_close(joined.reconstruction.neutral_vertices[0], faces.neutral_vertices[0], rtol=0, atol=1e-3)
    apart = (single.neutral_vertices - faces.neutral_vertices).square().sum(-1).mean(-1).sqrt()
    torch.testing.assert_close(joined.neutral_distance_mm, apart, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(joined.confidence, confidence.mean(1))
    with pytest.raises(ValueError, match="at least one picture"):
        system.reconstruct_set(images[:0])


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
    assert torch.equal(torch.cat(halves), one.image)
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


def test_double_precision_and_depth(morphable):
    """In float64 as in float32; no shift in depth leaves the planes between which faces are drawn."""
    system, images = make_system(morphable), pictures(morphable, 2)
    expected = system.reconstruct(images).vertices
    exact = system.double().reconstruct(images.double())
    torch.testing.assert_close(exact.vertices.float(), expected, rtol=0, atol=0.01)  # mm; float32 networks
    pose = torch.zeros(2, 6, dtype=torch.float64)
    pose[:, 5] = torch.tensor([1000.0, -1000.0])
    camera = system.camera(pose)
    depth = -camera.translation[:, 2]
    assert camera.near < float(depth.min()) and float(depth.max()) < camera.far
    assert bool(torch.isfinite(camera.weak_perspective_pose()).all())


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


def test_aggregation_needs_its_network(tmp_path, capsys, photos):
    person = ["reconstruct", str(photos / "ann"), "--detector", "none", "--aggregate", "--out", str(tmp_path / "a")]
    assert main.main(person) == 2
    assert "--aggregate needs a checkpoint of 'facecore train --system weakly-supervised'" in capsys.readouterr().err


def test_ablation_measures_what_its_claims_compare(morphable, monkeypatch, recogniser):
    """Each variant's settings make a configuration; renders turn as far as the photographs."""
    experiment = ablation(PRESETS["ablation"])
    for settings in (experiment.warmup, *experiment.variants.values()):
        overlay(PRESETS["ablation"], dict(settings))
    monkeypatch.setattr(weakly_supervised_ablation, "FIT_STEPS", 2)
    trainer = WeaklySupervisedTrainer(config(world={"yaw": 80.0}), morphable, None)
    assert trainer.photos.renders.yaw == 80
    of_sets = weakly_supervised_ablation.measure(trainer, persons=2)
    trainer.system.confidence_net = None
    measures = weakly_supervised_ablation.measure(trainer, count=4)
    assert {name for c in experiment.comparisons for name in (c.measure, c.worse_measure)} <= {*of_sets, *measures}
    system, world = trainer.system, trainer.world
    turned = LabelledRenders(world, SIZE, SIZE, trainer.held_out.seed, yaw=80.0)
    assert measures["shading"] == evaluate_held_out(system.reconstruct, world, turned, trainer.baseline, 4)["shading"]
    assert measures["shading"] != trainer.validate()["shading"]


def test_codes_are_fitted_by_the_losses_of_the_training(morphable, recogniser):
    """They begin with what R-Net says and come nearer to the truth; from the mean face the prior moves nothing, L_per
    does; and nothing of the network moves."""
    renders = LabelledRenders(morphable, 64, 64, seed=9, occluders=0.0, yaw=5.0)
    prior = dict.fromkeys(("photometric", "landmark", "flattening", "perception"), 0.0)

    def fitted(steps: int, spread: float, **weights: float) -> float:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(weakly_supervised_ablation, "FIT_STEPS", steps)
            settings = config(
                model={"image_size": 64, "focal": 10150.0, "distance_mm": 10_000.0},  # as the renders' parallel rays
                weights={"perception": 0.0} | weights,
            )
            trainer = WeaklySupervisedTrainer(settings, morphable, None, load_identity_network(recogniser))
            torch.nn.init.normal_(trainer.system.identity_head.weight, std=spread)
            trainer.system.eval()
            before = {name: value.clone() for name, value in trainer.system.state_dict().items()}
            error = weakly_supervised_ablation.fitted_error(trainer, renders, 6)
            assert all(value.equal(before[name]) for name, value in trainer.system.state_dict().items())
            if not steps:
                batch = renders.batch(torch.arange(6))
                said = trainer.system.reconstruct(batch.image).neutral_vertices
                assert error == pytest.approx(float(vertex_error(said, morphable.shape(batch.identity)).mean()))
            return error

    said, mean = fitted(0, 0.02), fitted(0, 0.0)
    assert said > 1.02 * mean
    assert fitted(15, 0.0, **prior) == pytest.approx(mean, rel=1e-6)
    assert fitted(3, 0.0, **prior | {"perception": 1.0}) != pytest.approx(mean, rel=1e-4)
    assert fitted(60, 0.0) < 0.85 * mean  # 0.76 was seen


def test_sets_are_weighed_by_confidence(morphable, monkeypatch):
    """An untrained C-Net trusts all pictures alike, so its set is the plain mean's; a trained one's is not."""
    trainer = WeaklySupervisedTrainer(config(), morphable, None)
    trainer.step(0)  # codes that differ from picture to picture
    trainer.system.eval()
    plain = weakly_supervised_ablation.set_errors(trainer, 2)
    assert plain["aggregated_mm"] == pytest.approx(plain["average_mm"], rel=1e-5)
    assert plain["trust_at_0"] == plain["trust_at_80"] == pytest.approx(1.0)
    with torch.no_grad():
        for parameter in trainer.system.confidence_net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    other = weakly_supervised_ablation.set_errors(trainer, 2)
    assert other["average_mm"] == pytest.approx(plain["average_mm"], rel=1e-6)
    assert other["aggregated_mm"] != pytest.approx(plain["aggregated_mm"], rel=1e-5)
    assert other["trust_at_80"] != pytest.approx(1.0, rel=1e-4)
    # by hand, of the first person: the frontal picture's share of what a set of five has
    monkeypatch.setattr(trainer.system, "confidence", lambda maps: torch.tensor([1.0, 1.0, 4.0, 1.0, 1.0])[:, None])
    assert weakly_supervised_ablation.set_errors(trainer, 1)["trust_at_0"] == pytest.approx(4 / 1.6)


def test_ablate_command_needs_a_recognition_network(tmp_path, capsys):
    command = ["ablate", "--system", "weakly-supervised", "--out", str(tmp_path / "a")]
    assert main.main([*command, "--list"]) == 0
    assert "perception alone" in capsys.readouterr().out
    assert main.main(command) == 2
    assert "L_per needs a recognition network" in capsys.readouterr().err and not (tmp_path / "a").exists()


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
