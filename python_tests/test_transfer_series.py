"""Frames of a sequence, their names and lights, people of several pictures, and what is written over which picture."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import torch
from faces import SIZE, make_face
from tiny_faces import make_system, write_portraits

from facecore.data import FaceCrop, LandmarkSource, read_image
from facecore.evaluation.transfer_page import Seen
from facecore.morphable import load as load_model
from facecore.systems.decoding import FaceSource
from facecore.systems.export import export_face
from facecore.systems.inference import FoundFace, find_faces, reconstruct_faces
from facecore.systems.transfer_series import Estimator, Frame, Person, make_frames, read_light, write_result

CROP = FaceCrop((130.3, 88.7), 90.5, SIZE, SIZE)


def found(name: str) -> FoundFace:
    return FoundFace(pathlib.Path(name), CROP, None)


def person(name: str) -> Person:
    return Person(name, [], make_face())


def test_one_light_for_a_sequence():
    frames = make_frames([found("b/f2.png"), found("b/f10.png")], [("driver", "driver")])
    assert [frame.name for frame in frames] == ["f2", "f10"]
    assert [frame.light for frame in frames] == ["driver", "driver"]
    assert not any(frame.same_shape for frame in frames)
    assert [frame.result_name(person("x"), False) for frame in frames] == ["f2", "f10"]
    assert [frame.result_name(person("x"), True) for frame in frames] == ["x/f2", "x/f10"]


def test_a_light_for_each_driver():
    lights = [("a", torch.zeros(1, 9, 3)), ("b", torch.ones(1, 9, 3))]
    frames = make_frames([found("1.png"), found("2.png")], lights)
    assert [frame.name for frame in frames] == ["1", "2"]
    assert [frame.light is light for frame, (_, light) in zip(frames, lights)] == [True, True]
    assert not any(frame.same_shape for frame in frames)


def test_several_lights_for_one_driver_or_none():
    lights = [("left", torch.zeros(1, 9, 3)), ("identity", "identity")]
    frames = make_frames([found("y.png")], lights)
    assert [frame.name for frame in frames] == ["y_left", "y_identity"]
    assert [frame.same_shape for frame in frames] == [False, True]
    alone = make_frames([], lights)
    assert [frame.result_name(person("x"), False) for frame in alone] == ["x_left", "x_identity"]
    assert [frame.result_name(person("x"), True) for frame in alone] == ["x_left", "x_identity"]
    for drivers, count in (([found("1.png"), found("2.png"), found("3.png")], 2), ([], 0)):
        with pytest.raises(ValueError, match="lights must be one"):
            make_frames(drivers, lights[:count])


@pytest.mark.parametrize("meshes", [True, False])
def test_uncovered_pixels_stay_to_the_bit(meshes, tmp_path, generator):
    """Pictures of 8 bits survive the drawing and the file exactly wherever the face is not."""
    image = torch.randint(0, 256, (3, 180, 240), generator=generator).float() / 255
    result = Seen(image, CROP, make_face())
    drawn, files = write_result(tmp_path, "deep/me", result, meshes=meshes)
    names = {"me.png", "me.glb", "me.obj", "me.npz"} if meshes else {"me.png"}
    assert {path.name for path in (tmp_path / "deep").iterdir()} == names
    assert set(files.values()) == {f"deep/{name}" for name in names}
    change = (drawn.image != image).any(0)
    points = CROP.to_image(result.face.camera.project(result.face.vertices)[0].double())
    (left, top), (right, bottom) = points.amin(0).tolist(), points.amax(0).tolist()
    v, u = torch.nonzero(change, as_tuple=True)
    margin = 2.0  # pixels: the drawn edge is smoothed and resampled
    assert left - margin <= float(u.min()) and float(u.max()) <= right + margin
    assert top - margin <= float(v.min()) and float(v.max()) <= bottom + margin
    # an ellipse of half axes 0.56 and 0.76 of half the crop's side is 6 % of the picture
    assert 0.05 < float(change.float().mean()) < 0.08
    written = read_image(tmp_path / "deep" / "me.png")
    assert torch.equal(written[:, ~change], image[:, ~change])


def test_light_from_a_reconstruction(tmp_path):
    face = make_face()
    path = export_face(tmp_path, "me", face, torch.rand(3, 180, 240), CROP).npz
    assert torch.equal(read_light(path), face.sh_coefficients)


@pytest.mark.parametrize("kind", ["text", "other", "shape", "nan", "pickle", "one array"])
def test_other_files_hold_no_light(kind, tmp_path):
    path = tmp_path / "light.npz"
    contents = {
        "other": {"vertices": np.zeros(3)},
        "shape": {"sh_coefficients": np.zeros((3, 9))},
        "nan": {"sh_coefficients": np.full((9, 3), np.nan)},
        "pickle": {"sh_coefficients": np.array([{}] * 27).reshape(9, 3)},
    }
    if kind == "text":
        path.write_text("no archive")
    elif kind == "one array":
        with path.open("wb") as file:
            np.save(file, np.zeros((9, 3)))
    else:
        np.savez(path, **contents[kind])
    with pytest.raises(ValueError, match="light"):
        read_light(path)


@pytest.fixture(scope="module")
def morphable():
    return load_model("procedural", num_vertices=2500)


@pytest.fixture(scope="module")
def faces(morphable, tmp_path_factory) -> list[FoundFace]:
    folder = tmp_path_factory.mktemp("faces")
    write_portraits(folder, morphable, ["a", "b", "c"])
    source = LandmarkSource(folder)
    paths = sorted(folder.glob("*.png"))
    return [find_faces(path, source, 64, masks=None, assume_cropped=False)[0] for path in paths]


def make_estimator(source: FaceSource) -> Estimator:
    return Estimator(source, lambda face: reconstruct_faces([face], source, size=64).reconstruction)


def test_people_and_what_is_below(morphable, faces):
    estimator = make_estimator(make_system(morphable))
    x = estimator.person("x", faces[:1])
    assert x.aggregated is None and x.face is x.faces
    picture, face = estimator.estimate(faces[2])
    driver = Seen(picture.image, picture.crop, face)
    light = torch.rand(1, 9, 3)
    result = estimator.transferred(x, driver, "driver", "driver", "identity")
    assert result.image is driver.image and result.crop is driver.crop
    assert torch.equal(result.face.pose, face.pose)
    assert torch.equal(result.face.sh_coefficients, x.face.sh_coefficients)
    own = estimator.transferred(x, driver, "identity", "identity", light)
    assert torch.equal(own.image, read_image(faces[0].path)) and own.crop == faces[0].crop
    assert torch.equal(own.face.vertices, x.face.vertices) and torch.equal(own.face.sh_coefficients, light)


def test_a_person_of_several_pictures_stands_in_the_least_turned(morphable, faces):
    estimator = make_estimator(morphable)
    several = estimator.person("x", faces)
    assert several.aggregated is not None and len(several.faces) == 3 and len(several.face) == 1
    turned = several.faces.pose[:, 0].cos() * several.faces.pose[:, 1].cos()
    assert several.aggregated.reference == int(turned.argmax())
    assert torch.equal(several.seen.image, read_image(faces[several.aggregated.reference].path))
    # nothing is refined: every single shape is the model's mean face, and so is their average
    driven = estimator.transferred(several, several.seen, "driver", "driver", "driver")
    torch.testing.assert_close(driven.face.vertices, several.face.vertices, rtol=0, atol=1e-3)


def test_a_picture_is_estimated_once_for_its_lights(morphable, faces, monkeypatch):
    estimator = make_estimator(morphable)
    first = estimator.estimate(faces[0])
    monkeypatch.setattr(FoundFace, "read", lambda self: pytest.fail("read again"))
    assert estimator.estimate(faces[0]) is first
    assert Frame("x", faces[0], "driver").driver is faces[0]
