"""The left-right map: found from the triangles and landmarks, completed where a mesh is not symmetric, or given."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import scipy.io
from model_files import bfm_truth, small_truth

from facecore.data import MIRROR_68
from facecore.morphable import load
from facecore.morphable.mirror import mirror_from_pairs, mirror_from_topology


def test_it_is_found_from_the_triangles() -> None:
    truth = small_truth()
    rng = np.random.default_rng(0)
    uneven = truth.vertices + rng.normal(scale=1.5, size=truth.vertices.shape)  # as a mean of scans: nearest fails
    landmarks = truth.landmarks68.copy()
    assert truth.mirror is not None
    landmarks[45] = truth.triangles[(truth.triangles == landmarks[45]).any(axis=1)][0].max()  # off by a vertex
    assert np.array_equal(mirror_from_topology(uneven, truth.triangles, landmarks), truth.mirror)
    shuffled = rng.permutation(truth.triangles)
    assert np.array_equal(mirror_from_topology(uneven, shuffled, landmarks), truth.mirror)
    assert np.array_equal(mirror_from_topology(uneven, truth.triangles[:, [0, 2, 1]], landmarks), truth.mirror)


def test_turned_diagonals_are_walked_around() -> None:
    truth = small_truth()
    triangles = truth.triangles.copy()
    assert truth.mirror is not None
    # the diagonal of one pair of triangles on the cheek
    row = int(np.linalg.norm(truth.vertices[triangles].mean(1) - truth.vertices[truth.landmarks68[3]], axis=1).argmin())
    a, b, c = triangles[row]
    other = next(i for i, t in enumerate(triangles.tolist()) if i != row and {a, b} <= set(t))
    d = next(v for v in triangles[other] if v not in (a, b))
    triangles[row], triangles[other] = (a, d, c), (d, b, c)
    mirror = mirror_from_topology(truth.vertices, triangles, truth.landmarks68)
    assert mirror is not None and np.array_equal(mirror[mirror], np.arange(len(mirror)))
    assert (mirror == truth.mirror).mean() > 0.995


def test_the_topology_of_the_basel_face_model(data_dir: pathlib.Path) -> None:
    truth = bfm_truth(data_dir)
    mirror = mirror_from_topology(truth.vertices, truth.triangles, truth.landmarks68)
    assert mirror is not None and np.array_equal(mirror[mirror], np.arange(53215))
    assert (mirror == np.arange(53215)).sum() == 219  # vertices of the middle
    # the landmarks are mirrored vertices of each other, but for four that are themselves a vertex off; the search only
    # starts near five pairs
    assert (mirror[truth.landmarks68] == truth.landmarks68[list(MIRROR_68)]).sum() == 64
    info = scipy.io.loadmat(data_dir / "meshes/bfm_topology/facemodel_info.mat")
    front = scipy.io.loadmat(data_dir / "meshes/bfm_topology/BFM_front_idx.mat")["idx"].ravel().astype(int) - 1
    landmarks = info["keypoints"].ravel().astype(int) - 1
    cut = mirror_from_topology(truth.vertices[front], info["tri"].astype(int) - 1, landmarks)
    assert cut is not None and (front[cut] == mirror[front]).mean() > 0.99  # the cut itself is not quite symmetric


def test_a_symmetric_mesh_of_several_parts(data_dir: pathlib.Path) -> None:
    """The ICT model, whose eyes and teeth hang together with nothing, so that no walk reaches them."""
    model = load(data_dir / "ict_facekit.npz", albedo=None)
    vertices, triangles = model.template.double().numpy(), model.triangles.numpy()
    mirror = mirror_from_topology(vertices, triangles, model.landmarks68.numpy())
    assert mirror is not None and model.mirror_map is not None and np.array_equal(mirror, model.mirror_map.numpy())
    vertices[0] += [1.0, 0.0, 0.0]  # a millimetre: no longer symmetric itself
    assert mirror_from_topology(vertices, triangles, model.landmarks68.numpy()) is None


def test_a_mesh_without_symmetry_has_none() -> None:
    truth = small_truth()
    half = truth.triangles[truth.vertices[truth.triangles, 0].min(axis=1) > truth.vertices[:, 0].mean() - 40]
    uneven = truth.vertices + np.random.default_rng(0).normal(scale=1.5, size=truth.vertices.shape)
    assert mirror_from_topology(uneven, half, truth.landmarks68) is None
    crooked = truth.vertices + [0.6, 0, 0] * np.abs(truth.vertices - truth.vertices.mean(0))
    assert mirror_from_topology(crooked, truth.triangles, truth.landmarks68) is None
    alone = np.setdiff1d(np.arange(len(truth.vertices)), truth.triangles[:50])[:68]
    assert mirror_from_topology(uneven, truth.triangles[:50], alone) is None


def test_a_list_of_pairs() -> None:
    truth = small_truth()
    assert truth.mirror is not None
    left = np.flatnonzero(truth.mirror > np.arange(len(truth.mirror)))  # the middle is left out
    pairs = np.stack([left, truth.mirror[left]])
    assert np.array_equal(mirror_from_pairs(pairs, truth.vertices), truth.mirror)
    for wrong, message in (
        (pairs.T, r"must be \[2, P\]"),
        (pairs + len(truth.vertices), "indices of 2500 vertices"),
        (np.array([[0, 0], [1, 2]]), "two partners"),
        (np.stack([left, np.roll(truth.mirror[left], 300)]), "does not pair opposite places"),
    ):
        with pytest.raises(ValueError, match=message):
            mirror_from_pairs(wrong, truth.vertices)
