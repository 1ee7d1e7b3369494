"""Recognisability: recall, similarities and distances by hand, and the network of the training refused."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from toy_perception import Embedder, write_manifest, write_torchscript

from facecore.data import RenderedPhotos
from facecore.data.studio_views import StudioViews
from facecore.evaluation.recognisability import (
    Recognisability,
    measure_recognisability,
    pair_similarities,
    recall,
)
from facecore.morphable import load as load_model
from facecore.perception import load_identity_network
from facecore.systems.facing import facing_reconstruction


def at(*degrees: float) -> np.ndarray:
    """Unit features in the plane."""
    angle = np.radians(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def test_recall():
    photographs, person = at(0, 10, 50, 90), np.array([0, 1, 0, -1])
    # nearest photographs: 2 and then 1; 1; 2 (its own); 2, then 3
    renders = at(40, 9, 52, 66)
    assert recall(photographs, renders, person, (1, 2)) == (0.75, 1.0)
    assert recall(photographs, at(8, 9, 52, 66), person, (1,)) == (0.5,)  # person 1 is nearer than person 0
    with pytest.raises(ValueError, match="must be"):
        recall(photographs, renders[:3], person)
    with pytest.raises(ValueError, match="no direction"):
        recall(photographs, 0 * renders, person)


def test_tables_are_looked_through_in_parts(monkeypatch, generator):
    """Row by row as all at once, and pairs that are too many are thinned evenly."""
    photographs = torch.randn(9, 4, generator=generator).numpy()
    renders = photographs + torch.randn(9, 4, generator=generator).numpy()
    person = np.array([0, 1, 0, -1, 2, 1, 0, 2, -1])
    whole = recall(photographs, renders, person, (1, 2, 3)), pair_similarities(photographs, person)
    monkeypatch.setattr("facecore.evaluation.recognisability.ROWS", 2)
    assert recall(photographs, renders, person, (1, 2, 3)) == whole[0]
    for found, expected in zip(pair_similarities(photographs, person), whole[1]):
        np.testing.assert_allclose(found, expected, rtol=1e-6)  # products of other shapes round otherwise
    monkeypatch.undo()
    same, different = pair_similarities(photographs, person, most=5)
    np.testing.assert_array_equal(same, whole[1][0])  # 5 of them
    np.testing.assert_array_equal(different, whole[1][1][::4])  # 16


def test_pairs_and_distances():
    photographs, person = at(0, 60, 90), np.array([3, 3, 4])
    same, different = pair_similarities(photographs, person)
    np.testing.assert_allclose(same, [0.5])
    np.testing.assert_allclose(np.sort(different), [0.0, math.sqrt(3) / 2], atol=1e-12)
    found = Recognisability(photographs, photographs, person, np.array([0.9, 0.5, 0.4]), same, different)
    summary = found.summary()
    assert summary["similarity"] == pytest.approx(0.6) and summary["recall_1"] == 100
    assert summary["emd_same"] == pytest.approx((0.4 + 0 + 0.1) / 3)  # all mass moves to 0.5
    # the lower half of the mass moves to 0, the upper half to 0.866
    expected = (0.4 + 0.5 * 0.5 + 0.5 * (math.sqrt(3) / 2 - 0.5) + (0.9 - math.sqrt(3) / 2)) / 3
    assert summary["emd_different"] == pytest.approx(expected)
    alone = dataclasses.replace(found, same=same[:0]).summary()
    assert math.isnan(alone["emd_same"])
    unknown = pair_similarities(photographs, np.array([-1, -1, 4]))
    assert len(unknown[0]) == len(unknown[1]) == 0


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluator")
    torch.manual_seed(0)
    write_torchscript(folder / "e.pt", Embedder())
    return load_identity_network(write_manifest(folder / "m.json", "recognition", "torchscript", "e.pt"))


def test_measured_on_rendered_photographs(evaluator):
    model = load_model("procedural", num_vertices=2500)
    photos = RenderedPhotos(model, 48, 48, seed=2, persons=3, pictures=2)
    views = StudioViews(model, 48, 48)

    def mean_face(images: torch.Tensor, points: torch.Tensor):
        assert points.shape == (len(images), 5, 2)
        n = len(images)
        vertices = model.mean_neutral().expand(n, -1, -1)
        albedo = model.albedo(model.prior.albedo_mean[None]).expand(n, -1, -1)
        extra = {"triangles": model.triangles, "landmarks68": model.landmarks68, "size": 48}
        return facing_reconstruction(vertices, vertices, albedo, {}, **extra)

    found = measure_recognisability(mean_face, ["another"], evaluator, photos, views, 6)
    assert found.similarity.shape == (6,) and len(found.same) == 3 and len(found.different) == 12
    np.testing.assert_allclose(found.renders, found.renders[:1].repeat(6, 0), atol=1e-5)  # one face in one view
    summary = found.summary()
    assert summary["recall_1"] == pytest.approx(100 / 3)  # the same photograph is nearest to all: two are that person's
    assert 0 <= summary["emd_same"] <= 2
    with pytest.raises(ValueError, match="from 2 to the 6 photographs"):
        measure_recognisability(mean_face, ["another"], evaluator, photos, views, 7)


def test_the_network_of_the_training_is_refused(evaluator):
    with pytest.raises(ValueError, match="the system was trained with"):
        evaluator.check_judge(["another", evaluator.identity])
    evaluator.check_judge([])
