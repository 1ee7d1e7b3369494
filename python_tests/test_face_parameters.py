"""Parameter files of 300W-LP and AFLW2000-3D: signs, axes, units, index bases, against known bases and real files."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from dataset_files import HEIGHT, POSE, WIDTH, file_fields, rotation_of_3ddfa
from model_files import Truth, bfm_300wlp_fields, bfm_truth, small_truth

from facecore.data import FaceCrop, read_face_parameters
from facecore.data.face_parameters import crop_camera
from facecore.morphable import MorphableModel, load
from facecore.render import WeakPerspectiveCamera, euler_to_matrix

SAMPLES = (
    "photos/PRNet_AFLW2000/image00050.mat",
    "photos/PRNet_AFLW2000/image00430.mat",
    "photos/face3d_300W-LP/IBUG_image_008_1_0.mat",
)


def write(folder: pathlib.Path, truth: Truth, **changes: Any) -> tuple[MorphableModel, pathlib.Path, np.ndarray]:
    scipy.io.savemat(folder / "BFM.mat", {"model": bfm_300wlp_fields(truth)})
    content, posed = file_fields(truth, POSE)
    content = {name: value for name, value in (content | changes).items() if value is not None}
    scipy.io.savemat(folder / "face.mat", content)
    return load(folder / "BFM.mat"), folder / "face.mat", posed


def test_a_file_projects_to_its_own_points(tmp_path: pathlib.Path) -> None:
    """Within 0.01 pixel; what is left is the float32 of the model, 1e-5 mm of 1.3 pixels per mm."""
    model, path, posed = write(tmp_path, small_truth())
    parameters = read_face_parameters(path)
    pixels = parameters.project(model, HEIGHT, WIDTH)
    assert np.abs(pixels.numpy() - (posed[:, :2] - 0.5)).max() < 0.001
    assert parameters.points68 is not None and parameters.depth68 is not None
    assert (parameters.points68 - pixels[model.landmarks68]).abs().max() < 0.01
    assert np.allclose(parameters.depth68.numpy(), posed[small_truth().landmarks68, 2])
    assert parameters.roi is not None and parameters.roi.tolist() == [1, -2, 300, 400]
    assert parameters.texture is not None and parameters.illumination is not None and len(parameters.texture) == 2


def test_on_the_topology_of_the_basel_face_model(tmp_path: pathlib.Path, data_dir: pathlib.Path) -> None:
    model, path, posed = write(tmp_path, bfm_truth(data_dir))
    assert model.num_vertices == 53215
    pixels = read_face_parameters(path).project(model, HEIGHT, WIDTH)
    assert np.abs(pixels.numpy() - (posed[:, :2] - 0.5)).max() < 0.01


@pytest.mark.parametrize(
    "wrong",
    [
        lambda p: p | {"Pose_Para": p["Pose_Para"] * [[-1, -1, -1, 1, 1, 1, 1]]},  # the angles instead of the matrix
        lambda p: p | {"Pose_Para": p["Pose_Para"] + [[0, 0, 0, 1, 0, 0, 0]]},  # an index base
        lambda p: p | {"Pose_Para": p["Pose_Para"] + [[0, 0, 0, 0, 1, 0, 0]]},
        lambda p: p | {"Exp_Para": 0 * p["Exp_Para"]},
    ],
    ids=["angles", "x", "y", "expression"],
)
def test_the_comparison_sees_each_trap(tmp_path: pathlib.Path, wrong: Any) -> None:
    truth = small_truth()
    model, path, posed = write(tmp_path, truth)
    scipy.io.savemat(path, wrong(file_fields(truth, POSE)[0]))
    pixels = read_face_parameters(path).project(model, HEIGHT, WIDTH)
    assert np.abs(pixels.numpy() - (posed[:, :2] - 0.5)).max() > 0.5


def test_the_pose_round_trip_is_exact(generator: torch.Generator) -> None:
    """File angles -> matrix -> facecore's angles -> matrix, to rounding: 1e-12 for entries up to 1 in float64."""
    from facecore.data import FaceParameters

    low, high = torch.tensor([-1.5, -1.55, -3.1]), torch.tensor([1.5, 1.55, 3.1])
    for angles in (low + (high - low) * torch.rand(200, 3, generator=generator)).double():
        pose = torch.cat([angles, torch.tensor([1.0, 2.0, 3.0, 1e-3], dtype=torch.float64)])
        parameters = FaceParameters(pathlib.Path("x.mat"), pose, torch.zeros(199), torch.zeros(29))
        matrix = parameters.rotation()
        assert np.abs(matrix.numpy() - rotation_of_3ddfa(*angles.tolist())).max() < 1e-12
        assert (euler_to_matrix(parameters.angles()[None])[0] - matrix).abs().max() < 1e-12


def test_the_camera_of_a_crop(tmp_path: pathlib.Path) -> None:
    model, path, posed = write(tmp_path, small_truth())
    parameters = read_face_parameters(path)
    crop = FaceCrop((200.0, 210.0), 300.0, 96, 128)
    camera = crop_camera(parameters.camera(HEIGHT, WIDTH, model), crop)
    assert isinstance(camera, WeakPerspectiveCamera)
    pixels = camera.project(parameters.vertices(model).double()[None])[0]
    expected = crop.to_crop(torch.from_numpy(posed[:, :2] - 0.5))
    torch.testing.assert_close(pixels, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", SAMPLES)
def test_real_files(data_dir: pathlib.Path, name: str) -> None:
    """The published standard face, posed by a file, lies on the file's own points; by the transpose it does not."""
    parameters = read_face_parameters(data_dir / name)
    assert len(parameters.shape) == 199 and len(parameters.expression) == 29 and parameters.points68 is not None
    assert (parameters.points21 is None) == ("300W" in name)
    if parameters.points21 is not None and parameters.visible21 is not None:
        assert (parameters.points21[parameters.visible21] > 0).all() and parameters.visible21.sum() > 15
    standard = scipy.io.loadmat(data_dir / "meshes/bfm_topology/similarity_Lm3D_all.mat")["lm"].astype(np.float64)
    standard = torch.from_numpy(standard - standard.mean(0))
    points = parameters.points68 * torch.tensor([1.0, -1.0])  # y up
    inner = slice(17, 68)  # the contour of the 2-D points is that of the picture
    size = float((points[inner] - points[inner].mean(0)).norm())

    def misfit(rotation: torch.Tensor) -> float:
        """After the best scale and shift, relative to the face's size."""
        posed = (standard @ rotation.T)[inner, :2]
        a, b = posed - posed.mean(0), points[inner] - points[inner].mean(0)
        scale = (a * b).sum() / (a * a).sum()
        return float((scale * a - b).norm()) / size

    rotation = parameters.rotation()
    assert misfit(rotation) < 0.15
    assert misfit(rotation) < 0.7 * misfit(rotation.T)
    for axis in range(3):
        flipped = parameters.pose[:3].clone()
        flipped[axis] *= -1
        if abs(float(flipped[axis])) > 0.09:  # a smaller angle is below what a standard face can tell
            assert misfit(rotation) < misfit(euler_to_matrix(flipped[None])[0].T)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Pose_Para": None}, "Pose_Para is missing"),
        ({"Pose_Para": np.zeros((1, 6))}, "Pose_Para must have 7 entries, got 6"),
        ({"Pose_Para": np.zeros((1, 7))}, "positive scale, got 0.0"),
        ({"Shape_Para": np.zeros((228, 1))}, "Shape_Para must have at most 199 entries, got 228"),
        ({"Exp_Para": np.full((29, 1), np.inf)}, "Exp_Para must hold finite numbers"),
        ({"Exp_Para": "text"}, "Exp_Para must hold finite numbers"),
        ({"pt3d_68": np.zeros((68, 3))}, r"pt3d_68 must have shape \[3, 68\], got \[68, 3\]"),
        ({"pt2d": np.zeros((2, 5))}, r"pt2d must have shape \[2, 68\]"),
    ],
)
def test_damaged_files_are_refused(tmp_path: pathlib.Path, changes: dict[str, Any], message: str) -> None:
    _, path, _ = write(tmp_path, small_truth(), **changes)
    with pytest.raises(ValueError, match=message) as caught:
        read_face_parameters(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="not a readable MATLAB file"):
        read_face_parameters(path)
    with pytest.raises(ValueError, match="is not a file"):
        read_face_parameters(tmp_path / "absent.mat")


def test_models_that_do_not_fit_are_refused(tmp_path: pathlib.Path) -> None:
    model, path, _ = write(tmp_path, small_truth(), Exp_Para=np.zeros((1, 1)))
    parameters = read_face_parameters(path)
    with pytest.raises(ValueError, match=r"has 2 expression modes, .* has 1 coefficients"):
        parameters.coefficients(model)
    with pytest.raises(ValueError, match=r"'procedural.*' does not know its origin"):
        parameters.camera(HEIGHT, WIDTH, load("procedural", num_vertices=2500))
    fewer = load(tmp_path / "BFM.mat", num_identity=2, num_expression=1)
    identity, expression = parameters.coefficients(fewer)
    assert identity.shape == (1, 2) and expression.shape == (1, 1)
