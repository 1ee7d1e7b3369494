"""From pictures to faces: what is found in a folder, what a face's pixels say, and both sources of estimates."""

from __future__ import annotations

import dataclasses
import pathlib
import pickle
import statistics

import pytest
import torch
from tiny_faces import make_system

from facecore.data import FaceCrop, Landmarks, LandmarkSource, five_points, read_image, write_png
from facecore.data.images import is_image_file
from facecore.morphable import MorphableModel
from facecore.morphable import load as load_model
from facecore.systems.inference import (
    FaceInput,
    FoundFace,
    find_faces,
    observe,
    reconstruct_faces,
)


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return load_model("procedural", num_vertices=2500)


def _face(tmp_path: pathlib.Path, points: torch.Tensor | None, mask: torch.Tensor | None = None) -> FaceInput:
    """A picture of 60 x 80 pixels (rows x columns): skin on the left, blue on the right."""
    image = torch.tensor([0.85, 0.60, 0.50])[:, None, None].expand(3, 60, 80).clone()
    image[:, :, 40:] = torch.tensor([0.1, 0.2, 0.9])[:, None, None]
    landmarks = None if points is None else Landmarks(points.double())
    crop = FaceCrop((40.0, 30.0), 40.0, 32, 32)
    return FaceInput(tmp_path / "a.png", image, crop, landmarks, mask)


def test_observation_of_68_5_and_no_landmarks(tmp_path):
    points = torch.rand(68, 2, generator=torch.Generator().manual_seed(0)) * 30 + 20
    faces = [_face(tmp_path, points), _face(tmp_path, five_points(points)), _face(tmp_path, None)]
    seen = observe(faces, 16)  # 40 pixels of the picture are 16 of the crop
    expected = (points - torch.tensor([20.0, 10.0])) * 16 / 40
    torch.testing.assert_close(seen.landmarks[0], expected)
    torch.testing.assert_close(seen.five_points[1], five_points(expected))
    assert seen.landmark_weight.sum(1).tolist() == [68, 0, 0]
    assert seen.five_point_weight.sum(1).tolist() == [0, 5, 0]
    assert seen.images.shape == (3, 3, 16, 16)


def test_masks(tmp_path):
    """Skin by its colour; a given mask in its place; a grey picture as a whole; never beyond the picture's border."""
    given = torch.zeros(60, 80)
    given[:30] = 1
    plain, masked = _face(tmp_path, None), _face(tmp_path, None, given)
    grey = dataclasses.replace(plain, image=torch.full((3, 60, 80), 0.5))
    left, right = slice(0, 6), slice(10, 16)  # away from the border between skin and blue
    seen = observe([plain, masked, grey], 16).mask
    assert bool((seen[0, :, left] == 1).all()) and bool((seen[0, :, right] == 0).all())
    assert bool((seen[1, :7] == 1).all()) and bool((seen[1, 9:] == 0).all())
    assert bool((seen[2] == 1).all())
    wide = FaceCrop((40.0, 30.0), 120.0, 32, 32)  # rows 0-60 of the picture are the middle half of 120
    beyond = observe([dataclasses.replace(face, crop=wide) for face in (plain, masked, grey)], 16).mask
    assert float(beyond[:, :4].sum() + beyond[:, 12:].sum()) == 0
    assert float(beyond[2].sum()) > 0


def test_find_faces(tmp_path):
    picture = tmp_path / "a.png"
    write_png(picture, torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(ValueError, match=r"a\.png: no landmarks; put a\.pts \(68 or 5 points\) beside it"):
        find_faces(picture, LandmarkSource(tmp_path), 32, masks=None, assume_cropped=False)
    (whole,) = find_faces(picture, LandmarkSource(tmp_path), 32, masks=None, assume_cropped=True)
    assert whole.landmarks is None and whole.crop == FaceCrop.whole(40, 50, 32, 32)
    (tmp_path / "a.txt").write_text("15 12\n30 12\n22 20\n16 28\n29 28\n")
    (found,) = find_faces(picture, LandmarkSource(tmp_path), 32, masks=None, assume_cropped=True)
    assert found.landmarks is not None and found.landmarks.kind == "5"
    masks = tmp_path / "masks"
    masks.mkdir()
    with pytest.raises(ValueError, match=r"a\.png: no mask a\.png in .*masks; write one, or leave --masks out"):
        find_faces(picture, LandmarkSource(tmp_path), 32, masks=masks, assume_cropped=False)
    write_png(masks / "a.png", torch.ones(40, 49))
    with pytest.raises(ValueError, match="has 49 x 40 pixels, its picture 50 x 40"):
        find_faces(picture, LandmarkSource(tmp_path), 32, masks=masks, assume_cropped=False)
    write_png(masks / "a.png", torch.ones(40, 50))
    (found,) = find_faces(picture, LandmarkSource(tmp_path), 32, masks=masks, assume_cropped=False)
    face = found.read()
    assert face.mask is not None and bool((face.mask == 1).all())
    assert torch.equal(face.image, read_image(picture))
    (masks / "deep").mkdir()
    write_png(masks / "deep" / "a.png", torch.zeros(40, 50))
    (tmp_path / "deep").mkdir()
    deep = picture.rename(tmp_path / "deep" / "a.png")
    (found,) = find_faces(deep, LandmarkSource(tmp_path), 32, masks=masks, assume_cropped=True, root=tmp_path)
    assert found.mask == masks / "deep" / "a.png"
    (tmp_path / "deep" / "a.txt").write_text("15 12\n" * 5)
    with pytest.raises(ValueError, match=r"deep/a\.png: the landmarks must be finite and not all at one place"):
        find_faces(deep, LandmarkSource(tmp_path), 32, masks=None, assume_cropped=False)


def test_found_faces_hold_no_pixels(tmp_path):
    """A folder of any size fits: 50 faces that are found take less memory than one of their pictures."""
    picture = tmp_path / "a.png"
    write_png(picture, torch.zeros(3, 400, 400))
    found = [
        face
        for _ in range(50)
        for face in find_faces(picture, LandmarkSource(tmp_path), 32, masks=None, assume_cropped=True)
    ]
    assert len(pickle.dumps(found)) < 400 * 400


def test_reconstructs_by_a_system_and_by_a_model(tmp_path, model):
    """The camera is that of the size x size crop."""
    face = _face(tmp_path, None)
    for source in (model, make_system(model)):
        result = reconstruct_faces([face, face], source, size=24).reconstruction
        assert len(result) == 2 and result.vertices.shape[1] == model.num_vertices
        assert (result.camera.height, result.camera.width) == (24, 24)


@pytest.mark.slow
def test_real_photographs(data_dir):
    """Every picture is found or refused with a reason. Of the faces with 68 points, a third is fitted.

    Every fourth inner point is held out of the fit. The bounds are those that refinement from the mean face is to keep.
    """
    root, size = data_dir / "photos", 160
    source = LandmarkSource(root)
    faces: list[FoundFace] = []
    for path in sorted(path for path in root.rglob("*") if is_image_file(path)):
        try:
            faces += find_faces(path, source, size, masks=None, assume_cropped=False)
        except ValueError as error:
            assert str(path) in str(error) and "no landmarks" in str(error)
            cropped = find_faces(path, source, size, masks=None, assume_cropped=True)
            assert len(cropped) == 1 and cropped[0].landmarks is None
    assert len(faces) > 60
    ict = load_model(data_dir / "ict_facekit.npz")
    held_out = torch.arange(17, 68)[::4]
    errors, falls = [], []
    for face in [face for face in faces if face.landmarks is not None and face.landmarks.kind == "68"][::3]:
        observation = observe([face.read()], size)
        observation.landmark_weight[:, held_out] = 0
        refined = reconstruct_faces([face.read()], ict, size=size, iterations=150, observation=observation)
        given = observation.landmarks[0]
        box = float((given.amax(0) - given.amin(0)).prod().sqrt())
        distance = (refined.reconstruction.landmarks_2d[0] - given)[held_out].norm(dim=-1).mean()
        errors.append(100 * float(distance) / box)
        falls.append(1 - float(refined.error_after) / float(refined.error_before))
    assert statistics.median(errors) < 3, sorted(errors)
    assert statistics.mean(falls) >= 0.50 and min(falls) >= 0.30, sorted(falls)
