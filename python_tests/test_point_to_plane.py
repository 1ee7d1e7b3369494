"""One face against one scan: the self-tests of the evaluation, and each error by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from facecore.evaluation.alignment import Similarity, vertex_distances
from facecore.evaluation.point_to_plane import (
    SEVEN,
    Face,
    PointToPlaneSettings,
    dense_distances,
    point_to_plane,
    procrustes_rmse,
)
from facecore.evaluation.surfaces import Surface
from facecore.morphable import load
from facecore.render import euler_to_matrix

SETTINGS = PointToPlaneSettings()
FROZEN = PointToPlaneSettings(alignment="none")


@pytest.fixture(scope="module")
def model():
    return load("procedural", num_vertices=2500)


@pytest.fixture(scope="module")
def truth(model) -> Face:
    return as_face(Surface.of(model.mesh), model)


def as_face(surface: Surface, model) -> Face:
    return Face(surface, surface.vertices[model.landmarks68.numpy()])


def displaced(face: Face, field: np.ndarray) -> Face:
    """Each vertex moved by field [V, 3]; the landmarks stay, so that alignment starts where it should end."""
    surface = face.surface
    return dataclasses.replace(face, surface=Surface(surface.vertices + field, surface.triangles, surface.boundary))


def similar(face: Face, scale: float = 1.25) -> Face:
    """Turned, moved and scaled, landmarks and all."""
    rotation = euler_to_matrix(torch.tensor([[0.3, -0.5, 0.2]]).double())
    similarity = Similarity(torch.tensor([scale]).double(), rotation, torch.tensor([[40.0, -20, 300]]).double())
    assert face.landmarks is not None
    landmarks = similarity.apply(torch.from_numpy(face.landmarks)[None])[0].numpy()
    return Face(face.surface.moved(similarity), landmarks)


def orthogonal_to_similarities(field: np.ndarray, generators: np.ndarray) -> np.ndarray:
    """field [P] less its projection on the columns of generators [P, 7]."""
    return field - generators @ np.linalg.lstsq(generators, field, rcond=None)[0]


def waves(points: np.ndarray) -> np.ndarray:
    """A smooth field, half of it in and half of it out, one wave in some 45 mm."""
    return np.sin(points[:, 0] / 7.0) * np.cos(points[:, 1] / 9.0 + 0.4)


def waves_along_normals(truth: Face) -> tuple[np.ndarray, np.ndarray]:
    """A displacement [V] in mm along the normals, and the vertices of the crop, where alone it is not 0.

    n . (t + w x p + s p) are what point-to-plane alignment can explain; the field has no part of them.
    """
    surface = truth.surface
    assert truth.landmarks is not None
    inside = np.linalg.norm(surface.vertices - truth.landmarks[30], axis=1) <= SETTINGS.crop_mm
    normals = surface.normals[inside]
    offset = surface.vertices[inside] - surface.vertices[inside].mean(0)
    generators = np.concatenate([normals, np.cross(offset, normals), (normals * offset).sum(1)[:, None]], axis=1)
    amount = np.zeros(len(inside))
    amount[inside] = orthogonal_to_similarities(waves(surface.vertices[inside]), generators)
    return amount, inside


@pytest.mark.parametrize("direction", ["symmetric", "scan-to-prediction", "prediction-to-scan"])
def test_frozen_a_normal_offset_of_1_mm_is_1_mm(truth, direction):
    offset = displaced(truth, truth.surface.normals)
    found = point_to_plane(offset, truth, dataclasses.replace(FROZEN, direction=direction))
    assert found.error_mm == pytest.approx(1.0, rel=0.05) and found.registration is None
    # eye, mouth and nostril rims do not count, nor does what lies beyond the crop
    assert found.scan_share > 0.9 and found.prediction_share > 0.6
    squared = point_to_plane(offset, truth, dataclasses.replace(FROZEN, direction=direction, statistic="rms"))
    assert squared.error_mm == pytest.approx(1.0, rel=0.05) and squared.error_mm >= found.error_mm


def test_the_same_on_ict(data_dir):
    """Frozen, with a similarity, and with a normal displacement that no similarity explains."""
    model = load(data_dir / "ict_facekit.npz", region="face")
    truth = as_face(Surface.of(model.mesh), model)
    assert point_to_plane(displaced(truth, truth.surface.normals), truth, FROZEN).error_mm == pytest.approx(1, rel=0.05)
    assert point_to_plane(similar(truth), truth, SETTINGS).error_mm < 0.01
    amount, inside = waves_along_normals(truth)
    found = point_to_plane(similar(displaced(truth, amount[:, None] * truth.surface.normals)), truth, SETTINGS)
    assert found.error_mm == pytest.approx(np.abs(amount[inside]).mean(), rel=0.05)


def test_frozen_exact_correspondence(truth):
    one, other = (torch.from_numpy(s)[None] for s in (truth.surface.vertices, truth.surface.normals))
    assert float(vertex_distances(one + other, one, "none").mean()) == pytest.approx(1.0, rel=1e-6)


def test_a_known_similarity_leaves_nothing(truth):
    found = point_to_plane(similar(truth), truth, SETTINGS)
    assert found.error_mm < 0.01
    assert found.registration is not None and found.registration.converged
    assert procrustes_rmse(similar(truth), truth) < 0.01
    assert dense_distances(similar(truth), truth, SETTINGS).nme < 0.01


def test_landmarks_that_are_wrong_by_millimetres_do_not_matter(truth):
    """ICP takes over from them."""
    moved = similar(truth)
    noise = 2.0 * np.random.default_rng(1).normal(size=(68, 3))
    found = point_to_plane(dataclasses.replace(moved, landmarks=moved.landmarks + noise), truth, SETTINGS)
    assert found.error_mm < 0.01


def test_rigid_alignment_does_not_forgive_size(truth):
    rigid = dataclasses.replace(SETTINGS, alignment="rigid")
    assert point_to_plane(similar(truth, 1.0), truth, rigid).error_mm < 0.01
    assert point_to_plane(similar(truth, 1.05), truth, rigid).error_mm > 0.3


def test_a_normal_displacement_orthogonal_to_similarities_is_recovered(truth):
    amount, inside = waves_along_normals(truth)
    predicted = displaced(truth, amount[:, None] * truth.surface.normals)
    found = point_to_plane(similar(predicted), truth, SETTINGS)
    assert found.error_mm == pytest.approx(np.abs(amount[inside]).mean(), rel=0.05)
    assert 0.2 < found.error_mm < 1.0


def test_a_displacement_orthogonal_to_similarities_is_recovered_vertex_by_vertex(truth):
    vertices = truth.surface.vertices
    field = np.stack([waves(vertices), waves(vertices[:, [1, 2, 0]]), waves(vertices[:, [2, 0, 1]])], axis=1)
    offset = vertices - vertices.mean(0)
    moves = [np.broadcast_to(axis, vertices.shape) for axis in np.eye(3)]
    turns = [np.cross(axis, offset) for axis in np.eye(3)]
    generators = np.stack([part.ravel() for part in (*moves, *turns, offset)], axis=1)
    field = orthogonal_to_similarities(field.ravel(), generators).reshape(-1, 3)
    moved = torch.from_numpy(similar(displaced(truth, field)).surface.vertices)[None]
    error = vertex_distances(moved, torch.from_numpy(vertices)[None]).mean()
    assert float(error) == pytest.approx(np.linalg.norm(field, axis=1).mean(), rel=0.05)


def test_rmse_by_hand(truth):
    """Landmarks in place, every vertex 2 mm off: 2 mm; by closest points a shift along the surface costs less."""
    shifted = displaced(truth, np.broadcast_to([0.0, 2.0, 0.0], truth.surface.vertices.shape))
    assert procrustes_rmse(shifted, truth) == pytest.approx(2.0, rel=1e-6)
    other = Surface(shifted.surface.vertices, shifted.surface.triangles[::-1].copy(), shifted.surface.boundary)
    assert 0.2 < procrustes_rmse(dataclasses.replace(shifted, surface=other), truth) < 1.5


def test_dense_nme_by_hand(truth):
    """1 mm along the normals, nothing aligned: 1 mm over the outer interocular distance, in percent."""
    eyes = np.linalg.norm(truth.landmarks[36] - truth.landmarks[45])
    offset = displaced(truth, truth.surface.normals)
    assert dense_distances(offset, truth, FROZEN).nme == pytest.approx(100 / eyes, rel=0.05)
    region = np.array([3, 700, 1500])
    assert dense_distances(truth, truth, FROZEN, region).nme == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="region must index the truth's 2500 vertices from 0, got 3 to 2500"):
        dense_distances(truth, truth, FROZEN, np.array([3, 2500]))


def test_seven_landmarks_are_enough_for_the_scan_and_not_for_rmse(truth):
    seven = dataclasses.replace(truth, landmarks=truth.landmarks[list(SEVEN)])
    assert point_to_plane(truth, seven, SETTINGS).error_mm < 0.01
    with pytest.raises(ValueError, match="the truth needs 68 landmarks, it has 7"):
        procrustes_rmse(truth, seven)
    with pytest.raises(ValueError, match="the prediction has no landmarks"):
        point_to_plane(dataclasses.replace(truth, landmarks=None), truth, SETTINGS)
    as_is = dataclasses.replace(SETTINGS, start="as-is")
    assert point_to_plane(dataclasses.replace(truth, landmarks=None), truth, as_is).error_mm < 0.01


def test_bad_arguments(truth):
    with pytest.raises(ValueError, match=r"landmarks must be \[68, 3\] or \[7, 3\], got \[5, 3\]"):
        dataclasses.replace(truth, landmarks=np.zeros((5, 3)))
    with pytest.raises(ValueError, match="crop_mm must be positive"):
        PointToPlaneSettings(crop_mm=0.0)
