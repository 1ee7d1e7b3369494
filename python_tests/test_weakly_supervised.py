"""System 2: cameras, terms by hand, C-Net, and sets of pictures."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_weak import SIZE, TINY, make_system, pictures, write_recogniser

from facecore.data import RenderedPhotos, five_points
from facecore.morphable import load as load_model
from facecore.nn import ConfidenceNet, aggregate
from facecore.perception import load_identity_network
from facecore.render import WeakPerspectiveCamera
from facecore.systems.aggregation import aggregate_faces
from facecore.systems.weakly_supervised import WeakCodes, WeaklySupervised
from facecore.systems.weakly_supervised_config import WeakModelConfig, WeakWeights
from facecore.systems.weakly_supervised_losses import (
    coefficient_term,
    landmark_term,
    light_color_term,
    perception_term,
    picture_terms,
)
from facecore.training.config import overlay


@pytest.fixture(scope="module")
def morphable():
    return load_model("procedural", num_vertices=2500)


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory):
    return write_recogniser(tmp_path_factory.mktemp("network"))


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
