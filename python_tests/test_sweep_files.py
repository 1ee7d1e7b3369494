"""A pose sweep as files: what another method reads, and what its results are compared with."""

from __future__ import annotations

import numpy as np
import torch

from facecore.data import read_image, read_landmarks
from facecore.data.sweep import SweepRenders
from facecore.evaluation.mesh_folders import MeshFolder, pairs_of_table
from facecore.evaluation.picture_folders import read_yaws
from facecore.evaluation.sweep_files import write_sweep
from facecore.morphable import load


def test_written_and_read_again(tmp_path):
    model = load("procedural", num_vertices=2500)
    renders = SweepRenders(model, 32, 32, 3, yaws=(-40.0, 0.0), pitches=(0.0,))
    done: list[int] = []
    assert write_sweep(renders, 2, tmp_path / "sweep", done.append) == 4 and sum(done) == 4
    names = ["face000_yaw+0_pitch+0", "face000_yaw-40_pitch+0", "face001_yaw+0_pitch+0", "face001_yaw-40_pitch+0"]
    pictures = tmp_path / "sweep/pictures"
    assert sorted(path.stem for path in pictures.glob("*.png")) == names
    batch = renders.batch(torch.arange(4))
    torch.testing.assert_close(read_image(pictures / f"{names[1]}.png"), batch.image[0], rtol=0, atol=0.51 / 255)
    (face,) = read_landmarks(pictures / f"{names[1]}.pts")
    np.testing.assert_allclose(face.points.numpy(), batch.landmarks[0].numpy(), atol=1e-4)
    truths = MeshFolder(tmp_path / "sweep/truth")
    true = truths.read(truths.paths["face001"])
    torch.testing.assert_close(true.mesh.vertices, model.shape(batch.identity, batch.expression)[2])
    torch.testing.assert_close(true.neutral_vertices, model.shape(batch.identity)[2])
    assert true.face.landmarks.shape == (68, 3)
    # a method whose answer is always the truth: one mesh a picture, of the picture's name
    answers = tmp_path / "answers"
    answers.mkdir()
    for name in names:
        (answers / f"{name}.npz").write_bytes((tmp_path / "sweep/truth" / f"{name[:7]}.npz").read_bytes())
    pairs = pairs_of_table(tmp_path / "sweep/pairs.csv", MeshFolder(answers), truths)
    assert [(pair.subject, pair.group) for pair in pairs] == [
        ("face000", "|yaw| 40"),
        ("face000", "|yaw| 0"),
        ("face001", "|yaw| 40"),
        ("face001", "|yaw| 0"),
    ]
    assert all(pair.prediction is not None for pair in pairs)
    assert read_yaws(tmp_path / "sweep/yaws.csv") == dict(zip(names, (0.0, -40.0, 0.0, -40.0)))
