"""Training of conditional estimation: stages, clips, resuming, checkpoints, commands."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import pytest
import torch
from tiny_clips import MODEL, make_conditional
from tiny_faces import write_portraits
from trainer_checks import assert_resumes

from facecore import systems
from facecore.cli import main
from facecore.data import Augmentation, PhotoFolder
from facecore.morphable import load as load_model
from facecore.nn.surface_points import cell_centers
from facecore.render import pixel_to_ndc
from facecore.systems.conditional_estimation import (
    ConditionalEstimation,
    canonical_crop,
    canonical_positions,
    pose_of,
)
from facecore.systems.conditional_estimation_config import PRESETS, ConditionalEstimationConfig
from facecore.systems.conditional_estimation_training import ConditionalEstimationTrainer
from facecore.systems.decoding import decode_albedo, decode_shape
from facecore.training.config import overlay

TINY = {
    "model": MODEL,
    "stages": {"warmup_iterations": 1, "iterations": 2},
    "data": {"labelled_batch": 4, "photo_batch": 8},
    "world": {"persons": 5, "pictures": 4},
    "run": {"validation_size": 4, "validate_every": 100, "checkpoint_every": 2, "log_every": 1},
}


@pytest.fixture(scope="module")
def morphable():
    return load_model("procedural", num_vertices=2500)


def config(**changes) -> ConditionalEstimationConfig:
    return overlay(overlay(ConditionalEstimationConfig(), TINY), changes)


def test_terms_and_weights(morphable):
    trainer = ConditionalEstimationTrainer(config(weights={"photometric": 0.5, "landmark": 3.0}), morphable, None)
    warmup, terms = trainer.step(0), trainer.step(1)
    torch.testing.assert_close(warmup["total"], warmup["labelled_shape"] + warmup["labelled_pose"])
    expected = 0.5 * terms["photometric"] + 3 * terms["landmark"] + 0.1 * terms["regularisation"]
    torch.testing.assert_close(terms["total"], expected)
    assert [trainer.warming_up(i) for i in range(3)] == [True, False, False]
    with pytest.raises(ValueError, match="training has 3 iterations, got 3"):
        trainer.warming_up(3)


def test_the_warm_up_trains_viewpoint_and_shape_alone(morphable):
    trainer = ConditionalEstimationTrainer(config(), morphable, None)
    before = {name: value.clone() for name, value in trainer.system.state_dict().items()}
    trainer.step(0)
    changed = {n.split(".")[0] for n, v in trainer.system.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {"viewpoint_network", "shape_network"}


def test_a_shape_network_that_finds_points(morphable):
    """It learns them where its canonical crops show them, is solved at the end of the warm-up, and hardly moves on
    clips; the viewpoint network moves as slowly."""
    model = {"shape_network": "point-reader", "surface_points": 70, "point_features": 2}
    stages = {"head_renders": 32, "taught_rate": 0.01, "head_rate": 0.01}
    trainer = ConditionalEstimationTrainer(config(model=model, stages=stages), morphable, None)
    system, objective = trainer.system, trainer.objective
    batch = trainer.renders.batch(torch.arange(4, 36))  # those on which the layer is solved

    def error() -> float:
        with torch.no_grad():
            whitened = system.eval().estimate_shape(batch.image, system.estimate_viewpoint(batch.image))
            return float(objective.metric.shape_error(whitened - objective.truth(batch)).mean())

    found = objective.labelled_terms(batch)["surface_points"]
    viewpoint = list(system.viewpoint_network.parameters())
    # the crop is where the viewpoint puts it: it must not move so that wrong points come to lie right
    assert torch.autograd.grad(found, viewpoint, allow_unused=True, retain_graph=True) == (None,) * len(viewpoint)
    terms = trainer.step(0)
    weights = trainer.config.weights
    expected = terms["labelled_shape"] + terms["labelled_pose"] + terms["surface_points"] + weights.turn * terms["turn"]
    torch.testing.assert_close(terms["total"], expected)
    assert error() < 0.9 * float(terms["labelled_shape"]) and bool(system.shape_network.correction.weight.any())
    before = {name: value.detach().clone() for name, value in system.named_parameters()}
    trainer.step(1)
    moved = {name: float((value.detach() - before[name]).abs().max()) for name, value in system.named_parameters()}
    rate, most = trainer.learning_rate(1), 4.0  # Adam's first steps move a weight by some times its rate at most
    for name, distance in moved.items():
        factor = 1e-4 if "shape_network.head" in name else 1e-2 if name.startswith(("viewpoint", "shape")) else 1.0
        assert distance <= most * factor * rate, name
    for name in ("shape_network.head.weight", "shape_network.encoder.conv1.weight"):
        assert moved[name] > 0, name
    assert moved["shape_network.correction.weight"] == 0


def test_points_are_where_canonical_crops_show_them(morphable):
    """A crop of a render by its own pose shows the mean face's points where the network expects them."""
    model = {"shape_network": "point-reader", "surface_points": 70, "point_features": 2}
    trainer = ConditionalEstimationTrainer(config(model=model), morphable, None)
    system, batch = trainer.system, trainer.renders.batch(torch.arange(3))
    prior = morphable.prior
    mean = dataclasses.replace(
        batch, identity=prior.identity_mean.expand(3, -1), expression=prior.expression_mean.expand(3, -1)
    )
    nothing = batch.pose.new_zeros(3, 1)
    viewpoint = torch.cat([batch.pose[:, :3], batch.pose[:, 4:6], nothing, batch.pose[:, 3:4]], 1)
    assert torch.equal(pose_of(viewpoint), batch.pose)
    found = trainer.objective.positions(mean, viewpoint)
    torch.testing.assert_close(found, system.shape_network.expected(batch.pose[:, :2]), rtol=0, atol=1e-4)
    # and the crop itself moves a bright dot there
    size = system.config.image_size
    row, column = 11, 20
    image = torch.zeros(3, 3, size, size)
    image[:, :, row - 1 : row + 2, column - 1 : column + 2] = 1.0
    dot = pixel_to_ndc(torch.tensor([[column + 0.5, row + 0.5]]).expand(3, 1, 2), size, size)
    crop = canonical_crop(image, batch.pose)[:, 0]
    expected = canonical_positions(dot, batch.pose)[:, 0]
    centers = cell_centers(size, size, like=crop)
    seen = (crop.flatten(1)[..., None] * centers).sum(1) / crop.flatten(1).sum(1, keepdim=True)
    torch.testing.assert_close(seen, expected, rtol=0, atol=1 / size)  # half a pixel: the dot is resampled


def test_a_step_lowers_the_loss_of_its_batch(morphable):
    trainer = ConditionalEstimationTrainer(config(), morphable, None)
    first = trainer.step(1)["total"]
    for _ in range(10):
        last = trainer.step(1)["total"]
    assert float(last) < float(first)


def write_clips(root: pathlib.Path, morphable) -> pathlib.Path:
    for name in ("first", "second"):
        write_portraits(root / name, morphable, ["1", "2", "3"], size=64, one_person=True)
    write_portraits(root, morphable, ["alone"], size=64)
    return root


def open_folder(root: pathlib.Path) -> PhotoFolder:
    return PhotoFolder(root, height=32, width=32, seed=0, augmentation=Augmentation(mirror=0.0))


POINTS = {
    "model": {"shape_network": "point-reader", "surface_points": 70, "point_features": 2},
    "stages": {"head_renders": 8, "taught_rate": 0.1},
}


@pytest.mark.parametrize(("changes", "stop"), [({}, 2), (POINTS, 1)])
def test_folders_are_clips_and_training_resumes_to_the_same_weights(tmp_path, morphable, changes, stop):
    """With points: stopped right after the last layer was solved."""
    root = write_clips(tmp_path, morphable)

    def make() -> ConditionalEstimationTrainer:
        return ConditionalEstimationTrainer(config(**changes), morphable, open_folder(root))

    batch, exchange = make().batch(1)
    assert len(batch) == 8 and len(exchange.frame) == 16
    clip = batch.identity
    straight = exchange.source[:8]
    assert torch.equal(clip[straight], clip) and bool(((straight != torch.arange(8)) | (clip < 0)).all())
    assert_resumes(make, stop, lambda trainer: trainer.system)


@pytest.mark.parametrize("coupled", [True, False])
def test_a_checkpoint_is_all_that_is_needed(tmp_path, morphable, coupled):
    trainer = ConditionalEstimationTrainer(config(model={"coupled": coupled}), morphable, None)
    for iteration in range(3):
        trainer.step(iteration)
    trainer.checkpoint(3, resumable=False).save(tmp_path / "model.safetensors")
    errors = trainer.validate()
    assert errors["shape_mm"] > 0 and trainer.picture_grid().shape == (3, 4 * 32, 8 * 32)
    system = systems.load(tmp_path / "model.safetensors")
    assert isinstance(system, ConditionalEstimation)
    images = trainer.held_out.batch(torch.arange(2)).image
    face, expected = system.reconstruct(images), trainer.system.reconstruct(images)
    for name in ("vertices", "neutral_vertices", "albedo", "pose", "sh_coefficients"):
        assert torch.equal(getattr(face, name), getattr(expected, name)), name
    assert face.texture.image.shape == (2, 3, 32, 32) and face.texture.uv.shape == (morphable.num_vertices, 2)
    # codes are the model's own coefficients
    torch.testing.assert_close(decode_shape(system, face.codes), face.vertices)
    torch.testing.assert_close(decode_shape(morphable, face.codes), face.vertices)
    torch.testing.assert_close(morphable.shape(face.codes["identity"]), face.neutral_vertices)
    with pytest.raises(ValueError, match="makes a texture from the picture"):
        decode_albedo(system, face.codes)
    with pytest.raises(ValueError, match="eval"):
        system.train().reconstruct(images)


def test_a_damaged_checkpoint_is_one_line(tmp_path, morphable):
    trainer = ConditionalEstimationTrainer(config(), morphable, None)
    checkpoint = trainer.checkpoint(0, resumable=False)
    del checkpoint.tensors["assets"]["identity_basis"]
    checkpoint.save(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="is damaged or of another version"):
        systems.load(tmp_path / "model.safetensors")


def test_bad_settings(morphable):
    with pytest.raises(ValueError, match=r"there are no clips: give data\.photos, or world\.persons"):
        ConditionalEstimationTrainer(config(world={"persons": 0}), morphable, None)
    with pytest.raises(ValueError, match=r"data.photo_batch must be a multiple of 4, .* got 6"):
        ConditionalEstimationTrainer(config(data={"photo_batch": 6}), morphable, None)
    with pytest.raises(ValueError, match="size must be a multiple of 32, got 40"):
        make_conditional(morphable, image_size=40)


def test_presets_state_the_papers_sizes():
    """METHODS 5: 256 pixels, 32 clips of 4 frames, 50k iterations, Adam 1e-3, lambda 1 and 0.1, no labels."""
    paper = PRESETS["paper"]
    assert (paper.model.image_size, paper.model.texture_size, paper.model.width) == (256, 256, 1.0)
    assert (paper.data.photo_batch, paper.data.photos_per_identity) == (128, 4)
    assert (paper.stages.iterations, paper.stages.warmup_iterations, paper.stages.learning_rate) == (50_000, 0, 1e-3)
    weights = paper.weights
    assert (weights.photometric, weights.landmark, weights.regularisation) == (1.0, 1.0, 0.1)
    assert (weights.constraint, weights.flip_source, weights.exchange) == ("both", "i", "stochastic")


OPTIONS = [
    *("train", "--system", "conditional-estimation", "--model.width", "0.0625", "--model.num-vertices", "2500"),
    *("--model.image-size", "32", "--model.texture-size", "32", "--stages.warmup-iterations", "1"),
    *("--stages.iterations", "1", "--data.photo-batch", "8", "--data.labelled-batch", "4"),
    *("--stages.head-renders", "8", "--model.surface-points", "68", "--model.point-features", "1"),
    *("--run.validation-size", "2"),
]


def test_commands(tmp_path, capsys, morphable):
    """Trained on folders, loaded, measured, reconstructed and relit."""
    photos, out = write_clips(tmp_path / "clips", morphable), tmp_path / "run"
    assert main.main([*OPTIONS, "--data.photos", str(photos), "--run.out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "7 frames, 2 clips" in printed and "with itself" not in printed
    checkpoint = str(out / "model.safetensors")
    held_out = ["evaluate", "held-out", "--checkpoint", checkpoint, "--count", "2", "--out", str(tmp_path / "e")]
    assert main.main(held_out) == 0
    results = json.loads((tmp_path / "e" / "results.json").read_text())
    assert results["settings"]["config_hash"] == json.loads((out / "metrics.jsonl").read_text())["config_hash"]
    pictures = [str(photos / "first" / f"{number}.png") for number in (1, 2)]
    common = ["--checkpoint", checkpoint, "--detector", "none"]
    assert main.main(["reconstruct", pictures[0], *common, "--out", str(tmp_path / "f")]) == 0
    assert {"1.glb", "1.obj", "1_texture.png", "1.npz"} <= {path.name for path in (tmp_path / "f").iterdir()}
    relit = ["transfer", "--identity", pictures[0], "--driver", pictures[1], *common, "--out", str(tmp_path / "t")]
    assert main.main(relit) == 0


def test_frames_that_are_alone_are_said(tmp_path, capsys, morphable):
    write_portraits(tmp_path / "photos", morphable, ["1", "2"], size=64)
    arguments = [*OPTIONS, "--data.photos", str(tmp_path / "photos"), "--run.out", str(tmp_path / "run")]
    assert main.main(arguments) == 0
    assert (
        "every clip has one frame in a batch: each frame exchanges its reflectance with itself"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stages.warmup-iterations", "0", "--stages.iterations", "0"], "--stages: iterations must not all be 0"),
        (["--model.texture-size", "40"], "--model.texture-size must be a multiple of 32, got 40"),
        (["--world.persons", "0"], "there are no clips; give a folder, or --world.persons"),
        (["--world.persons", "0", "--data.photos", "."], "--world.steady-light is of rendered persons"),
        (["--data.photo-batch", "6"], "--data.photo-batch must be a multiple of 4"),
        (["--weights.landmark", "-1"], "--weights.landmark must be at least 0"),
        (
            ["--weights.photometric", "0", "--weights.landmark", "0", "--weights.regularisation", "0"],
            "photometric, landmark, regularisation must not all be 0",
        ),
        (["--weights.constraint", "none", "--weights.flip-source", "j"], "--weights.constraint is none"),
        (["--weights.constraint", "symmetry", "--weights.exchange", "all"], "--weights.exchange has no effect here"),
        (["--weights.exchange", "all", "--weights.flip-source", "j"], "--weights.flip-source has no effect here"),
        (["--weights.photometric", "0", "--weights.constraint", "none"], "--weights.photometric is 0"),
        (["--weights.regularisation", "0", "--weights.reg-reduction", "sum"], "--weights.regularisation is 0"),
        (["--model.no-coupled", "--model.detach-crop"], "--model.detach-crop has no effect here"),
        (
            ["--stages.warmup-iterations", "0", "--stages.head-renders", "0", "--weights.labelled-pose", "2"],
            "--stages.warmup-iterations is 0",
        ),
        (["--stages.warmup-iterations", "0"], "--stages.head-renders are for the end of the warm-up"),
        (["--model.shape-network", "strided"], "give --stages.head-renders 0 and --stages.head-rate 1"),
        (["--model.surface-points", "60"], "--model.surface-points must be at least 68"),
        (["--data.no-unlabelled"], "--data.unlabelled has no effect here"),
        (["--world.labelled-modes", "1000"], "--world.labelled-modes must be at most"),
    ],
)
def test_bad_usage_is_one_line(tmp_path, capsys, arguments, message):
    code = main.main([*OPTIONS, "--run.out", str(tmp_path / "run"), *arguments])
    captured = capsys.readouterr()
    assert code == 2 and message in captured.err and len(captured.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
