"""Error by pose: none for the truth, what was put in for anything else."""

from __future__ import annotations

import pytest
import torch

from facecore.data.sweep import SweepRenders
from facecore.evaluation.point_to_plane import Face, procrustes_rmse
from facecore.evaluation.pose_sweep import BATCH, MEASURES, landmark_rmse, sweep_errors, table_of_poses, table_of_yaws
from facecore.evaluation.surfaces import Surface
from facecore.mesh import Mesh
from facecore.morphable import load
from facecore.render import WeakPerspectiveCamera
from facecore.systems.reconstruction import Reconstruction

SIZE = 32


@pytest.fixture(scope="module")
def model():
    return load("procedural", num_vertices=2500)


class Answers:
    """The truth, with every vertex moved by (-1)^vertex * amount * |yaw in radians| along z."""

    def __init__(self, renders: SweepRenders, amount: float) -> None:
        self.renders, self.amount, self.seen = renders, amount, 0

    def __call__(self, images: torch.Tensor) -> Reconstruction:
        model = self.renders.model
        batch = self.renders.batch(torch.arange(self.seen, self.seen + len(images)))
        self.seen += len(images)
        vertices = model.shape(batch.identity, batch.expression)
        signs = 1.0 - 2.0 * (torch.arange(model.num_vertices) % 2)
        vertices[..., 2] += self.amount * batch.pose[:, 1:2].abs() * signs
        return Reconstruction(
            vertices=vertices,
            neutral_vertices=model.shape(batch.identity),
            triangles=model.triangles,
            albedo=model.albedo(batch.albedo),
            camera=WeakPerspectiveCamera.from_pose(batch.pose, SIZE, SIZE),
            pose=batch.pose,
            sh_coefficients=batch.sh_coefficients,
            codes={},
            landmarks68=model.landmarks68,
        )


def test_the_truth_has_no_error(model):
    renders = SweepRenders(model, SIZE, SIZE, 1, yaws=(-90, 0, 45))
    answers, done = Answers(renders, 0.0), []
    errors = sweep_errors(answers, renders, 7, progress=done.append)
    assert answers.seen == 21 and done == [BATCH, 1]
    for name in MEASURES:
        assert errors[name].shape == (7, 3) and float(errors[name].max()) < 1e-3, name  # float32


def test_an_error_that_grows_with_yaw_is_told_by_yaw(model):
    renders = SweepRenders(model, SIZE, SIZE, 1, yaws=(-40, 0, 40), pitches=(-15, 20))
    errors = sweep_errors(Answers(renders, 2.0), renders, 2)
    poses, yaws = table_of_poses(errors, renders.poses), table_of_yaws(errors, renders.poses)
    assert [(row["yaw"], row["pitch"]) for row in poses] == renders.poses
    assert [(row["|yaw|"], row["pictures"]) for row in yaws] == [(0, 4), (40, 8)]
    expected = 2.0 * torch.tensor(40.0).deg2rad()  # what alignment by 68 landmarks takes back: a few percent
    assert yaws[1]["rmse_mm"] == pytest.approx(float(expected), rel=0.1)
    assert yaws[1]["growth_mm"] == pytest.approx(yaws[1]["rmse_mm"] - yaws[0]["rmse_mm"])
    assert yaws[0]["growth_mm"] == 0 and yaws[1]["neutral_mm"] < 1e-3 < yaws[1]["shape_mm"]
    assert poses[0]["rmse_mm"] == pytest.approx(poses[4]["rmse_mm"], rel=1e-3), "left and right alike"


def test_rmse_is_that_of_meshes(model):
    truth = model.template[None]
    predicted = truth + torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    faces = []
    for vertices in (predicted[0], truth[0]):
        surface = Surface.of(Mesh(vertices, model.triangles))
        faces.append(Face(surface, surface.vertices[model.landmarks68.numpy()]))
    expected = procrustes_rmse(faces[0], faces[1], 80.0)
    assert float(landmark_rmse(predicted, truth, model.landmarks68, 80.0)) == pytest.approx(expected, rel=1e-5)


def test_a_count_below_one_is_refused(model):
    renders = SweepRenders(model, SIZE, SIZE, 1, yaws=(0,))
    with pytest.raises(ValueError, match="count must be at least 1 face, got 0"):
        sweep_errors(Answers(renders, 0.0), renders, 0)
