"""Landmark files and pictures by name."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
import torch

from facecore.data import write_png
from facecore.evaluation.picture_folders import (
    LANDMARKS,
    files_by_key,
    label_files,
    picture_error,
    pictures_by_key,
    prediction_of,
    read_68,
    read_yaws,
    yaw_of_mat,
)

POINTS = np.random.default_rng(0).uniform(10, 90, size=(68, 2))


def write_mat(path, yaw_radians=0.5, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    points = np.vstack([POINTS.T + 0.5, np.zeros(68)])  # 1-based
    pose = np.array([[0.1, yaw_radians, 0, 0, 0, 0, 1e-3]])
    scipy.io.savemat(path, {"pt3d_68": points, "Pose_Para": pose, **more})
    return path


def test_files_by_key(tmp_path):
    write_mat(tmp_path / "b.mat")
    write_mat(tmp_path / "deep/a_pts.mat")
    (tmp_path / "b.pts").write_text("")
    (tmp_path / "index.csv").write_text("")
    (tmp_path / ".hidden.pts").write_text("")
    found = files_by_key(tmp_path, LANDMARKS)
    assert {key: path.name for key, path in found.items()} == {"b": "b.pts", "deep/a": "a_pts.mat"}
    with pytest.raises(ValueError, match="has no file ending in"):
        files_by_key(tmp_path / "deep", (".npz",))
    with pytest.raises(ValueError, match="is not a folder"):
        files_by_key(tmp_path / "b.mat", LANDMARKS)


def test_a_licence_is_no_label_and_a_damaged_label_is_one(tmp_path):
    (tmp_path / "LICENSE.txt").write_text("Permission is hereby granted")
    with pytest.raises(ValueError, match="has no landmark file"):
        label_files(tmp_path)
    (tmp_path / "a.txt").write_text("half of a lab")
    (tmp_path / "a.jpg").write_bytes(b"")
    np.savetxt(tmp_path / "b.txt", POINTS)
    assert list(label_files(tmp_path)) == ["a", "b"]


def test_predictions_by_path_or_by_name(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    predictions = {"deep/a": one, "b": two}
    assert prediction_of("deep/a", predictions, ["deep/a", "a"]) == one
    assert prediction_of("deep/b", predictions, ["deep/a", "deep/b"]) == two
    with pytest.raises(ValueError, match="several truths are called b"):
        prediction_of("deep/b", predictions, ["other/b", "deep/b"])
    with pytest.raises(ValueError, match="no prediction of it"):
        prediction_of("c", predictions, ["c"])


def test_points_and_yaw(tmp_path):
    path = write_mat(tmp_path / "a.mat")
    np.testing.assert_allclose(read_68(path), POINTS)
    assert yaw_of_mat(path) == pytest.approx(np.rad2deg(0.5)) and yaw_of_mat(tmp_path / "b.pts") is None
    assert yaw_of_mat(tmp_path / "a.pts") == yaw_of_mat(tmp_path / "a_pts.mat") == yaw_of_mat(path), "of the same name"
    (tmp_path / "bad.mat").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"bad\.mat is not a readable MATLAB file"):
        yaw_of_mat(tmp_path / "bad.mat")
    np.savez(tmp_path / "a.npz", landmarks_2d=POINTS)
    np.testing.assert_allclose(read_68(tmp_path / "a.npz"), POINTS)
    np.savez(tmp_path / "bad.npz", other=POINTS)
    with pytest.raises(ValueError, match=r"bad\.npz has no readable landmarks_2d"):
        read_68(tmp_path / "bad.npz")
    (tmp_path / "five.txt").write_text("1 2\n" * 5)
    with pytest.raises(ValueError, match="68 finite points, got"):
        read_68(tmp_path / "five.txt")


def test_yaws_of_a_table(tmp_path):
    path = tmp_path / "yaws.csv"
    path.write_text("image,yaw\nfolder/a.jpg,-31.5\n")
    assert read_yaws(path) == {"a": -31.5}
    for content, message in (("image\na\n", "columns image,yaw"), ("image,yaw\na,x\n", "row 2: yaw must be a number")):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_yaws(path)


def test_picture_error_by_hand(tmp_path):
    """Half of the picture differs by 51 of 255; a mask takes the other half away."""
    one = torch.full((3, 4, 6), 0.4)
    other = one.clone()
    other[:, :, 3:] += 0.2
    mask = torch.zeros(3, 4, 6)
    mask[:, :, 3:] = 1
    for name, picture in (("truth/a", one), ("drawn/a_overlay", other), ("masks/a", mask), ("empty/a", 0 * mask)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_png(tmp_path / f"{name}.png", picture)
    drawn = pictures_by_key(tmp_path / "drawn", "_overlay")["a"]
    arguments = drawn, tmp_path / "truth/a.png"
    assert picture_error(*arguments, None, tmp_path / "truth") == (pytest.approx(25.5, abs=0.01), 24)
    assert picture_error(*arguments, tmp_path / "masks", tmp_path / "truth") == (pytest.approx(51, abs=0.01), 12)
    with pytest.raises(ValueError, match="its mask is empty"):
        picture_error(*arguments, tmp_path / "empty", tmp_path / "truth")
    with pytest.raises(ValueError, match="no mask of its name"):
        picture_error(*arguments, tmp_path / "drawn", tmp_path / "truth")
    write_png(drawn, other[:, :, :5])
    with pytest.raises(ValueError, match="has 5 x 4 pixels"):
        picture_error(*arguments, None, tmp_path / "truth")
