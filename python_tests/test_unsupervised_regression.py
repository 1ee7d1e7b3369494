"""System 4: decoder, alignment, fitted expressions, checkpoints with the recognition network inside."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import pytest
import torch
from tiny_faces import write_portraits
from tiny_regression import SIZE, TINY, config, write_recognition
from toy_perception import Embedder, write_manifest, write_torchscript

from facecore import systems
from facecore.data import LandmarkSource, five_points
from facecore.morphable import load as load_model
from facecore.perception import load_identity_network
from facecore.systems.aggregation import average_faces, average_features
from facecore.systems.decoding import decode_albedo, decode_shape
from facecore.systems.inference import find_faces, observe, reconstruct_faces
from facecore.systems.unsupervised_regression import RegressionCodes, UnsupervisedRegression
from facecore.systems.unsupervised_regression_config import RegressionConfig, RegressionWeights
from facecore.systems.unsupervised_regression_losses import parameter_loss
from facecore.systems.unsupervised_regression_training import UnsupervisedRegressionTrainer
from facecore.training.config import overlay


@pytest.fixture(scope="module")
def morphable():
    return load_model("procedural", num_vertices=2500)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> pathlib.Path:
    return write_recognition(tmp_path_factory.mktemp("recognition"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory, morphable) -> pathlib.Path:
    root = tmp_path_factory.mktemp("photos")
    write_portraits(root, morphable, ["1"], size=96)
    return root


@pytest.fixture(scope="module")
def trainer(manifest, morphable) -> UnsupervisedRegressionTrainer:
    """Not stepped by the tests that share it."""
    return UnsupervisedRegressionTrainer(config(manifest), morphable, None)


def test_codes_decode_to_the_morphable_model(trainer, morphable):
    system = trainer.system
    generator = torch.Generator().manual_seed(0)
    faces = morphable.sample(2, generator)
    prior = morphable.prior
    codes = RegressionCodes(prior.whiten("identity", faces.identity), prior.whiten("albedo", faces.albedo))
    vertices, albedo = system.decode(codes)
    # float32 shapes of about 100 mm, sums of some hundred terms
    torch.testing.assert_close(vertices, morphable.shape(faces.identity), rtol=0, atol=1e-3)
    torch.testing.assert_close(albedo, morphable.albedo(faces.albedo), rtol=0, atol=1e-5)
    images = torch.rand(2, 3, SIZE, SIZE, generator=generator)
    face = system.reconstruct(images)
    assert float(face.pose[:, :3].abs().max()) == 0 and float(face.codes["expression"].abs().max()) == 0
    torch.testing.assert_close(decode_shape(system, face.codes), face.vertices)
    torch.testing.assert_close(decode_albedo(system, face.codes).clamp(0, 1), face.albedo)


def test_several_photographs_average_their_features(trainer):
    """The joined face is the decoded mean of the features, which the mean of the codes is not: layers lie between."""
    system, batch = trainer.system, trainer.held_out.batch(torch.arange(3))
    points = five_points(batch.landmarks)
    single = system.reconstruct(batch.image, points)
    joined = average_features(system, single, batch.image, points)
    with torch.no_grad():
        mean = system.regress(system.features(batch.image, points).pooled.mean(0, keepdim=True))
    expected = system.coefficients(mean)
    torch.testing.assert_close(joined.reconstruction.codes["identity"], expected["identity"])
    torch.testing.assert_close(joined.reconstruction.vertices, trainer.morphable.shape(expected["identity"]))
    assert joined.distance_mm.shape == (3,) and float(joined.distance_mm.min()) > 0
    of_codes = average_faces(system, single).reconstruction.codes["identity"]
    assert float((of_codes - expected["identity"]).abs().max()) > 1e-5
    one = average_features(system, single[:1], batch.image[:1], points[:1])
    torch.testing.assert_close(one.reconstruction.vertices, single.vertices[:1])
    with pytest.raises(ValueError, match="at least one face"):
        average_features(system, single[:0], batch.image[:0], points[:0])


def test_faces_are_aligned_by_landmarks(trainer):
    """A picture moved with its landmarks gives the same codes; without landmarks it does not."""
    system = trainer.system
    batch = trainer.held_out.batch(torch.arange(3))
    images = torch.zeros_like(batch.image)
    images[..., 6:-6, 6:-6] = batch.image[..., 6:-6, 6:-6]  # black around, as aligned faces are beyond the picture
    moved = torch.roll(images, (2, -3), (2, 3))
    points = batch.landmarks + torch.tensor([-3.0, 2.0])
    with torch.no_grad():
        still, along, alone = (
            torch.cat(system.encode(image, landmarks), 1)
            for image, landmarks in ((images, batch.landmarks), (moved, points), (moved, None))
        )
    torch.testing.assert_close(along, still, rtol=0, atol=1e-5)  # places of samples are rounded in float32
    assert float((alone - still).abs().max()) > 1e-3
    with torch.no_grad():
        by_five = torch.cat(system.encode(images, five_points(batch.landmarks)), 1)
        usual = system.encode(images, system.usual_points.expand(3, 5, 2)).shape
        assert torch.equal(usual, system.encode(images).shape)
    assert torch.equal(by_five, still)
    with pytest.raises(ValueError, match=r"landmarks must have shape \[3, 68, 2\] or \[3, 5, 2\]"):
        system.encode(batch.image, batch.landmarks[:2])
    with pytest.raises(ValueError, match=rf"images must have shape \[N, 3, {SIZE}, {SIZE}\]"):
        system.encode(batch.image[..., :-1])


def test_parameter_loss_by_hand():
    zero = RegressionCodes(torch.zeros(2, 2), torch.zeros(2, 1))
    codes = RegressionCodes(torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.tensor([[10.0], [0.0]]))
    weights = RegressionWeights()
    mean = parameter_loss(codes, zero, weights, reduction="mean", batch=2)
    assert float(mean) == pytest.approx(0.4 * 6 / 2 + 0.002 * 100 / 2)  # METHODS 6
    total = parameter_loss(codes, zero, weights, reduction="sum", batch=2)
    assert float(total) == pytest.approx(0.4 * 6 + 0.002 * 100)  # as the paper prints it


def test_a_checkpoint_needs_nothing_else(tmp_path, morphable):
    """The recognition network's files are gone; weights, facts and the morphable model come from the checkpoint."""
    manifest = write_recognition(tmp_path / "net")
    trainer = UnsupervisedRegressionTrainer(config(manifest), morphable, None)
    trainer.step(0)
    trainer.checkpoint(1, resumable=False).save(tmp_path / "model.safetensors")
    for path in (tmp_path / "net").iterdir():
        path.unlink()
    system = systems.load(tmp_path / "model.safetensors")
    assert isinstance(system, UnsupervisedRegression)
    assert system.recognition.identity == trainer.system.recognition.identity
    assert system.morphable.content_hash() == morphable.content_hash()
    assert "renders alone" in system.caution
    batch = trainer.held_out.batch(torch.arange(2))
    for landmarks in (None, batch.landmarks):
        own, loaded = (s.reconstruct(batch.image, landmarks) for s in (trainer.system, system))
        assert torch.equal(own.vertices, loaded.vertices) and torch.equal(own.albedo, loaded.albedo)


def test_networks_that_cannot_be_carried_are_refused(tmp_path, morphable):
    torch.manual_seed(0)
    write_torchscript(tmp_path / "e.pt", Embedder())
    scripted = write_manifest(tmp_path / "m.json", "recognition", "torchscript", "e.pt")
    with pytest.raises(ValueError, match="the code of a torchscript network is not among them"):
        UnsupervisedRegressionTrainer(config(scripted), morphable, None)
    onnx = write_manifest(tmp_path / "o.json", "recognition", "onnx", "e.pt")
    with pytest.raises(ValueError, match="ONNX runtime gives none"):
        UnsupervisedRegressionTrainer(config(onnx), morphable, None)
    with pytest.raises(ValueError, match=r"model.recognition must name the manifest"):
        UnsupervisedRegressionTrainer(overlay(RegressionConfig(), TINY), morphable, None)


def test_a_photographs_expression_and_pose_are_fitted(trainer, photos):
    """The identity stays as it was estimated; the landmarks come nearer than those of the neutral face in any pose."""
    system = trainer.system
    found = find_faces(photos / "1.png", LandmarkSource(photos), 96, masks=None, assume_cropped=False)
    faces = [face.read() for face in found]
    result = reconstruct_faces(faces, system, size=96).reconstruction
    observation = observe(faces, 96)
    assert float(result.codes["expression"].abs().sum()) > 0
    torch.testing.assert_close(system.morphable.shape(result.codes["identity"]), result.neutral_vertices)
    alone = reconstruct_faces(faces, system, size=96, observation=_without_68(observation)).reconstruction
    assert float(alone.codes["expression"].abs().sum()) == 0

    def misfit(face) -> float:
        return float((face.landmarks_2d - observation.landmarks).norm(dim=-1).mean())

    assert misfit(result) < 0.8 * misfit(alone)


def _without_68(observation):
    """The same picture with five landmarks, which say nothing of an expression."""
    five = five_points(observation.landmarks)
    return dataclasses.replace(
        observation,
        landmark_weight=torch.zeros_like(observation.landmark_weight),
        five_points=five,
        five_point_weight=torch.ones_like(five[..., 0]),
    )


def test_facts_of_a_network_are_json(manifest):
    network = load_identity_network(manifest)
    facts = json.loads(json.dumps(network.facts()))
    again = type(network).from_facts(facts)
    again.load_state_dict(network.state_dict())
    assert again.identity == network.identity and "path" not in facts
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.embed(images), network.embed(images))
