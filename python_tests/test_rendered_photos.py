"""Rendered photographs: persons, what their pictures share, that no 3-D truth is handed out."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from facecore.data import PhotoBatch, RenderedPhotos
from facecore.data.lights import PEAK
from facecore.morphable import load as load_model
from facecore.ops import sh_shading
from facecore.render import euler_to_matrix


@pytest.fixture(scope="module")
def photos():
    return RenderedPhotos(load_model("procedural", num_vertices=2500), 32, 32, 7, persons=3, pictures=4)


def test_pictures_of_a_person_share_identity_and_albedo_alone(photos):
    index = torch.arange(12)
    parts = photos.renders.coefficients(index)
    for name, shared in (("identity", True), ("albedo", True), ("expression", False)):
        of_person = getattr(parts, name).view(3, 4, -1)
        assert bool((of_person == of_person[:, :1]).all()) == shared, name
        assert not torch.equal(of_person[0], of_person[1])
    # in any order and company a picture is the same
    again = photos.renders.coefficients(torch.tensor([9, 2]))
    assert again.identity.equal(parts.identity[[9, 2]]) and again.expression.equal(parts.expression[[9, 2]])


def test_frames_of_a_clip_share_their_light(photos):
    """The light stays while the face turns, but for the exposure: nothing that is seen of the posed mean face passes
    the peak, mean of the channels. Nothing else changes, and without it every picture has its own."""
    index, model = torch.arange(12), photos.renders.model
    clips = RenderedPhotos(model, 32, 32, 7, persons=3, pictures=4, steady_light=True)
    one, other = clips.renders.batch(index), photos.renders.batch(index)
    lights, own = (batch.sh_coefficients.view(3, 4, -1) for batch in (one, other))
    unit = lights / lights.norm(dim=2, keepdim=True)  # equal up to a factor for each frame, to the rounding of float32
    torch.testing.assert_close(unit, unit[:, :1].expand_as(unit), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(unit[0], unit[1], atol=0.01)
    many = RenderedPhotos(model, 32, 32, 7, persons=30, pictures=4, steady_light=True).renders
    every = torch.arange(120)
    normals = many._normals @ euler_to_matrix(many._angles(every)).transpose(1, 2)
    seen = normals[..., 2] > 0.2
    assert float(sh_shading(normals, many.lights(every)).mean(2)[seen].max()) <= PEAK * (1 + 1e-5)
    assert torch.equal(one.pose, other.pose) and torch.equal(one.landmarks, other.landmarks)
    assert torch.equal(own[:, 0], lights[:, 0]) and not bool((own[:, 1:] == own[:, :1]).all(2).any())


def test_faces_turn_as_far_as_they_are_told_to(photos):
    """In proportion, all else as it is; the digest tells, and says nothing of pictures that turn as they always did."""
    model, index = photos.renders.model, torch.arange(12)
    wide = RenderedPhotos(model, 32, 32, 7, persons=3, pictures=4, yaw=80.0)
    own, other = wide.renders._angles(index), photos.renders._angles(index)
    torch.testing.assert_close(own[:, 1], other[:, 1] * (80 / 45))
    assert torch.equal(own[:, ::2], other[:, ::2]) and float(own[:, 1].abs().max()) > math.radians(45)
    assert torch.equal(wide.renders.coefficients(index).identity, photos.renders.coefficients(index).identity)
    assert wide.digest == photos.digest + ", turned by up to 80 degrees"


def test_batches_are_those_of_photographs(photos):
    batch = photos.batch(torch.tensor([0, 5, 11]), key=3)
    assert isinstance(batch, PhotoBatch) and batch.identity.tolist() == [0, 1, 2]
    assert batch.image.shape == (3, 3, 32, 32) and bool((batch.landmark_weight == 1).all())
    assert not batch.five_point_weight.any()
    names = {field.name for field in dataclasses.fields(batch)}
    assert not names & {"expression", "pose", "sh_coefficients", "albedo"}
    for name in names:
        assert torch.equal(getattr(batch, name), getattr(photos.batch(torch.tensor([0, 5, 11])), name)), name


def test_batches_hold_several_pictures_of_a_person(photos):
    index = photos.sample(torch.Generator().manual_seed(0), 4, per_identity=2)
    persons = photos.identity[index].view(2, 2)
    assert bool((persons[:, 0] == persons[:, 1]).all()) and len(set(index.tolist())) == 4


def test_digest_tells_sets_apart(photos):
    model = photos.renders.model
    again = RenderedPhotos(model, 32, 32, 7, persons=3, pictures=4)
    others = [
        RenderedPhotos(model, 32, 32, 8, persons=3, pictures=4),
        RenderedPhotos(model, 32, 32, 7, persons=2, pictures=4),
        RenderedPhotos(model, 32, 32, 7, persons=3, pictures=3),
        RenderedPhotos(model, 32, 32, 7, persons=3, pictures=4, steady_light=True),
    ]
    assert again.digest == photos.digest and len({photos.digest, *(other.digest for other in others)}) == 5


def test_bad_numbers_are_refused(photos):
    with pytest.raises(ValueError, match="persons must be at least 1, got 0"):
        RenderedPhotos(photos.renders.model, 32, 32, persons=0, pictures=1)
    with pytest.raises(ValueError, match="pictures must be at least 1, got 0"):
        RenderedPhotos(photos.renders.model, 32, 32, persons=1, pictures=0)
    with pytest.raises(ValueError, match=r"index must be in \[0, 12\), got 0 to 12"):
        photos.batch(torch.tensor([0, 12]))
