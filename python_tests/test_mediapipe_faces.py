"""MediaPipe as a plug-in: what is said without it, and how exact it is with it."""

from __future__ import annotations

import importlib.metadata
import types

import pytest
import torch

from facecore.data import read_image, read_landmarks
from facecore.data.landmarks import Landmarks
from facecore.perception import mediapipe_faces
from facecore.perception.mediapipe_faces import MediapipeDetector, MediapipeLandmarks, missing


@pytest.fixture
def no_mediapipe(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    mediapipe_faces._solutions.cache_clear()
    monkeypatch.setattr(importlib.metadata, "version", absent)
    yield
    mediapipe_faces._solutions.cache_clear()


def test_without_it_the_remedy_is_named(no_mediapipe):
    assert missing().startswith("MediaPipe is not installed: pip install 'facecore[landmarks]'")
    for plug_in in (MediapipeDetector, MediapipeLandmarks):
        with pytest.raises(ImportError, match=r"facecore\[landmarks\]"):
            plug_in()


def test_a_version_without_models_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.2.2")
    assert missing().startswith("MediaPipe 1.2.2 carries no models: pip install")


def test_a_package_that_does_not_start_is_no_traceback(monkeypatch):
    """Protobuf 7 has taken away what MediaPipe 0.10.21 calls."""

    def broken(**options):
        raise AttributeError("'FieldDescriptor' object has no attribute 'label'")

    solutions = types.SimpleNamespace(
        face_mesh=types.SimpleNamespace(FaceMesh=broken), face_detection=types.SimpleNamespace(FaceDetection=broken)
    )
    monkeypatch.setattr(mediapipe_faces, "_solutions", lambda: solutions)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.10.21")
    for plug_in in (MediapipeDetector, MediapipeLandmarks):
        with pytest.raises(ImportError, match=r"does not start here \('FieldDescriptor'.*docs/perception\.md"):
            plug_in()


@pytest.fixture(scope="module")
def finder():
    pytest.importorskip("mediapipe", reason="MediaPipe is not installed")
    from facecore.data.face_finder import load_face_finder

    return load_face_finder()


def test_the_portrait(finder, capfd):
    from facecore.data.portrait import load_portrait

    portrait = load_portrait()
    (face,) = finder.find(portrait.image)
    error = nme(face.landmarks, portrait.landmarks)
    # Those were MediaPipe's own points, corrected by eye: this is the size of the corrections, in percent of the box.
    assert float(error.mean()) < 3 and float(error[17:].mean()) < 2.5
    assert capfd.readouterr().err == ""  # its C++ prints warnings


def test_no_face_in_noise(finder, generator):
    assert finder.find(torch.rand(3, 200, 150, generator=generator)) == []
    assert finder.find(torch.zeros(3, 7, 5)) == []


@pytest.mark.parametrize("size", [48, 3000])
def test_tiny_and_huge_pictures(finder, size):
    """The portrait's face, cut out and resized: the points follow within 2 % of the box."""
    from facecore.data import FaceCrop
    from facecore.data.portrait import load_portrait

    portrait = load_portrait()
    crop = FaceCrop.from_landmarks(portrait.landmarks, size, size).resized(size, size, 1.5)
    (face,) = finder.find(crop.crop(portrait.image).clamp(0, 1))
    (whole,) = finder.find(portrait.image)
    moved = Landmarks(crop.to_crop(whole.landmarks.points))
    assert float(nme(face.landmarks, moved).mean()) < (4 if size < 100 else 2)


SOURCES = {  # largest mean error, in percent of the box: all 68 and without the contour; measured 2.3, 3.1, 4.1 to 5.2
    "eos_300W/image_0010_face.png": ("eos_300W/image_0010_face.pts", 3.0, 2.5),  # made by hand
    "dlib_faces/2008_002506.jpg": ("dlib_faces/testing_with_face_landmarks.xml", 4.5, 4.0),  # by another detector
    "PRNet_AFLW2000/image00050.jpg": ("PRNet_AFLW2000/image00050.mat", 3.5, 3.0),  # by a fitted model
}


@pytest.mark.parametrize("picture", SOURCES)
def test_it_agrees_with_given_landmarks(finder, data_dir, picture):
    points, limit, inner = SOURCES[picture]
    path = data_dir / "photos" / picture
    found = finder.find(read_image(path))
    for given in read_landmarks(data_dir / "photos" / points, image=path):
        error = min((nme(face.landmarks, given) for face in found), key=lambda error: float(error.mean()))
        assert float(error.mean()) < limit and float(error[17:].mean()) < inner


def test_every_picture_shows_a_face(finder, data_dir):
    from facecore.data.search import find_pictures

    for path in find_pictures(data_dir / "photos"):
        assert finder.find(read_image(path)), path


def nme(found: Landmarks, given: Landmarks) -> torch.Tensor:
    """Distances [68] in percent of the given box, root of width times height (METHODS 8.1)."""
    extent = given.points.amax(0) - given.points.amin(0)
    return 100 * (found.points - given.points).norm(dim=1) / extent.prod().sqrt()
