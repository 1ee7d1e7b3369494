"""Cropping, ICP and point-to-plane distances: hand-computed, and the self-tests that evaluation must pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from meshes import grid, sphere

from facecore.evaluation.alignment import Similarity
from facecore.evaluation.point_to_plane import identity_similarity
from facecore.evaluation.surfaces import IcpSettings, Surface, plane_distances, register
from facecore.morphable import load
from facecore.render import euler_to_matrix


@pytest.fixture(scope="module")
def face() -> Surface:
    return Surface.of(load("procedural", num_vertices=2500).mesh)


def similarity(scale: float, angles: tuple[float, float, float], shift: tuple[float, float, float]) -> Similarity:
    rotation = euler_to_matrix(torch.tensor([angles], dtype=torch.float64))
    return Similarity(torch.tensor([scale]).double(), rotation, torch.tensor([shift]).double())


def test_crop_by_hand():
    surface = Surface.of(grid(4, 4))  # vertices at integers 0 to 4
    part, used = surface.cropped(np.array([2.0, 2.0, 0.0]), 1.5)
    assert len(part.vertices) == 9 and len(part.triangles) == 8  # the 3 x 3 vertices around the middle
    np.testing.assert_array_equal(part.vertices, surface.vertices[used])
    assert int((~part.boundary).sum()) == 1, "the middle alone is not on the new rim"
    with pytest.raises(ValueError, match=r"no triangle lies within 0\.5 mm of the nose tip"):
        surface.cropped(np.array([2.0, 2.0, 0.0]), 0.5)


def test_plane_distances_by_hand():
    """A plane 2 above another: 2 everywhere; over the rim and beyond nothing counts."""
    lower = Surface.of(grid(6, 6))
    upper = Surface(lower.vertices + [0.25, 0.4, 2.0], lower.triangles, lower.boundary)
    found = plane_distances(upper, lower)
    assert found.distance[found.counted] == pytest.approx(2.0)
    x, y = upper.vertices[:, 0], upper.vertices[:, 1]
    np.testing.assert_array_equal(found.counted, (x < 6) & (y < 6))
    assert found.mean() == pytest.approx(2.0) and found.root_mean_square() == pytest.approx(2.0)
    turned = Surface(upper.vertices, upper.triangles[:, ::-1].copy(), upper.boundary)
    with pytest.raises(ValueError, match="do not overlap"):
        plane_distances(turned, lower)


def test_spheres_have_the_difference_of_their_radii():
    small, large = Surface.of(sphere(3, 50.0)), Surface.of(sphere(3, 51.0))
    assert plane_distances(large, small).mean() == pytest.approx(1.0, rel=0.03)  # facets of 642 vertices
    assert plane_distances(large, small).share == 1


@pytest.mark.parametrize("scale", [0.97, 1.0, 1.03])
def test_a_known_similarity_is_found(face, scale):
    """What ICP starts from when landmarks are wrong by some millimetres."""
    moved = face.moved(similarity(scale, (0.03, -0.04, 0.02), (1.5, -1.0, 2.0)))
    found = register(moved, face, identity_similarity(), IcpSettings())
    assert found.converged and found.iterations < 100
    back = moved.moved(found.similarity)
    assert np.linalg.norm(back.vertices - face.vertices, axis=1).mean() < 0.01
    assert plane_distances(back, face).mean() < 0.01


def test_rigid_icp_keeps_the_scale(face):
    moved = face.moved(similarity(1.02, (0.02, 0.01, 0.0), (1.0, 0.0, 0.0)))
    found = register(moved, face, identity_similarity(), IcpSettings(), with_scale=False)
    assert float(found.similarity.scale) == 1.0 and found.residual_mm > 0.1


def test_faces_apart_are_refused(face):
    far = Surface(face.vertices + 500.0, face.triangles, face.boundary)
    with pytest.raises(ValueError, match="only 0 of 2500 vertices have a partner within 10 mm"):
        register(far, face, identity_similarity(), IcpSettings())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"trim": 1.0}, "trim"), ({"iterations": 0}, "iterations"), ({"max_distance_mm": 0.0}, "max_distance_mm")],
)
def test_settings_are_checked(wrong, message):
    with pytest.raises(ValueError, match=message):
        IcpSettings(**wrong)
