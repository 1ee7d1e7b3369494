"""System 1: codes, decoders in closed form, learned bases, and faces that are aligned."""

from __future__ import annotations

import pytest
import torch
from tiny_joint import config

from facecore import systems
from facecore.data import LabelledRenders, five_points
from facecore.evaluation.learned_bases import basis_pairs
from facecore.morphable import load as load_model
from facecore.systems.joint_recognition import CODE_RANGE, JointAssets, JointRecognition
from facecore.systems.joint_recognition_config import JointModelConfig
from facecore.systems.joint_recognition_training import JointRecognitionTrainer


@pytest.fixture(scope="module")
def morphable():
    return load_model("procedural", num_vertices=2500)


@pytest.fixture(scope="module")
def system(morphable) -> JointRecognition:
    torch.manual_seed(0)
    system = JointRecognition(JointModelConfig(width=0.0625), JointAssets.from_morphable(morphable))
    system.solve_decoders(morphable)
    return system.eval()


@pytest.fixture(autouse=True)
def few_strangers(monkeypatch):
    monkeypatch.setattr("facecore.systems.joint_recognition_training.VERIFIED_PERSONS", 4)


def test_decoders_in_closed_form_are_the_morphable_model(system, morphable):
    """Codes within range decode to the faces that they are of; beyond it they are cut."""
    generator = torch.Generator().manual_seed(0)
    faces = morphable.sample(6, generator)
    prior = morphable.prior
    identity, expression = (
        torch.maximum(torch.minimum(part, mean + 2.9 * std), mean - 2.9 * std)
        for part, mean, std in (
            (faces.identity, prior.identity_mean, prior.identity_std),
            (faces.expression, prior.expression_mean, prior.expression_std),
        )
    )
    codes = system.codes_of(morphable, identity, expression)
    assert float(codes.identity.abs().max()) <= 1
    # float32 shapes of about 100 mm, sums of some hundred terms
    torch.testing.assert_close(system.decode_shape(*codes), morphable.shape(identity, expression), rtol=0, atol=2e-3)
    torch.testing.assert_close(system.decode_shape(codes.identity), morphable.shape(identity), rtol=0, atol=2e-3)
    far = system.codes_of(morphable, prior.identity_mean + 7 * prior.identity_std, prior.expression_mean[None])
    assert bool((far.identity == 1).all()) and bool((far.expression == 0).all())
    assert CODE_RANGE == 3.0  # METHODS 3: targets a / (3 sigma)


def test_learned_bases_by_hand(system, morphable):
    """In closed form they are the model's; twice as long and turned about an axis, as said."""
    learned, own = system.basis_vectors()[0], JointRecognition.basis_vectors_of(morphable)[0]
    pairs = basis_pairs(learned, own, morphable.identity_names)
    assert len(pairs) == morphable.num_identity
    row = pairs[0].row()
    assert row["between_mm"] < 1e-4 and row["cosine"] == pytest.approx(1, abs=1e-5)
    x, y = torch.tensor([[[2.0, 0, 0]] * 4]), torch.tensor([[[0, 1.0, 0]] * 4])
    row = basis_pairs(x, y, ("mode",))[0].row()
    assert (row["learned_mm"], row["model_mm"], row["cosine"]) == (2.0, 1.0, 0.0)
    assert row["between_mm"] == pytest.approx(5**0.5)
    with pytest.raises(ValueError, match="one shape"):
        basis_pairs(x, y[:, :2], ("mode",))


def test_codes_and_reconstruction(system):
    images = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        codes = system.encode(images)
    assert codes.identity.shape == (2, system.identity_size) and codes.expression.shape == (2, system.expression_size)
    assert float(torch.cat(codes, 1).abs().max()) <= 1
    face = system.reconstruct(images)
    assert face.pose[:, :3].abs().max() == 0
    points = face.landmarks_2d
    middle = (points.amax(1) + points.amin(1)) / 2
    torch.testing.assert_close(middle, torch.full((2, 2), 56.0), rtol=0, atol=0.01)  # framed as photographs are
    with torch.no_grad():
        torch.testing.assert_close(face.neutral_vertices, system.decode_shape(codes.identity))
    with pytest.raises(ValueError, match=r"images must have shape \[N, 3, 112, 112\]"):
        system.encode(images[..., :96])
    with pytest.raises(ValueError, match="eval"):
        JointRecognition.reconstruct(system.train(), images)
    system.eval()


def test_faces_are_aligned_by_their_points(system, morphable):
    """Where a face is in its crop, and how large, changes its features by no more than resampling does. Here it is
    shrunk, so that all of it stays in the crop."""
    batch = LabelledRenders(morphable, 112, 112, seed=3).batch(torch.arange(4))
    smooth = torch.nn.functional.avg_pool2d(batch.image, 9, 1, 4)  # so that resampling changes little
    theta = torch.tensor([[1.25, 0.0, 0.06], [0.0, 1.25, -0.04]]).expand(4, -1, -1)
    grid = torch.nn.functional.affine_grid(theta, list(smooth.shape), align_corners=False)
    moved = torch.nn.functional.grid_sample(smooth, grid, align_corners=False)
    ndc = 2 * batch.landmarks / 112 - 1  # image rows go down, as grids do
    points = ((ndc - theta[:, None, :, 2]) / 1.25 + 1) * 56
    with torch.no_grad():
        own, same, unaligned = (
            system.head_features(*given)
            for given in ((smooth, batch.landmarks), (moved, points), (moved, batch.landmarks))
        )
        assert float((own - same).norm()) < 0.3 * float((own - unaligned).norm())
        # 68 points are as good as their five
        torch.testing.assert_close(system.head_features(smooth, five_points(batch.landmarks)), own)
        usual = system.usual_points.expand(4, 5, 2)
        assert torch.equal(system.head_features(smooth, usual), system.head_features(smooth))
    with pytest.raises(ValueError, match=r"landmarks must have shape \[4, 68, 2\] or \[4, 5, 2\]"):
        system.encode(smooth, batch.landmarks[:, :7])


def test_a_damaged_checkpoint_is_one_line(tmp_path, morphable):
    trainer = JointRecognitionTrainer(config(), morphable, None)
    checkpoint = trainer.checkpoint(0, resumable=False)
    del checkpoint.tensors["assets"]["template"]
    checkpoint.save(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="is damaged or of another version"):
        systems.load(tmp_path / "model.safetensors")
