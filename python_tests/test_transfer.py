"""Transfer: what comes from which face is decoded exactly as it should, the rest stays to the bit."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_faces import make_faces, make_system

from facecore.morphable import load as load_model
from facecore.render import Renderer
from facecore.systems.aggregation import average_faces
from facecore.systems.parameterization import CoefficientParameters
from facecore.systems.reconstruction import Reconstruction
from facecore.systems.transfer import Parts, relight, transfer, transfer_to_person

TENSORS = ("vertices", "neutral_vertices", "albedo", "pose", "sh_coefficients")


@pytest.fixture(scope="module")
def morphable():
    return load_model("procedural", num_vertices=2500)


@pytest.fixture(scope="module", params=[False, True], ids=["albedo", "texture"])
def system(request, morphable):
    return make_system(morphable, texture=request.param)


def differing(first: Reconstruction, second: Reconstruction) -> set[str]:
    """The parts in which two reconstructions are not bit-equal."""
    different = {name for name in TENSORS if not torch.equal(getattr(first, name), getattr(second, name))}
    different |= {name for name in first.codes if not torch.equal(first.codes[name], second.codes[name])}
    if not torch.equal(first.camera.rotation, second.camera.rotation):
        different.add("camera")
    if first.texture is not None and not torch.equal(first.texture.image, second.texture.image):
        different.add("texture")
    return different


def test_from_a_face_to_itself_gives_the_reconstruction(system):
    faces = make_faces(system, 3)
    assert differing(transfer(system, faces, faces), faces) == set()


def test_swapped_codes_are_decoded(system):
    faces = make_faces(system, 2)
    swapped = transfer(system, faces, faces[torch.tensor([1, 0])])
    for i in range(2):
        j = 1 - i
        expected = system.decode_shape(faces.codes["identity"], faces.codes["expression"][[1, 0]])[i]
        assert torch.equal(swapped.vertices[i], expected)
        assert not torch.allclose(swapped.vertices[i], faces.vertices[i], atol=1e-3)
        for name in ("pose", "sh_coefficients"):
            assert torch.equal(getattr(swapped, name)[i], getattr(faces, name)[j])
        for name in ("albedo", "neutral_vertices"):
            assert torch.equal(getattr(swapped, name)[i], getattr(faces, name)[i])
        assert torch.equal(swapped.codes["identity"][i], faces.codes["identity"][i])
        assert torch.equal(swapped.codes["expression"][i], faces.codes["expression"][j])
    if faces.texture is not None:
        assert torch.equal(swapped.texture.image, faces.texture.image), "X's own texture"


@pytest.mark.parametrize(
    ("part", "changed"),
    [
        ("expression", {"vertices", "expression"}),
        ("pose", {"pose", "camera"}),
        ("light", {"sh_coefficients"}),
    ],
)
def test_one_part_alone_leaves_the_others(system, part, changed):
    faces = make_faces(system, 2)
    none = Parts("identity", "identity", "identity")
    assert differing(transfer(system, faces[:1], faces[1:], none), faces[:1]) == set()
    one = dataclasses.replace(none, **{part: "driver"})
    assert differing(transfer(system, faces[:1], faces[1:], one), faces[:1]) == changed


def test_there_and_back_again(system):
    """The driver, given back its own expression, pose and light from the result, is as it was."""
    faces = make_faces(system, 2)
    result = transfer(system, faces[:1], faces[1:])
    back = transfer(system, faces[1:], result)
    # decoded alone here and beside another face there: the order of float32 sums, in mm
    torch.testing.assert_close(back.vertices, faces[1:].vertices, rtol=0, atol=1e-3)
    assert differing(back, faces[1:]) <= {"vertices"}


def test_one_face_stands_for_all_on_either_side(system):
    faces, other = make_faces(system, 3), make_faces(system, 1, seed=1)
    for result, pairs in (
        (transfer(system, other, faces), [(other, faces[i : i + 1]) for i in range(3)]),
        (transfer(system, faces, other), [(faces[i : i + 1], other) for i in range(3)]),
    ):
        assert len(result) == 3
        for i, (identity, driver) in enumerate(pairs):
            single = transfer(system, identity, driver)
            # the same sums in batches of another size
            torch.testing.assert_close(result[i : i + 1].vertices, single.vertices, rtol=0, atol=1e-3)
            assert differing(result[i : i + 1], single) <= {"vertices"}


def test_with_a_morphable_model(morphable):
    model = CoefficientParameters(morphable, torch.zeros(2, 6), torch.rand(2, 9, 3))
    with torch.no_grad():
        model.whitened["expression"][1] += 1.0
        model.whitened["identity"][0] += 0.5
    faces = model.reconstruction(64, 64)
    result = transfer(morphable, faces[:1], faces[1:])
    expected = morphable.shape(faces.codes["identity"][:1], faces.codes["expression"][1:])
    assert torch.equal(result.vertices, expected)
    assert torch.equal(result.albedo, faces.albedo[:1])


def test_to_a_person_of_several_photographs(system):
    faces, driver = make_faces(system, 3), make_faces(system, 1, seed=1)
    person = average_faces(system, faces)
    result = transfer_to_person(system, faces, person, driver)
    expected = system.decode_shape(faces.codes["identity"], driver.codes["expression"].expand(3, -1)).mean(0)
    assert torch.equal(result.vertices[0], expected)
    assert torch.equal(result.albedo, person.reconstruction.albedo)
    assert torch.equal(result.pose, driver.pose)
    own = transfer_to_person(system, faces, person, driver, Parts(expression="identity"))
    assert torch.equal(own.vertices, person.reconstruction.vertices)


def test_relight_changes_the_light_alone(system):
    faces = make_faces(system, 2)
    light = torch.rand(1, 9, 3)
    assert differing(relight(faces, light), faces) == {"sh_coefficients"}
    assert torch.equal(relight(faces, light).sh_coefficients, light.expand(2, -1, -1))
    assert differing(relight(faces, faces.sh_coefficients), faces) == set()


def test_the_picture_of_uniform_light_is_the_albedo(system):
    """Shading 1 everywhere: what is drawn is the albedo itself."""
    faces = make_faces(system, 1)
    uniform = torch.zeros(1, 9, 3)
    uniform[:, 0] = 1 / 0.886227
    drawn = Renderer(faces.triangles, 32, 32)(faces.vertices, faces.surface, faces.camera, uniform)
    covered = drawn.alpha > 0
    assert bool(covered.any())
    image, albedo = (picture.permute(0, 2, 3, 1)[covered] for picture in (drawn.image, drawn.albedo))
    torch.testing.assert_close(image, albedo, rtol=1e-6, atol=1e-6)  # 0.886227 has six digits


def test_what_is_refused(system, morphable):
    faces = make_faces(system, 3)
    with pytest.raises(ValueError, match="pose must be 'driver' or 'identity', got 'x'"):
        Parts(pose="x")
    with pytest.raises(ValueError, match=r"as many faces each, or one of them 1, got \(3, 2\)"):
        transfer(system, faces, faces[:2])
    with pytest.raises(ValueError, match="their triangles differ"):
        transfer(system, faces, dataclasses.replace(faces, triangles=faces.triangles.flip(0)))
    with pytest.raises(ValueError, match="driver must have the code 'expression', got identity"):
        transfer(system, faces, dataclasses.replace(faces, codes={"identity": faces.codes["identity"]}))
    with pytest.raises(
        ValueError, match=r"codes\['identity'\] must have shape \[N, \d+\] for this source, got \[3, 8\]"
    ):
        transfer(morphable, faces, faces)
    for light, message in (
        (torch.rand(2, 9, 3), "must hold 1 or 3 lights, got 2"),
        (torch.rand(1, 9), "must have shape"),
    ):
        with pytest.raises(ValueError, match=message):
            relight(faces, light)
