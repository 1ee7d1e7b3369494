"""Reconstruction and its files: what is in them, in which units and pixels, and that they appear whole."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np
import pytest
import torch
from faces import SIZE, make_face
from hypothesis import given, settings
from hypothesis import strategies as st

from facecore.data import FaceCrop, read_image
from facecore.evaluation.panels import draw_over_picture
from facecore.mesh import load_mesh
from facecore.systems.export import export_face, output_names, picture_matrix

CROP = FaceCrop((130.3, 88.7), 90.5, SIZE, SIZE)


@pytest.fixture
def picture(generator):
    return torch.rand(3, 180, 240, generator=generator) * 0.2


@pytest.mark.parametrize(
    ("pictures", "names"),
    [
        ([], []),
        (["a/one.jpg", "a/two.jpg"], ["one", "two"]),
        (["one.jpg", "one.png", "two.png"], ["one.jpg", "one.png", "two"]),
        (["one.jpg", "One.png"], ["one.jpg", "One.png"]),
        (["a/one.jpg", "b/one.jpg"], ["one.jpg", "one.jpg-2"]),
        (["one.jpg", "one.jpg", "one.jpg"], ["one", "one-2", "one-3"]),
        (["one.jpg", "one.jpg", "one-2.jpg"], ["one", "one-3", "one-2"]),
        (["photo.of.me.jpg"], ["photo.of.me"]),
    ],
)
def test_output_names(pictures, names):
    assert output_names(pictures) == names


@settings(max_examples=200, deadline=None)
@given(st.lists(st.from_regex(r"\A[ab]/[xyX](-2)?\.(jpg|png)\Z"), max_size=8))
def test_output_names_never_collide(pictures):
    names = [name.lower() for name in output_names(pictures)]
    assert len(set(names)) == len(names) == len(pictures)


@pytest.mark.parametrize("perspective", [False, True], ids=["weak", "perspective"])
def test_picture_matrix_is_the_camera_followed_by_the_crop(perspective):
    face = make_face(3, perspective=perspective)
    points = face.landmarks_3d.double()
    homogeneous = torch.cat([points, torch.ones_like(points[..., :1])], -1) @ picture_matrix(face.camera, CROP).mT
    expected = CROP.to_image(face.camera.project(face.landmarks_3d).double())
    # float32 projection against float64: 64 pixels * 2^-23 * a few operations
    torch.testing.assert_close(homogeneous[..., :2] / homogeneous[..., 2:], expected, rtol=0, atol=1e-3)


def test_picture_matrix_does_not_depend_on_the_crops_resolution():
    face = make_face()
    torch.testing.assert_close(
        picture_matrix(face.camera, CROP), picture_matrix(face.camera, CROP.resized(500, 500)), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("name", ["me", "me.jpg", "with space"])
def test_files(name, tmp_path, picture):
    face = make_face()
    files = export_face(tmp_path, name, face, picture, CROP)
    expected = {f"{name}.glb", f"{name}.obj", f"{name}.npz", f"{name}_overlay.png"}
    assert {path.name for path in tmp_path.iterdir()} == expected, "nothing else, no temporary file"
    for path in (files.glb, files.obj):
        mesh = load_mesh(path)  # in mm whatever the file's unit
        torch.testing.assert_close(mesh.vertices, face.vertices[0], rtol=1e-5, atol=1e-4)
        assert torch.equal(mesh.triangles, face.triangles)
    assert read_image(files.overlay).shape == picture.shape


def test_arrays(tmp_path, picture):
    face = make_face()
    path = export_face(tmp_path, "me", face, picture, CROP).npz
    with np.load(path) as arrays:  # allow_pickle is off
        content = dict(arrays)
    shapes = {key: value.shape for key, value in content.items()}
    count = face.vertices.shape[1]
    assert shapes == {
        "vertices": (count, 3),
        "neutral_vertices": (count, 3),
        "albedo": (count, 3),
        "triangles": tuple(face.triangles.shape),
        "landmarks_2d": (68, 2),
        "landmarks_3d": (68, 3),
        "camera": (3, 4),
        "pose": (6,),
        "sh_coefficients": (9, 3),
        "codes": (8,),
        "code_names": (2,),
        "code_sizes": (2,),
        "image_size": (2,),
    }
    assert content["triangles"].dtype == np.int32 and content["camera"].dtype == np.float64
    np.testing.assert_array_equal(content["vertices"], face.vertices[0].numpy())
    np.testing.assert_array_equal(content["landmarks_3d"], face.landmarks_3d[0].numpy())
    assert list(content["code_names"]) == ["identity", "expression"] and list(content["code_sizes"]) == [5, 3]
    np.testing.assert_array_equal(content["codes"][:5], face.codes["identity"][0].numpy())
    assert list(content["image_size"]) == [180, 240]
    points = np.concatenate([content["landmarks_3d"], np.ones((68, 1))], 1) @ content["camera"].T
    np.testing.assert_allclose(points[:, :2] / points[:, 2:], content["landmarks_2d"], atol=1e-6)


@pytest.mark.parametrize("perspective", [False, True], ids=["weak", "perspective"])
@pytest.mark.parametrize("side", [30.0, 90.5, 400.0])
def test_the_face_is_drawn_where_the_camera_says(perspective, side, picture):
    """The centre of what was painted is the projected centre of the ellipsoid, however large the crop."""
    face = dataclasses.replace(make_face(perspective=perspective), albedo=torch.ones_like(make_face().albedo))
    crop = dataclasses.replace(CROP, side=side)
    drawn = draw_over_picture(face, picture, crop)
    changed = ((drawn - picture).abs().amax(0) > 0.2).double()
    matrix = picture_matrix(face.camera, crop)[0]
    center = (matrix[:2, 3] / matrix[2, 3]).tolist()
    v, u = torch.meshgrid(torch.arange(180) + 0.5, torch.arange(240) + 0.5, indexing="ij")
    if side > 150:  # the face is larger than the picture
        assert float(changed.mean()) > 0.9
        return
    found = [float((changed * axis).sum() / changed.sum()) for axis in (u, v)]
    assert found == pytest.approx(center, abs=1.0)  # light and perspective move the outline a little
    far = ((u - center[0]).hypot(v - center[1])) > 0.9 * side
    assert torch.equal(drawn[:, far], picture[:, far])


def test_a_crop_beside_the_picture_leaves_it_unchanged(picture):
    crop = FaceCrop((-500.0, -500.0), 50.0, SIZE, SIZE)
    assert torch.equal(draw_over_picture(make_face(), picture, crop), picture)


def test_several_faces_are_refused(tmp_path, picture):
    with pytest.raises(ValueError, match="of one face, got 2"):
        export_face(tmp_path, "me", make_face(2), picture, CROP)


@pytest.mark.parametrize("part", ["vertices", "albedo", "pose"])
def test_nothing_is_written_when_a_value_is_not_finite(part, tmp_path, picture):
    face = make_face()
    broken = dataclasses.replace(face, **{part: getattr(face, part) * float("nan")})
    with pytest.raises(ValueError, match=f"NaN or infinity in .*{part}"):
        export_face(tmp_path, "me", broken, picture, CROP)
    assert list(pathlib.Path(tmp_path).iterdir()) == []


def test_reconstruction_indexes_and_checks():
    faces = make_face(3)
    one = faces[1:2]
    assert len(one) == 1 and len(one.camera) == 1
    torch.testing.assert_close(one.landmarks_2d, faces.landmarks_2d[1:2])
    torch.testing.assert_close(faces[torch.tensor([2, 0])].codes["identity"], faces.codes["identity"][[2, 0]])
    with pytest.raises(ValueError, match=r"albedo must have shape \[3, 642, 3\], got \[3, 5, 3\]"):
        dataclasses.replace(faces, albedo=torch.zeros(3, 5, 3))
    with pytest.raises(ValueError, match="camera must hold 3 cameras"):
        dataclasses.replace(faces, camera=faces.camera[:2])
    with pytest.raises(ValueError, match=r"codes\['identity'\] must have shape"):
        dataclasses.replace(faces, codes={"identity": torch.zeros(2, 5)})
    with pytest.raises(ValueError, match="with a slice or a tensor, got int"):
        faces[0]
