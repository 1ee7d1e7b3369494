"""The average of several photographs of one person: means, weights of textures, distances."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from faces import make_face
from tiny_faces import make_faces, make_system

from facecore.morphable import load as load_model
from facecore.render import PerspectiveCamera, WeakPerspectiveCamera
from facecore.systems.aggregation import HIDDEN_WEIGHT, average_faces, average_texture, concatenate, texture_weights


@pytest.fixture(scope="module")
def morphable():
    return load_model("procedural", num_vertices=2500)


@pytest.fixture(scope="module")
def system(morphable):
    return make_system(morphable)


@pytest.fixture(scope="module")
def textured(morphable):
    return make_system(morphable, texture=True)


def turned(faces, *yaw):
    """The same faces with other yaw angles, else straight."""
    pose = torch.zeros(len(faces), 6)
    pose[:, 1] = torch.tensor(yaw)
    camera = WeakPerspectiveCamera.from_pose(pose, faces.camera.height, faces.camera.width)
    return dataclasses.replace(faces, pose=pose, camera=camera)


def test_average_is_the_mean_of_shapes_and_codes(system):
    faces = make_faces(system, 3)
    result = average_faces(system, faces)
    average = result.reconstruction
    assert len(average) == 1
    torch.testing.assert_close(average.vertices[0], faces.vertices.mean(0))
    torch.testing.assert_close(average.neutral_vertices[0], faces.neutral_vertices.mean(0))
    for name, code in faces.codes.items():
        torch.testing.assert_close(average.codes[name][0], code.mean(0))
    assert torch.equal(average.albedo, system.decode_albedo(average.codes["identity"]))
    distance = (faces.vertices - faces.vertices.mean(0)).square().sum(2).mean(1).sqrt()
    torch.testing.assert_close(result.distance_mm, distance)
    assert bool((distance > 0.01).all()), "the faces differ at all"
    assert f"the 3 single faces lie {float(distance.mean()):.2f} mm" in result.describe()


def test_average_of_equal_faces_is_the_face(system):
    faces = make_faces(system, 1)[torch.tensor([0, 0, 0])]
    result = average_faces(system, faces)
    # a mean of three equal float32 numbers of up to 150 mm
    torch.testing.assert_close(result.reconstruction.vertices, faces[:1].vertices, rtol=0, atol=1e-4)
    torch.testing.assert_close(result.reconstruction.albedo, faces[:1].albedo, rtol=0, atol=1e-5)
    assert float(result.distance_mm.max()) < 1e-4


def test_order_does_not_matter(system):
    faces = turned(make_faces(system, 3), 0.3, -0.1, 0.2)
    first, second = average_faces(system, faces), average_faces(system, faces[torch.tensor([2, 0, 1])])
    torch.testing.assert_close(first.reconstruction.vertices, second.reconstruction.vertices, rtol=0, atol=1e-4)
    torch.testing.assert_close(first.distance_mm[[2, 0, 1]], second.distance_mm, rtol=1e-4, atol=1e-4)
    assert (first.reference, second.reference) == (1, 2)


def test_the_least_turned_picture_gives_pose_and_light(system):
    faces = turned(make_faces(system, 3), -0.6, 0.5, 0.1)
    average = average_faces(system, faces)
    assert average.reference == 2
    assert torch.equal(average.reconstruction.pose, faces.pose[2:])
    assert torch.equal(average.reconstruction.sh_coefficients, faces.sh_coefficients[2:])


def test_a_texel_comes_from_the_picture_that_shows_it(textured):
    """One picture from each side, red and blue: a cheek has the colour of the side that sees it, none is black."""
    faces = turned(make_faces(textured, 1)[torch.tensor([0, 0])], -0.9, 0.9)
    colours = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    image = colours[:, :, None, None].expand_as(faces.texture.image).contiguous()
    faces = dataclasses.replace(faces, texture=faces.texture._replace(image=image))
    weight = texture_weights(faces)
    mean = average_texture(faces).image[0]
    torch.testing.assert_close(mean.sum(0), torch.ones(32, 32))
    seen_by_one = (weight[0] > 0.3) & (weight[1] == 0)
    assert int(seen_by_one.sum()) > 20
    # the picture that hides a texel still counts HIDDEN_WEIGHT
    assert float(mean[2][seen_by_one].max()) <= HIDDEN_WEIGHT / 0.3
    hidden = (weight == 0).all(0)
    assert bool(hidden.any())
    torch.testing.assert_close(mean[0][hidden], torch.full_like(mean[0][hidden], 0.5))


def test_weights_mirror_where_the_face_does(textured):
    """Yaw +a and -a of a symmetric face see mirrored texels, up to the texels at the edge of what is seen."""
    faces = make_faces(textured, 1)[torch.tensor([0, 0])]
    symmetric = textured.template.expand(2, -1, -1)
    faces = turned(dataclasses.replace(faces, vertices=symmetric, neutral_vertices=symmetric), -0.5, 0.5)
    weight = texture_weights(faces)
    assert float(weight.max()) > 0.9 and float(weight.min()) == 0
    difference = (weight[0] - weight[1].flip(1)).abs()
    assert float((difference > 0.1).float().mean()) < 0.05
    assert average_faces(textured, faces).reconstruction.texture.image.shape == (1, 3, 32, 32)


@pytest.mark.parametrize("perspective", [False, True])
def test_concatenate_undoes_slicing(perspective):
    faces = make_face(3, perspective=perspective)
    again = concatenate([faces[i : i + 1] for i in range(3)])
    assert isinstance(again.camera, PerspectiveCamera if perspective else WeakPerspectiveCamera)
    for name in ("vertices", "neutral_vertices", "albedo", "pose", "sh_coefficients"):
        assert torch.equal(getattr(again, name), getattr(faces, name))
    assert torch.equal(again.camera.rotation, faces.camera.rotation)
    assert torch.equal(again.landmarks_2d, faces.landmarks_2d)
    assert torch.equal(again.codes["identity"], faces.codes["identity"])


def test_what_is_refused(system, textured):
    faces = make_faces(system, 2)
    for others in ([], [faces, make_face()], [faces, make_faces(textured, 1)]):
        with pytest.raises(ValueError, match="faces must"):
            concatenate(others)
    with pytest.raises(ValueError, match="at least one face"):
        average_faces(system, faces[:0])
    for function in (average_texture, texture_weights):
        with pytest.raises(ValueError, match="must have textures"):
            function(faces)
