"""Reading meshes of any method with their landmarks, and pairing predictions with truths."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import torch
from meshes import sphere

from facecore.evaluation.mesh_folders import (
    MeshFolder,
    average_shapes,
    pair_by_name,
    pairs_of_table,
    read_points,
    read_regions,
    read_vertex_numbers,
)
from facecore.mesh import Mesh, save_glb, save_obj

BALL = sphere(2, 80.0)  # 162 vertices
POINTS = BALL.vertices[:68].double().numpy()


def write_npz(path: pathlib.Path, mesh: Mesh = BALL, **arrays: object) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"vertices": mesh.vertices.numpy(), "triangles": mesh.triangles.numpy(), **arrays}
    np.savez(path, **{name: value for name, value in content.items() if value is not None})
    return path


def write_points(path: pathlib.Path, points: np.ndarray) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("# eye corners first\n" + "\n".join(" ".join(f"{c:.9g}" for c in row) for row in points) + "\n")
    return path


def test_every_format_in_millimetres(tmp_path):
    save_obj(tmp_path / "a.obj", BALL.vertices, BALL.triangles)
    save_glb(tmp_path / "b.glb", BALL.vertices, BALL.triangles)
    write_npz(tmp_path / "deep/c.npz", landmarks_3d=POINTS, neutral_vertices=2 * BALL.vertices.numpy())
    folder = MeshFolder(tmp_path)
    assert list(folder.paths) == ["a", "b", "deep/c"]
    files = [folder.read(path) for path in folder.paths.values()]
    for file in files:
        # eight digits of an OBJ, float32 metres of a GLB
        torch.testing.assert_close(file.mesh.vertices, BALL.vertices, rtol=0, atol=1e-4)
    assert files[0].face.landmarks is None and files[0].neutral_vertices is None
    np.testing.assert_allclose(files[2].face.landmarks, POINTS)
    torch.testing.assert_close(files[2].neutral_vertices, 2 * BALL.vertices)


def test_the_unit_scales_everything(tmp_path):
    small = Mesh(BALL.vertices / 1000, BALL.triangles)
    write_npz(tmp_path / "a.npz", small, landmarks_3d=POINTS / 1000, neutral_vertices=small.vertices.numpy())
    file = MeshFolder(tmp_path, unit_mm=1000.0).read(tmp_path / "a.npz")
    torch.testing.assert_close(file.mesh.vertices, BALL.vertices)
    torch.testing.assert_close(file.neutral_vertices, BALL.vertices)
    np.testing.assert_allclose(file.face.landmarks, POINTS)
    with pytest.raises(ValueError, match="positive number of millimetres"):
        MeshFolder(tmp_path, unit_mm=0.0)


def test_of_one_stem_the_npz_counts_and_hidden_files_do_not(tmp_path):
    save_obj(tmp_path / "face.obj", BALL.vertices, BALL.triangles)
    write_npz(tmp_path / "face.npz")
    write_npz(tmp_path / ".unfinished/face.npz")
    assert MeshFolder(tmp_path).paths == {"face": tmp_path / "face.npz"}


def test_landmarks_from_a_side_car_a_folder_and_vertex_numbers(tmp_path):
    path = tmp_path / "meshes/a.obj"
    path.parent.mkdir()
    save_obj(path, BALL.vertices, BALL.triangles)
    write_points(tmp_path / "meshes/a_landmarks.txt", POINTS[:7])
    assert MeshFolder(tmp_path / "meshes").read(path).face.landmarks.shape == (7, 3)
    write_points(tmp_path / "points/a.txt", POINTS)
    found = MeshFolder(tmp_path / "meshes", tmp_path / "points").read(path).face.landmarks
    np.testing.assert_allclose(found, POINTS, atol=1e-6)
    numbers = write_points(tmp_path / "vertices.txt", np.arange(68)[:, None])
    found = MeshFolder(tmp_path / "meshes", numbers).read(path).face.landmarks
    np.testing.assert_allclose(found, POINTS, atol=1e-4)
    far = write_points(tmp_path / "far.txt", 500 + np.arange(68)[:, None])
    with pytest.raises(ValueError, match=r"a\.obj: landmark vertices must be whole numbers from 0 to 161"):
        MeshFolder(tmp_path / "meshes", far).read(path)
    with pytest.raises(ValueError, match="a file for all meshes must hold vertex numbers"):
        MeshFolder(tmp_path / "meshes", tmp_path / "points/a.txt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 2 3\n" * 5, "must have 68 or 7 rows of three coordinates or one vertex number, got 5 rows"),
        ("1 2\n" * 7, "must have 68 or 7 rows"),
        ("1 2 x\n" * 7, "every row must hold three coordinates or one vertex number"),
        ("1 2 3\n" * 6 + "1 2", "every row must hold"),
        ("1 2 nan\n" * 7, "not finite"),
    ],
)
def test_wrong_landmark_files_are_refused(tmp_path, content, message):
    (tmp_path / "points.txt").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_points(tmp_path / "points.txt")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"triangles": None}, "it has no 'triangles is not a file"),
        ({"vertices": np.full((162, 3), np.nan)}, "must be finite"),
        ({"vertices": np.array([{}], dtype=object)}, "not a readable face npz"),
        ({"neutral_vertices": np.zeros((4, 3))}, "neutral_vertices must be finite, as many as vertices"),
        ({"landmarks_3d": np.zeros((5, 3))}, r"landmarks_3d must be finite and \[68, 3\], got \[5, 3\]"),
    ],
)
def test_damaged_npz_files_are_refused(tmp_path, arrays, message):
    path = write_npz(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        MeshFolder(tmp_path).read(path)
    assert "bad.npz" in str(caught.value)


def test_a_truncated_file_and_an_empty_folder(tmp_path):
    with pytest.raises(ValueError, match="no mesh; endings that are read"):
        MeshFolder(tmp_path)
    path = write_npz(tmp_path / "half.npz")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="not a readable face npz"):
        MeshFolder(tmp_path).read(path)


def test_the_last_file_is_kept(tmp_path):
    write_npz(tmp_path / "a.npz")
    write_npz(tmp_path / "b.npz")
    folder = MeshFolder(tmp_path)
    first = folder.read(tmp_path / "a.npz")
    assert folder.read(tmp_path / "a.npz") is first
    assert folder.read(tmp_path / "b.npz").path.name == "b.npz"


def test_reversed_triangles_are_said(tmp_path):
    path = write_npz(tmp_path / "a.npz", triangles=BALL.triangles.numpy()[:, ::-1].copy())
    file = MeshFolder(tmp_path).read(path)
    assert any("wound clockwise" in text for text in file.warnings)


def test_pairs_by_name(tmp_path):
    for name in ("a", "sub/b", "c"):
        write_npz(tmp_path / "truth" / f"{name}.npz")
    for name in ("a", "b", "indoor/c/frame1", "indoor/c/frame2", "unknown"):
        write_npz(tmp_path / "predictions" / f"{name}.npz")
    pairs, left = pair_by_name(MeshFolder(tmp_path / "predictions"), MeshFolder(tmp_path / "truth"))
    found = {pair.prediction.relative_to(tmp_path / "predictions").as_posix(): pair.subject for pair in pairs}
    assert found == {"a.npz": "a", "b.npz": "sub/b", "indoor/c/frame1.npz": "c", "indoor/c/frame2.npz": "c"}
    assert [path.name for path in left] == ["unknown.npz"]
    (tmp_path / "predictions/a.npz").unlink()
    pairs, _ = pair_by_name(MeshFolder(tmp_path / "predictions"), MeshFolder(tmp_path / "truth"))
    assert [(pair.prediction, pair.subject) for pair in pairs if pair.prediction is None] == [(None, "a")]
    alone, _ = pair_by_name(MeshFolder(tmp_path / "predictions/b.npz"), MeshFolder(tmp_path / "truth/c.npz"))
    assert len(alone) == 1 and alone[0].truth.name == "c.npz", "two files are one pair, whatever their names"


def test_pairs_of_a_table(tmp_path):
    write_npz(tmp_path / "truth/a.npz")
    write_npz(tmp_path / "predictions/x.npz")
    folders = MeshFolder(tmp_path / "predictions"), MeshFolder(tmp_path / "truth")
    table = tmp_path / "pairs.csv"
    table.write_text("prediction,truth,subject,group\nx.npz,a,ann,indoor\ny,a.npz,,\n")
    pairs = pairs_of_table(table, *folders)
    assert [(p.prediction is None, p.subject, p.group) for p in pairs] == [
        (False, "ann", "indoor"),
        (True, "a.npz", ""),
    ]
    table.write_text("prediction,truth\nx,b\n")
    with pytest.raises(ValueError, match="row 2: no mesh 'b' in"):
        pairs_of_table(table, *folders)
    table.write_text("prediction,other\nx,b\n")
    with pytest.raises(ValueError, match="no truth"):
        pairs_of_table(table, *folders)


def test_average_by_hand(tmp_path):
    write_npz(tmp_path / "a.npz", landmarks_3d=POINTS)
    write_npz(tmp_path / "b.npz", Mesh(3 * BALL.vertices, BALL.triangles), landmarks_3d=3 * POINTS)
    write_npz(tmp_path / "c.npz")
    folder = MeshFolder(tmp_path)
    a, b, c = (folder.read(path) for path in folder.paths.values())
    mean = average_shapes([a, b])
    torch.testing.assert_close(mean.mesh.vertices, 2 * BALL.vertices)
    np.testing.assert_allclose(mean.face.landmarks, 2 * POINTS, rtol=1e-6)
    with pytest.raises(ValueError, match="all have the same landmarks"):
        average_shapes([a, c])


def test_vertex_numbers_and_regions(tmp_path):
    (tmp_path / "numbers.txt").write_text("3, 5 # two\n9\n")
    np.testing.assert_array_equal(read_vertex_numbers(tmp_path / "numbers.txt"), [3, 5, 9])
    for content, message in (("3 x", "whole numbers"), ("", "at least one"), ("-1", "none below 0")):
        (tmp_path / "numbers.txt").write_text(content)
        with pytest.raises(ValueError, match=message):
            read_vertex_numbers(tmp_path / "numbers.txt")
    np.savez(tmp_path / "regions.npz", nose=np.array([True, False]))
    assert read_regions(tmp_path / "regions.npz")["nose"].tolist() == [True, False]
