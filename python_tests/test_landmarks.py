"""Landmark files, orders and the search for a picture's landmarks."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import scipy.io
import torch

from facecore.data import MIRROR_5, MIRROR_68, LandmarkSource, five_points, read_landmarks


@pytest.fixture
def indices() -> np.ndarray:
    """68 pixel indices (0-based), within a picture of 100 x 80."""
    return np.random.default_rng(1).uniform(5, 75, (68, 2)).round(2)


def lines(points: np.ndarray) -> str:
    return "\n".join(f"{x} {y}" for x, y in points)


def xml(points: dict[str, list[np.ndarray]]) -> str:
    def box(face: np.ndarray) -> str:
        parts = "".join(f"<part name='{i:02d}' x='{x}' y='{y}'/>" for i, (x, y) in enumerate(face))
        return f"<box top='0' left='0' width='9' height='9'>{parts}</box>"

    images = "".join(f"<image file='{name}'>{''.join(map(box, faces))}</image>" for name, faces in points.items())
    return f"<?xml version='1.0'?><dataset><images>{images}</images></dataset>"


def test_each_format_lands_in_continuous_pixels(tmp_path, indices):
    """The same 0-based pixel indices, written by each format's own rule: all read as index + 0.5."""
    one_based = indices + 1
    (tmp_path / "a.pts").write_text(f"version: 1\nn_points: 68\n{{\n{lines(one_based)}\n}}\n")
    (tmp_path / "a.txt").write_text(lines(indices) + "\n")
    (tmp_path / "a.csv").write_text("x,y\n" + lines(indices).replace(" ", ","))
    (tmp_path / "b.csv").write_text("u,v\n" + lines((indices + 0.5).round(2)).replace(" ", ","))
    (tmp_path / "c.csv").write_text(lines(indices).replace(" ", ","))
    (tmp_path / "a.xml").write_text(xml({"a.jpg": [indices]}))
    three = np.vstack((one_based.T, np.zeros((1, 68))))
    scipy.io.savemat(tmp_path / "aflw.mat", {"pt3d_68": three, "pt2d": np.full((2, 21), -1.0)})
    scipy.io.savemat(tmp_path / "300w.mat", {"pt2d": one_based.T})
    scipy.io.savemat(tmp_path / "a_pts.mat", {"pts_3d": one_based, "pts_2d": one_based + 3})
    names = ("a.pts", "a.txt", "a.csv", "b.csv", "c.csv", "a.xml", "aflw.mat", "300w.mat", "a_pts.mat")
    for name in names:
        (face,) = read_landmarks(tmp_path / name, (100, 80))
        assert face.kind == "68", name
        torch.testing.assert_close(face.points, torch.from_numpy(indices + 0.5), atol=1e-9, rtol=0, msg=name)


def test_table_of_points(tmp_path, indices):
    header = ["image"] + [f"{c}_{i}" for i in range(5) for c in "xy"]
    with open(tmp_path / "t.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for name, face in (("s/a.jpg", indices[:5]), ("b.jpg", indices[5:10]), ("s/a.jpg", indices[10:15])):
            writer.writerow([name, *face.ravel()])
    faces = read_landmarks(tmp_path / "t.csv", image=tmp_path / "s" / "a.jpg")
    assert [face.kind for face in faces] == ["5", "5"]
    torch.testing.assert_close(faces[1].points, torch.from_numpy(indices[10:15] + 0.5))
    assert read_landmarks(tmp_path / "t.csv", image="c.jpg") == []


def test_a_table_without_rows_has_no_faces(tmp_path):
    (tmp_path / "t.csv").write_text("image," + ",".join(f"x{i},y{i}" for i in range(5)) + "\n")
    assert read_landmarks(tmp_path / "t.csv") == [] and read_landmarks(tmp_path / "t.csv", image="a.jpg") == []


def test_an_unreadable_table_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("image," + "1" * (csv.field_size_limit() + 1))
    with pytest.raises(ValueError, match=r"t\.csv is not a readable CSV \(field larger than"):
        read_landmarks(tmp_path / "t.csv")


def test_an_xml_of_several_pictures_needs_to_know_which(tmp_path, indices):
    (tmp_path / "a.xml").write_text(xml({"x/a.jpg": [indices, indices + 1], "y/a.jpg": [indices + 2], "c.jpg": []}))
    with pytest.raises(ValueError, match="3 pictures; say which one by `image`"):
        read_landmarks(tmp_path / "a.xml")
    assert len(read_landmarks(tmp_path / "a.xml", image="/data/x/a.jpg")) == 2
    assert len(read_landmarks(tmp_path / "a.xml", image="y/a.jpg")) == 1
    assert read_landmarks(tmp_path / "a.xml", image="z/a.jpg") == []  # the same name elsewhere is not guessed
    assert read_landmarks(tmp_path / "a.xml", image="c.jpg") == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pts", "1 2\n3 4", "no block"),
        ("a.txt", "1 2\n3 4", r"points of shape \[2, 2\]; 68 or 5 points"),
        ("a.txt", "", "68 or 5 points"),
        ("a.txt", "1 2 3\n" * 5, "must hold two numbers"),
        ("a.txt", "1 b\n" * 5, "'1 b'; each must hold two numbers"),
        ("a.txt", "1 nan\n" * 5, "not finite"),
        ("a.csv", "", "empty"),
        ("a.csv", "image,x0,y0\na.jpg,1,2", "columns x0,y0"),
        ("a.csv", "image," + ",".join(f"x{i},y{i}" for i in range(5)) + "\na.jpg,1,2", "row 2: every point column"),
        ("a.xml", "<dataset>", "not a readable XML"),
        ("a.xml", "<dataset/>", "no <images><image> entries"),
        ("a.xml", xml({"a.jpg": [np.ones((5, 2))]}), "a box with 5 parts"),
        ("a.xml", "<!DOCTYPE a [<!ENTITY b 'c'>]><dataset/>", "declares a document type"),
        ("a.mat", "no mat file", "not a readable MATLAB file"),
        ("a.json", "[]", r"known endings are \.pts"),
    ],
)
def test_bad_files_are_refused_with_their_name(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_landmarks(tmp_path / name)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_a_mat_without_the_68_points_is_refused(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"pt2d": np.zeros((2, 21))})
    with pytest.raises(ValueError, match=r"a\.mat has no 68 points under"):
        read_landmarks(tmp_path / "a.mat")
    with pytest.raises(ValueError, match=r"none\.mat is not a file"):
        read_landmarks(tmp_path / "none.mat")


def test_landmarks_of_another_picture_are_noticed(tmp_path, indices):
    (tmp_path / "a.txt").write_text(lines(indices * 10))
    with pytest.raises(ValueError, match=r"a\.txt has \d+ of 68 landmarks inside its picture \(80 x 100 pixels"):
        read_landmarks(tmp_path / "a.txt", (100, 80))


def test_five_points_are_eye_centres_nose_and_mouth_corners():
    points = torch.arange(136, dtype=torch.float64).reshape(68, 2)
    five = five_points(points.expand(2, 3, 68, 2))
    assert five.shape == (2, 3, 5, 2)
    # point k is (2k, 2k + 1): means of corners 36, 39 and 42, 45, then 30, 48, 54
    assert five[1, 2, :, 0].tolist() == [75, 87, 60, 96, 108]
    with pytest.raises(ValueError, match=r"\[\.\.\., 68, 2\]"):
        five_points(torch.zeros(5, 2))


def test_mirror_orders_are_involutions_and_agree():
    assert sorted(MIRROR_68) == list(range(68))
    assert [MIRROR_68[i] for i in MIRROR_68] == list(range(68))
    points = torch.rand(68, 2, generator=torch.Generator().manual_seed(0))
    flip = torch.tensor([-1.0, 1.0])
    assert torch.equal(five_points(points[list(MIRROR_68)] * flip), five_points(points)[list(MIRROR_5)] * flip)


def test_mirror_order_by_hand():
    pairs = {0: 16, 8: 8, 17: 26, 21: 22, 27: 27, 31: 35, 36: 45, 39: 42, 37: 44, 41: 46, 40: 47}
    pairs |= {48: 54, 51: 51, 57: 57, 55: 59, 60: 64, 61: 63, 62: 62, 66: 66, 67: 65}
    assert all(MIRROR_68[a] == b and MIRROR_68[b] == a for a, b in pairs.items())


class TestSource:
    def test_side_cars(self, tmp_path, indices):
        (tmp_path / "p" / "detections").mkdir(parents=True)
        (tmp_path / "p" / "a.txt").write_text(lines(indices))
        (tmp_path / "p" / "detections" / "b.txt").write_text(lines(indices[:5]))
        source = LandmarkSource(tmp_path)
        assert [f.kind for f in source.find(tmp_path / "p" / "a.jpg")] == ["68"]
        assert [f.kind for f in source.find(tmp_path / "p" / "b.png")] == ["5"]
        assert source.find(tmp_path / "p" / "c.jpg") == []

    def test_manifest_shares_one_file(self, tmp_path, indices):
        (tmp_path / "all.xml").write_text(xml({"a.jpg": [indices], "b.jpg": [indices + 1, indices]}))
        (tmp_path / "index.csv").write_text("image,landmark_file\na.jpg,all.xml\nb.jpg,all.xml\nc.jpg,\n")
        source = LandmarkSource(tmp_path)
        assert [len(source.find(tmp_path / name)) for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg")] == [1, 2, 0, 0]

    def test_an_index_of_something_else_is_not_a_manifest(self, tmp_path, indices):
        (tmp_path / "index.csv").write_text("image,width\na.jpg,3\n")
        (tmp_path / "a.txt").write_text(lines(indices))
        assert len(LandmarkSource(tmp_path).find(tmp_path / "a.jpg")) == 1

    @pytest.mark.parametrize(
        "content", [b"", b"\n \n", b"\xff\xfe\x00i", b"a\0b,c\n1,2\n", b"image,x0,y0,x1,y1\na.jpg,1,2,3,4\n", b'"a\n']
    )
    def test_a_foreign_index_does_not_stop_anything(self, tmp_path, indices, content):
        (tmp_path / "index.csv").write_bytes(content)
        (tmp_path / "a.txt").write_text(lines(indices))
        assert len(LandmarkSource(tmp_path).find(tmp_path / "a.jpg")) == 1

    def test_what_is_wrong_with_landmarks_csv_is_said(self, tmp_path):
        (tmp_path / "landmarks.csv").write_text("image,x0,y0,x1,y1\na.jpg,1,2,3,4\n")
        with pytest.raises(ValueError, match=r"landmarks\.csv must have the columns x0,y0,x1"):
            LandmarkSource(tmp_path)

    def test_folder_and_file(self, tmp_path, indices):
        (tmp_path / "points" / "s").mkdir(parents=True)
        (tmp_path / "points" / "s" / "a.txt").write_text(lines(indices))
        (tmp_path / "points" / "b.txt").write_text(lines(indices))
        source = LandmarkSource(tmp_path / "pictures", tmp_path / "points")
        assert len(source.find(tmp_path / "pictures" / "s" / "a.jpg")) == 1
        assert len(source.find(tmp_path / "pictures" / "s" / "b.jpg")) == 1
        (tmp_path / "all.xml").write_text(xml({"a.jpg": [indices]}))
        assert len(LandmarkSource(tmp_path, tmp_path / "all.xml").find("a.jpg")) == 1

    def test_one_picture_s_file_serves_one_picture(self, tmp_path, indices):
        (tmp_path / "points.txt").write_text(lines(indices))
        source = LandmarkSource(tmp_path, tmp_path / "points.txt", one_picture=True)
        assert len(source.find(tmp_path / "a.jpg")) == 1

    def test_one_picture_s_file_is_not_spread_over_a_folder(self, tmp_path, indices):
        (tmp_path / "a.txt").write_text(lines(indices))
        with pytest.raises(ValueError, match=r"a\.txt has the landmarks of one picture"):
            LandmarkSource(tmp_path, tmp_path / "a.txt")

    def test_a_missing_file_of_the_manifest_is_named(self, tmp_path):
        (tmp_path / "m.csv").write_text("image,landmark_file\na.jpg,none.pts\n")
        with pytest.raises(ValueError, match=r"none\.pts is not a file"):
            LandmarkSource(tmp_path, tmp_path / "m.csv").find("a.jpg")


def test_every_landmark_kind_of_the_real_index_is_read(data_dir):
    root = data_dir / "photos"
    source = LandmarkSource(root)
    counts: dict[str, int] = {}
    for row in csv.DictReader(open(root / "index.csv")):
        faces = source.find(root / row["image"], (int(row["height"]), int(row["width"])))
        assert bool(faces) == bool(row["landmark_file"])
        suffix = row["landmark_file"][-4:]
        counts[suffix] = counts.get(suffix, 0) + len(faces)
        for face in faces:
            five = face.five()
            assert five[0, 0] < five[1, 0] and five[3, 0] < five[4, 0]  # image-left before image-right
            assert five[:2, 1].max() < five[3:, 1].min()  # eyes above the mouth
    assert counts == {"": 0, ".txt": 24, ".mat": 3, ".xml": 41, ".pts": 1}
