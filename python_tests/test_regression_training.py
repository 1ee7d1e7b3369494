"""The training of system 4: terms by hand, gradients, stages, what is resumed and what is not."""

from __future__ import annotations

import pathlib

import pytest
import torch
from tiny_faces import write_portraits
from tiny_regression import SIZE, config, write_recognition, write_thumbnails
from trainer_checks import assert_resumes

from facecore.data import PhotoFolder, five_points
from facecore.evaluation.claims_regression import parameter_errors
from facecore.losses import batch_distribution_loss
from facecore.losses.batch_distribution import expected_batch_distribution_loss
from facecore.morphable import load as load_model
from facecore.systems.unsupervised_regression import RegressionCodes
from facecore.systems.unsupervised_regression_config import PRESETS
from facecore.systems.unsupervised_regression_losses import whole_batch_distribution
from facecore.systems.unsupervised_regression_training import UnsupervisedRegressionTrainer

FRONTAL = {"frontal": True, "views": 1}


@pytest.fixture(scope="module")
def morphable():
    return load_model("procedural", num_vertices=2500)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> pathlib.Path:
    return write_recognition(tmp_path_factory.mktemp("recognition"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory, morphable) -> pathlib.Path:
    root = tmp_path_factory.mktemp("photos")
    write_portraits(root, morphable, ["1", "2", "3", "4"], size=96)
    return root


@pytest.fixture(scope="module")
def trainer(manifest, morphable) -> UnsupervisedRegressionTrainer:
    """Not stepped by the tests that share it."""
    return UnsupervisedRegressionTrainer(config(manifest), morphable, None)


def test_terms_of_a_step(manifest, morphable):
    trainer = UnsupervisedRegressionTrainer(config(manifest), morphable, None)
    weights = trainer.config.weights
    assert set(trainer.step(0)) == {"parameter", "total"}
    terms = trainer.step(2)
    expected = terms["parameter"] + terms["identity"] + 10 * terms["batch"] + 0.07 * terms["loop"]
    torch.testing.assert_close(terms["total"], expected)
    assert (weights.identity, weights.batch, weights.loop) == (1.0, 10.0, 0.07)
    assert 0 <= float(terms["identity"]) <= 2  # 1 - cosine: the sign of eq. 4 corrected
    features, _ = trainer.photographs(2)
    with torch.no_grad():
        codes = trainer.system.regress(features.pooled)
    count = codes.shape.shape[1] + codes.texture.shape[1]
    floor = expected_batch_distribution_loss(count, 4)
    torch.testing.assert_close(terms["batch_excess"], terms["batch"] - floor)
    assert all(p.grad is None for p in trainer.system.recognition.parameters())


def test_the_batch_term_is_over_photographs_alone(trainer):
    features, index = trainer.photographs(2)
    synthetic = trainer.synthetic.at(2)
    with torch.no_grad():
        codes = trainer.system.regress(features.pooled)
        terms = trainer.objective(*synthetic, features, index)
    expected = batch_distribution_loss(codes.shape) + batch_distribution_loss(codes.texture)
    torch.testing.assert_close(terms["batch"], expected)


def test_the_batch_term_is_over_all_processes(monkeypatch):
    """Of two processes: the value is that of all photographs, the mean of the two gradients that of the whole."""
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(6, 3, generator=generator), torch.randn(6, 2, generator=generator)
    leaves = [part.clone().requires_grad_() for part in whole]
    value = sum(batch_distribution_loss(leaf) for leaf in leaves)
    expected = torch.autograd.grad(value, leaves)
    monkeypatch.setattr("facecore.training.distributed.world_size", lambda: 2)
    found = []
    for rank in (0, 1):
        monkeypatch.setattr("facecore.training.distributed.rank", lambda rank=rank: rank)
        own = [part.detach()[3 * rank : 3 * rank + 3].clone().requires_grad_() for part in whole]
        everyone = {tensor.shape[1]: tensor.view(2, 3, -1) for tensor in whole}
        monkeypatch.setattr("facecore.training.distributed.gathered", lambda part, all=everyone: all[part.shape[1]])
        own_value = whole_batch_distribution(RegressionCodes(*own))
        torch.testing.assert_close(own_value, value)
        found.append(torch.autograd.grad(own_value, own))
    for number, gradient in enumerate(expected):  # each process has a gradient to its own half: the mean halves it
        torch.testing.assert_close(torch.cat([part[number] for part in found]) / 2, gradient)


def gradients(trainer, terms: torch.Tensor) -> torch.Tensor:
    parts = torch.autograd.grad(terms, trainer.parameters)
    return torch.cat([part.flatten() for part in parts])


def test_gradients_reach_every_part(manifest, morphable):
    """L_id through renderer and recognition network; L_loop by two paths, of which detach_render closes one."""
    found = {}
    for detach in (False, True):
        settings = config(manifest, stages={"detach_render": detach})
        trainer = UnsupervisedRegressionTrainer(settings, morphable, None)
        features, index = trainer.photographs(2)
        for name in ("identity", "loop", "batch", "parameter"):
            gradient = gradients(trainer, trainer.objective(*trainer.synthetic.at(2), features, index)[name])
            assert bool(gradient.isfinite().all()) and float(gradient.abs().sum()) > 0, name
            found[name, detach] = gradient
    torch.testing.assert_close(found["identity", False], found["identity", True])
    assert not torch.allclose(found["loop", False], found["loop", True], rtol=1e-3)


def test_a_frontal_view_is_the_same_for_all(manifest, morphable):
    """The ablation of the paper's figure 3: L_id does not depend on the photograph's number, L_loop does."""
    found = []
    for number in (0, 7):
        trainer = UnsupervisedRegressionTrainer(config(manifest, stages=FRONTAL), morphable, None)
        features, index = trainer.photographs(2)
        terms = trainer.objective(*trainer.synthetic.at(2), features, index + number)
        found.append(terms)
        with torch.no_grad():
            vertices, albedo = trainer.system.decode(trainer.system.regress(features.pooled))
            image, points = trainer.views.render(vertices, albedo, trainer.views.ahead(len(vertices)))
            shown = trainer.system.features(image, five_points(points))
            cosine = torch.nn.functional.cosine_similarity(shown.embed, features.embed)
        torch.testing.assert_close(terms["identity"], 1 - cosine.mean())
        assert float(gradients(trainer, terms["identity"]).abs().sum()) > 0
    assert torch.equal(found[0]["identity"], found[1]["identity"])
    assert not torch.equal(found[0]["loop"], found[1]["loop"])
    with pytest.raises(ValueError, match=r"stages\.frontal needs stages\.views 1, got 2"):
        UnsupervisedRegressionTrainer(config(manifest, stages={"frontal": True}), morphable, None)


def test_terms_of_weight_zero_are_not_computed(manifest, morphable):
    weights = {"loop": 0.0}
    trainer = UnsupervisedRegressionTrainer(config(manifest, weights=weights, stages=FRONTAL), morphable, None)
    assert set(trainer.step(2)) == {"parameter", "identity", "batch", "batch_excess", "total"}
    weights = {"identity": 0.0, "batch": 0.0}
    trainer = UnsupervisedRegressionTrainer(config(manifest, weights=weights), morphable, None)
    assert set(trainer.step(2)) == {"parameter", "loop", "total"}


def test_a_pool_of_faces_comes_again(manifest, morphable):
    trainer = UnsupervisedRegressionTrainer(config(manifest, stages={"pool": 6}), morphable, None)
    drawn = torch.cat([trainer.synthetic.at(i).codes.shape for i in range(8)])
    assert len(drawn.unique(dim=0)) <= 6 < len(drawn)
    one = trainer.synthetic.at(3)
    again = UnsupervisedRegressionTrainer(config(manifest, stages={"pool": 6}), morphable, None).synthetic.at(3)
    assert torch.equal(one.features, again.features) and torch.equal(one.codes.texture, again.codes.texture)
    fresh = UnsupervisedRegressionTrainer(config(manifest), morphable, None).synthetic
    assert not torch.equal(fresh.at(0).codes.shape, fresh.at(1).codes.shape)


def test_a_step_lowers_the_loss_of_its_batch(manifest, morphable):
    settings = config(manifest, stages={"learning_rate": 1e-2, "mixed_learning_rate": 1e-2})
    trainer = UnsupervisedRegressionTrainer(settings, morphable, None)
    for iteration in (0, 2):
        first = trainer.step(iteration)["total"]
        for _ in range(8):
            last = trainer.step(iteration)["total"]
        assert float(last) < float(first)


def test_it_learns_what_the_features_tell(tmp_path, morphable):
    """Melanin of faces that training did not draw: nearer to the truth than the mean face's. A thumbnail under unknown
    lamps tells little of it: 8 % on 256 faces when this was written, of which chance is 2 %."""
    stages = {"pool": 640, "synthetic_iterations": 100, "mixed_iterations": 0, "learning_rate": 2e-3}
    settings = {"model": {"image_size": 48, "width": 64}, "data": {"labelled_batch": 64}}
    weights = {"shape": 0.0, "texture": 0.4}
    recognition = write_thumbnails(tmp_path)
    trainer = UnsupervisedRegressionTrainer(
        config(recognition, stages=stages, weights=weights, **settings), morphable, None
    )
    for iteration in range(trainer.total_iterations):
        trainer.step(iteration)
    unseen = trainer.synthetic._draw(torch.arange(100_000, 100_256))
    with torch.no_grad():
        codes = trainer.system.regress(unseen.features)
    assert morphable.albedo_names[0] == "melanin"
    assert parameter_errors(codes.texture[:, :1], unseen.codes.texture[:, :1])["rms_gain_percent"] > 3


def test_weight_decay_pulls_matrices_alone(manifest, morphable):
    trainer = UnsupervisedRegressionTrainer(config(manifest), morphable, None)
    matrices, biases = trainer.optimizer.param_groups
    assert (matrices["weight_decay"], biases["weight_decay"]) == (1e-5, 0)
    assert [p.ndim for p in matrices["params"]] == [2, 2, 2] and [p.ndim for p in biases["params"]] == [1, 1, 1]


def test_resumes_to_the_same_weights(manifest, morphable, photos):
    def trainer() -> UnsupervisedRegressionTrainer:
        folder = PhotoFolder(photos, height=SIZE, width=SIZE, seed=0)
        return UnsupervisedRegressionTrainer(config(manifest, stages={"pool": 6}), morphable, folder)

    assert_resumes(trainer, 3, lambda trained: trained.system)


def test_a_training_of_a_changed_network_is_not_resumed(trainer):
    """One line that says what to do, whatever has changed."""
    saved = trainer.checkpoint(1, resumable=True)
    weights = saved.tensors["model"]
    name = next(iter(weights))
    for changed in ({name: torch.zeros(3)}, {"new": torch.zeros(3)}):
        saved.tensors["model"] = weights | changed
        with pytest.raises(ValueError, match=r"another version of this network.*--run\.start-from"):
            trainer.restore(saved)


def test_another_recognition_network_is_another_run(tmp_path, manifest, morphable):
    trainer = UnsupervisedRegressionTrainer(config(manifest), morphable, None)
    checkpoint = trainer.checkpoint(0, resumable=True)
    other = UnsupervisedRegressionTrainer(config(write_recognition(tmp_path, seed=1)), morphable, None)
    with pytest.raises(ValueError, match="another recognition network"):
        other.restore(checkpoint)
    with pytest.raises(ValueError, match="another recognition network"):
        other.start_from(checkpoint)
    assert UnsupervisedRegressionTrainer(config(manifest), morphable, None).start_from(checkpoint) == []


def test_photographs_are_needed_in_stage_2(manifest, morphable):
    with pytest.raises(ValueError, match="stage 2 needs photographs"):
        UnsupervisedRegressionTrainer(config(manifest, world={"persons": 0}), morphable, None)
    settings = config(manifest, world={"persons": 0}, stages={"mixed_iterations": 0})
    assert UnsupervisedRegressionTrainer(settings, morphable, None).total_iterations == 2


def test_validation_says_moments_and_errors(trainer):
    errors = trainer.validate()
    assert errors["neutral_mm"] > 0 and errors["shape_rms"] > 0
    assert 0 <= errors["shape_view_share"] <= 1
    assert {"shape_variance", "texture_excess", "texture_rms_gain_percent"} <= errors.keys()
    assert trainer.picture_grid().shape == (3, 2 * SIZE, 6 * SIZE)


def test_presets_state_the_papers_values():
    paper = PRESETS["paper"]
    weights, stages = paper.weights, paper.stages
    assert (weights.shape, weights.texture, weights.batch, weights.loop) == (0.4, 0.002, 10.0, 0.07)
    assert (stages.views, stages.weight_decay, stages.learning_rate) == (3, 1e-5, 1e-4)
    assert (paper.model.width, paper.data.labelled_batch, paper.data.photo_batch, stages.pool) == (1024, 32, 32, 0)
