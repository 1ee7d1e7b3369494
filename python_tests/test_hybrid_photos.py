"""The hybrid stage with photographs: every term of the unlabelled half, persons, exact resumption."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import torch
from PIL import Image
from test_semi_supervised import overlay_values

from facecore.data import LabelledRenders, PhotoFolder
from facecore.morphable import load as load_model
from facecore.systems.semi_supervised_config import PRESETS
from facecore.systems.semi_supervised_training import SemiSupervisedTrainer
from facecore.training.config import overlay

SIZE = 32
HYBRID = 0  # the first iteration: the other stages are off
FIVE = (range(36, 42), range(42, 48), [30], [48], [54])  # eyes (their mean), nose tip, mouth corners


@pytest.fixture(scope="module")
def morphable():
    return load_model("procedural", num_vertices=2500)


@pytest.fixture(scope="module")
def folder(morphable, tmp_path_factory) -> pathlib.Path:
    """Persons a (3 pictures, one with five points only) and b (2), and one picture of nobody known."""
    root = tmp_path_factory.mktemp("photos")
    batch = LabelledRenders(morphable, 96, 96, seed=5).batch(torch.arange(6))
    for i, name in enumerate(("a/1", "a/2", "a/3", "b/1", "b/2", "alone")):
        path = root / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = (batch.image[i].permute(1, 2, 0) * 255).round().byte().numpy()
        Image.fromarray(pixels).save(path)
        points = batch.landmarks[i].numpy() - 0.5  # text files hold pixel indices
        if name == "a/3":
            points = np.stack([points[list(rows)].mean(0) for rows in FIVE])
        path.with_suffix(".txt").write_text("\n".join(f"{x} {y}" for x, y in points))
    return root


@pytest.fixture
def trainer(morphable, folder):
    return make_trainer(morphable, folder)


def make_trainer(morphable, folder, workers: int | None = None) -> SemiSupervisedTrainer:
    stages = {"decoder_iterations": 0, "encoder_iterations": 0, "warmup_iterations": 0, "hybrid_iterations": 6}
    values = overlay_values("unused", stages)
    values["data"] |= {"photo_batch": 4, "workers": workers}
    config = overlay(PRESETS["quick"], values)
    return SemiSupervisedTrainer(config, morphable, PhotoFolder(folder, height=SIZE, width=SIZE))


def test_step_counts_both_halves_and_reports_every_term(trainer):
    terms = trainer.step(HYBRID)
    assert {"recognition", "reconstruction", "landmark", "surface_points", "adversarial"} <= set(terms)
    assert all(bool(value.isfinite()) for value in terms.values())
    assert trainer.images_in(HYBRID) == 8


def test_recognition_reaches_the_encoder(trainer):
    """L_recog alone has a gradient in the identity head, the encoder under it and the classifier."""
    photos = trainer.objective._photos(HYBRID)
    codes = trainer.system.encode(photos.image).codes
    loss = trainer.identity_loss(codes.identity, photos.identity, 0.003)
    system = trainer.system
    inputs = [system.identity_head.weight, system.encoder.conv1.weight, trainer.identity_loss.classifier.weight]
    assert all(float(gradient.abs().max()) > 0 for gradient in torch.autograd.grad(loss, inputs))


def test_centres_follow_the_persons_and_nobody_else(trainer):
    before = trainer.identity_loss.center.centers.clone()
    trainer.step(HYBRID)
    moved = (trainer.identity_loss.center.centers != before).any(1)
    present = set(trainer.objective._photos(HYBRID).identity.tolist()) - {-1}
    assert set(moved.nonzero()[:, 0].tolist()) == present


def test_the_unlabelled_half_changes_what_is_learned(trainer, morphable):
    """The same iteration without photographs ends elsewhere: the terms of the photographs pull on the weights."""
    alone = SemiSupervisedTrainer(trainer.config, morphable, None)
    name = "shape_decoder"
    for one in (trainer, alone):
        one.step(HYBRID)
    pairs = zip(trainer.system.get_submodule(name).parameters(), alone.system.get_submodule(name).parameters())
    assert any(not a.equal(b) for a, b in pairs)
    assert alone.images_in(HYBRID) == 4 and alone.identity_loss is None


def test_resumes_to_the_bit(trainer, morphable, folder):
    for iteration in range(2):
        trainer.step(iteration)
    checkpoint = trainer.checkpoint(2, resumable=True)
    checkpoint.tensors = {group: {n: t.clone() for n, t in part.items()} for group, part in checkpoint.tensors.items()}
    resumed = make_trainer(morphable, folder)
    assert resumed.restore(checkpoint) == 2
    for iteration in range(2, 4):
        expected, result = trainer.step(iteration), resumed.step(iteration)
        assert {name: float(v) for name, v in expected.items()} == {name: float(v) for name, v in result.items()}
    for (name, a), b in zip(trainer.system.state_dict().items(), resumed.system.state_dict().values()):
        assert a.equal(b), name
    assert trainer.identity_loss.center.centers.equal(resumed.identity_loss.center.centers)


def test_pictures_of_a_grid_show_renders_and_photographs(trainer):
    grid = trainer.picture_grid()
    assert grid.shape == (3, 4 * SIZE, 8 * SIZE)  # input, overlay, albedo, shading; four renders, four photographs
    assert 0 <= float(grid.min()) and float(grid.max()) <= 1


def test_photographs_loaded_by_processes_are_the_same(morphable, folder):
    trainers = [make_trainer(morphable, folder, workers=workers) for workers in (0, 2)]
    try:
        for iteration in range(3):
            own, loaded = (trainer.objective._photos(iteration) for trainer in trainers)
            for field in ("image", "mask", "landmarks", "identity"):
                assert getattr(own, field).equal(getattr(loaded, field))
    finally:
        for trainer in trainers:
            trainer.objective.stream.close()
