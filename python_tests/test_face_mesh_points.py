"""The 68 landmarks on MediaPipe's face mesh."""

from __future__ import annotations

import pytest
import torch

from facecore.data import MIRROR_68
from facecore.perception.face_mesh_points import NUM_MESH_POINTS, landmarks_from_mesh


def test_points_are_averages_of_mesh_points(generator):
    mesh = torch.rand(3, NUM_MESH_POINTS, 2, generator=generator, dtype=torch.float64)
    points = landmarks_from_mesh(mesh)
    assert points.shape == (3, 68, 2)
    shift = torch.tensor([5.0, -2.0], dtype=torch.float64)
    torch.testing.assert_close(landmarks_from_mesh(2 * mesh + shift), 2 * points + shift)  # weights add up to one
    with pytest.raises(ValueError, match=r"mesh must have shape \[\.\.\., 478, D\], got \[468, 3\]"):
        landmarks_from_mesh(torch.zeros(468, 3))


def test_left_and_right_mirror_each_other_on_the_canonical_face(data_dir):
    """On the canonical mesh (centimetres, symmetric about x = 0), every landmark has its mirror image in its place."""
    lines = (data_dir / "meshes/mediapipe_canonical_face/canonical_face_model.obj").read_text().splitlines()
    vertices = [[float(x) for x in line.split()[1:4]] for line in lines if line.startswith("v ")]
    irises = torch.full((NUM_MESH_POINTS - len(vertices), 3), float("nan"), dtype=torch.float64)
    irises.zero_()
    mesh = torch.cat((torch.tensor(vertices, dtype=torch.float64), irises))
    points = landmarks_from_mesh(mesh)
    mirrored = points[list(MIRROR_68)] * torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(points, mirrored, atol=0.005, rtol=0)  # the file's own symmetry, in cm
    # In order: the contour runs from one ear over the chin to the other, the rest lies between.
    contour = points[:17]
    assert (contour[1:, 0] > contour[:-1, 0]).all() and contour[:, 1].argmin() == 8
    assert (points[17:27, 1] > points[36:48, 1].max()).all() and (points[36:48, 1] > points[30, 1]).all()
    assert (points[48:, 1] < points[33, 1]).all() and points[30, 2] == points[:, 2].max()
