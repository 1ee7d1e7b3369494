"""Errors on held-out renders: nothing for the truth, no gain for the mean face, and each metric by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from facecore.data import LabelledBatch, LabelledRenders
from facecore.evaluation.held_out import BATCH, Baseline, evaluate_held_out, held_out_errors, summarise_held_out
from facecore.morphable import load
from facecore.render import WeakPerspectiveCamera
from facecore.systems.reconstruction import Reconstruction

SIZE = 32
METRICS = ("shape_mm", "neutral_mm", "albedo", "shading", "landmark_percent")


@pytest.fixture(scope="module")
def model():
    return load("procedural", num_vertices=2500)


@pytest.fixture(scope="module")
def renders(model):
    return LabelledRenders(model, SIZE, SIZE, seed=3)


@pytest.fixture(scope="module")
def baseline(model, renders):
    return Baseline.of(model, renders, count=50)


class Answers:
    """Reconstructs what `answer` makes of the truth; the pictures must come in the order of the renders."""

    def __init__(self, renders: LabelledRenders, answer: Callable[[Reconstruction], Reconstruction]) -> None:
        self.renders, self.answer, self.seen = renders, answer, 0

    def __call__(self, images: torch.Tensor) -> Reconstruction:
        batch = self.renders.batch(torch.arange(self.seen, self.seen + len(images)))
        torch.testing.assert_close(images, batch.image)
        self.seen += len(images)
        return self.answer(truth(self.renders, batch))


def truth(renders: LabelledRenders, batch: LabelledBatch) -> Reconstruction:
    model = renders.model
    return Reconstruction(
        vertices=model.shape(batch.identity, batch.expression),
        neutral_vertices=model.shape(batch.identity, torch.zeros_like(batch.expression)),
        triangles=model.triangles,
        albedo=model.albedo(batch.albedo),
        camera=WeakPerspectiveCamera.from_pose(batch.pose, SIZE, SIZE),
        pose=batch.pose,
        sh_coefficients=batch.sh_coefficients,
        codes={},
        landmarks68=model.landmarks68,
    )


def test_the_truth_has_no_error(model, renders, baseline):
    answers = Answers(renders, lambda face: face)
    result = evaluate_held_out(answers, model, renders, baseline, BATCH + 3)
    assert answers.seen == BATCH + 3, "every render is asked for once, the last batch is short"
    for name in METRICS:
        assert result[name] < 1e-3, name  # float32: coordinates of 100 mm, pixels of 32
    for name in ("shape", "neutral", "albedo", "shading"):
        assert result[f"{name}_gain_percent"] > 99.9, name


def test_the_mean_face_gains_nothing(model, renders, baseline):
    def answer(face: Reconstruction) -> Reconstruction:
        return dataclasses.replace(
            face,
            vertices=baseline.shape.expand_as(face.vertices),
            neutral_vertices=baseline.neutral.expand_as(face.vertices),
            albedo=baseline.albedo.expand_as(face.albedo),
            sh_coefficients=baseline.sh_coefficients.expand_as(face.sh_coefficients),
        )

    result = evaluate_held_out(Answers(renders, answer), model, renders, baseline, 8)
    for name in ("shape", "neutral", "albedo", "shading"):
        assert result[f"{name}_gain_percent"] == pytest.approx(0, abs=1e-4), name
    for name in ("shape_mm", "neutral_mm", "albedo", "shading"):
        assert result[name] == pytest.approx(result[f"{name}_mean_face"], rel=1e-5) and result[name] > 0.01, name


def test_albedo_shading_and_landmarks_by_hand(model, renders, baseline):
    """Albedo off by 0.25 everywhere; light off by 0.2 on band 0, whose basis is 0.886227; landmarks off by 3 pixels."""

    def answer(face: Reconstruction) -> Reconstruction:
        light = face.sh_coefficients.clone()
        light[:, 0] -= 0.2
        moved = face.camera.translation + torch.tensor([2 * 3 / SIZE, 0.0])  # NDC: 2 units are SIZE pixels
        camera = dataclasses.replace(face.camera, translation=moved)
        return dataclasses.replace(face, albedo=face.albedo + 0.25, sh_coefficients=light, camera=camera)

    result = evaluate_held_out(Answers(renders, answer), model, renders, baseline, 4)
    points = renders.batch(torch.arange(4)).landmarks
    width, height = (points.amax(1) - points.amin(1)).unbind(1)
    assert result["albedo"] == pytest.approx(0.25, rel=1e-4)
    assert result["shading"] == pytest.approx(0.2 * 0.886227, rel=1e-4)
    assert result["landmark_percent"] == pytest.approx(float((300 / (width * height).sqrt()).mean()), rel=1e-3)
    assert result["shape_mm"] < 1e-3


def test_shapes_are_compared_after_similarity_alignment(model, renders, baseline):
    """Scale, rotation and offset are forgiven, in both shapes; a change of proportions is not."""
    turn = torch.linalg.qr(torch.eye(3) + torch.tensor([[0.0, 0.3, -0.1], [-0.3, 0, 0.2], [0.1, -0.2, 0]]))[0]
    turn = turn * torch.det(turn)

    def answer(face: Reconstruction) -> Reconstruction:
        moved = 1.3 * face.vertices @ turn + 40.0
        stretched = face.neutral_vertices * torch.tensor([1.1, 1.0, 1.0])
        return dataclasses.replace(face, vertices=moved, neutral_vertices=stretched)

    result = evaluate_held_out(Answers(renders, answer), model, renders, baseline, 2)
    assert result["shape_mm"] < 1e-3
    # 10 % of a face that reaches 70 mm to each side; scale takes a part of it back
    assert 0.5 < result["neutral_mm"] < 5


def test_errors_of_each_render(model, renders, baseline):
    done: list[int] = []
    errors = held_out_errors(Answers(renders, lambda face: face), model, renders, baseline, 3, progress=done.append)
    assert done == [3] and {values.shape for values in errors.values()} == {(3,)}
    means = summarise_held_out(errors)
    assert means["shape_mm_mean_face"] == pytest.approx(float(errors["shape_mm_mean_face"].mean()))
    assert means["landmark_percent"] < 1e-3


def test_a_count_below_one_is_refused(model, renders, baseline):
    with pytest.raises(ValueError, match="count must be at least 1 held-out render, got 0"):
        evaluate_held_out(Answers(renders, lambda face: face), model, renders, baseline, 0)


def test_baseline_is_the_mean_of_the_prior(model, baseline):
    assert torch.equal(baseline.shape, model.mean_shape()) and torch.equal(baseline.neutral, model.mean_neutral())
    assert baseline.albedo.shape == (model.num_vertices, 3) and baseline.sh_coefficients.shape == (9, 3)
    assert 0.3 < float(baseline.sh_coefficients[0].mean()) < 2, "light that shows a face"
