"""facecore.systems.landmark_fit: the objective never rises, each turn is a minimum, more photographs tell more."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
import torch

from facecore.evaluation.alignment import fit_similarity
from facecore.morphable import MorphableModel, load
from facecore.render import WeakPerspectiveCamera
from facecore.systems.landmark_fit import TURNS, _Problem, _State, fit_landmarks

POSE = torch.tensor([0.35, 0.8, 0.17, 0.1, 0.1, 0.1])  # half ranges of a person's poses
NOISE = 0.01  # of a landmark, over the size of the landmarks' box: what the fit counts on


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return load("procedural", num_vertices=2500)


def person(model: MorphableModel, count: int, seed: int, noise: float = NOISE) -> tuple[torch.Tensor, torch.Tensor]:
    """The identity of a random person [K], and the landmarks of `count` photographs in NDC [count, 68, 2]."""
    generator = torch.Generator().manual_seed(seed)
    faces = model.sample(count, generator)
    identity = faces.identity[:1]
    points = model.shape(identity.expand(count, -1), faces.expression)[:, model.landmarks68]
    pose = POSE * (2 * torch.rand(count, 6, generator=generator) - 1)
    ndc = WeakPerspectiveCamera.from_pose(pose, 200, 200).ndc(points)
    size = (ndc.amax(1) - ndc.amin(1)).mean(1)
    return identity[0], ndc + noise * size[:, None, None] * torch.randn(ndc.shape, generator=generator)


def identity_error(model: MorphableModel, identity: torch.Tensor, truth: torch.Tensor) -> float:
    """Mean vertex distance in mm after a similarity."""
    shapes = model.shape(torch.stack([identity, truth])).double()
    aligned = fit_similarity(shapes[:1], shapes[1:]).apply(shapes[:1])
    return float((aligned - shapes[1:]).norm(dim=2).mean())


@pytest.mark.parametrize("count", [1, 2, 10])
@pytest.mark.parametrize("ridge", [0.0, 1.0])
def test_no_turn_raises_the_objective(model: MorphableModel, count: int, ridge: float) -> None:
    _, points = person(model, count, seed=1)
    check_descent(_Problem.of(model, points, None, ridge))


def test_no_turn_raises_it_on_points_of_no_face(model: MorphableModel) -> None:
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(4, 68, 2, generator=generator)
    weight = torch.rand(4, 68, generator=generator) * (torch.rand(4, 68, generator=generator) < 0.3)
    check_descent(_Problem.of(model, points, weight, 1.0))


def check_descent(problem: _Problem) -> None:
    state = problem.start()
    objective = problem.objective(state)
    for turned in itertools.islice(problem.turns(state), 10 * TURNS):
        new = problem.objective(turned)
        # the rounding of float64 sums and of a pseudo-inverse; of what cancels, where points are met exactly
        assert new <= objective * (1 + 1e-9) + 1e-12
        objective = new


def test_every_turn_ends_in_a_minimum(model: MorphableModel) -> None:
    """The objective, differentiated by torch, is flat in what a turn solved for."""
    _, points = person(model, 3, seed=2)
    weight = torch.rand(3, 68, generator=torch.Generator().manual_seed(0))
    problem = _Problem.of(model, points, weight, 0.7)
    state = next(problem.turns(problem.start()))
    assert_flat(problem, state, "expression")
    state = problem.with_identity(state)
    assert_flat(problem, state, "identity")
    state = problem.with_poses(state)
    assert_flat(problem, state, "scale")
    assert_flat(problem, state, "offset")


def assert_flat(problem: _Problem, state: _State, name: str) -> None:
    value = getattr(state, name).clone().requires_grad_()
    moved = dataclasses.replace(state, **{name: value})
    prior = moved.identity.square().sum() + moved.expression.square().sum()
    objective = (problem.precision * problem.errors(moved)).sum() + problem.ridge * prior
    (gradient,) = torch.autograd.grad(objective, value)
    # against the terms that cancel in it: a change of 1 moves the objective by about as much as it is
    assert float(gradient.abs().max()) < 1e-8 * float(objective.detach())


@pytest.mark.parametrize("count", [2, 10])
def test_ten_rounds_are_nearly_thirty(model: MorphableModel, count: int) -> None:
    for seed in range(5):
        _, points = person(model, count, seed)
        objective = fit_landmarks(model, points, tolerance=0.0, max_iterations=30).objective
        assert objective[min(10, len(objective) - 1)] <= 1.05 * objective[-1]


def test_more_photographs_tell_more_of_the_identity(model: MorphableModel) -> None:
    errors = []
    for count in (1, 3, 10):
        persons = [person(model, count, seed) for seed in range(12)]
        errors.append(sum(identity_error(model, fit_landmarks(model, p).identity, t) for t, p in persons) / 12)
    mean = sum(identity_error(model, model.prior.identity_mean, t) for t, _ in persons) / 12
    assert errors[2] < errors[1] < errors[0] < mean
    assert errors[2] < 0.7 * mean


def test_exact_landmarks_are_met(model: MorphableModel) -> None:
    """Without noise, and with hardly a prior, little is left; the way there is a valley, so not nothing."""
    _, points = person(model, 5, seed=4, noise=0.0)
    fit = fit_landmarks(model, points, ridge=1e-3, max_iterations=100, tolerance=1e-6)
    assert float(fit.residual.max()) < 1e-3
    assert fit.iterations <= 100 and math.isfinite(float(fit.objective[-1]))


def test_a_known_identity_stays(model: MorphableModel) -> None:
    """The expressions are those that fit it: nearer to the true ones than what the mean face would need."""
    truth, points = person(model, 2, seed=6, noise=0.0)
    known, other = (fit_landmarks(model, points, identity=part) for part in (truth, torch.zeros_like(truth)))
    assert torch.equal(known.identity, truth) and not bool(other.identity.any())
    assert bool((known.objective.diff() <= 1e-9 * known.objective[:-1]).all())
    faces = model.sample(2, torch.Generator().manual_seed(6))
    shapes = model.shape(truth.expand(2, -1), faces.expression)
    errors = [
        float((model.shape(truth.expand(2, -1), fit.expression) - shapes).norm(dim=2).mean()) for fit in (known, other)
    ]
    assert errors[0] < errors[1]
    problem = _Problem.of(model, points, None, 1.0, truth)
    assert_flat(problem, next(problem.turns(problem.start())), "expression")
    with pytest.raises(ValueError, match="identity must have shape"):
        fit_landmarks(model, points, identity=truth[:3])


def test_results_say_what_the_objective_says(model: MorphableModel) -> None:
    """Coefficients and pose codes, through the model and its camera, give the residual; in another way than the fit."""
    _, points = person(model, 3, seed=5)
    fit = fit_landmarks(model, points)
    shape = model.shape(fit.identity.expand(3, -1), fit.expression)[:, model.landmarks68]
    projected = WeakPerspectiveCamera.from_pose(fit.pose, 100, 100).ndc(shape)
    size = (points.amax(1) - points.amin(1)).mean(1)
    residual = (projected - points).square().sum(2).mean(1).sqrt() / size
    torch.testing.assert_close(fit.residual, residual, rtol=1e-3, atol=0)  # the projection is in float32
    prior = model.prior
    z = [(fit.identity - prior.identity_mean) / prior.identity_std]
    z.append(((fit.expression - prior.expression_mean) / prior.expression_std).flatten())
    objective = (68 * (residual / 0.01).square()).sum() + torch.cat(z).square().sum()
    torch.testing.assert_close(fit.objective[-1].float(), objective, rtol=1e-3, atol=0)


def test_frames_and_order_of_the_photographs_do_not_matter(model: MorphableModel) -> None:
    _, points = person(model, 4, seed=6)
    fit = fit_landmarks(model, points)
    order = torch.tensor([2, 0, 3, 1])
    scale, shift = torch.tensor([1.0, 3.0, 0.2, 40.0]), torch.tensor([[0.0, 0.0], [5.0, -2.0], [0.1, 0.1], [9.0, 9.0]])
    moved = fit_landmarks(model, (points * scale[:, None, None] + shift[:, None])[order])
    # float32 points of a frame 40 times as large, up to 60 NDC from its middle
    torch.testing.assert_close(moved.identity, fit.identity, rtol=0, atol=2e-3)
    torch.testing.assert_close(moved.expression, fit.expression[order], rtol=0, atol=2e-3)


def test_unknown_points_take_no_part(model: MorphableModel) -> None:
    _, points = person(model, 2, seed=7)
    weight = torch.ones(2, 68)
    weight[0, 17:40] = 0
    hidden = points.clone()
    hidden[0, 17:40] = float("nan")
    one, other = fit_landmarks(model, points, weight), fit_landmarks(model, hidden, weight)
    assert torch.equal(one.identity, other.identity) and torch.equal(one.pose, other.pose)


def test_the_prior_decides_where_landmarks_do_not(model: MorphableModel) -> None:
    _, points = person(model, 1, seed=8)
    loose, tight = (fit_landmarks(model, points, ridge=ridge) for ridge in (0.1, 1e6))
    prior = model.prior
    sizes = [((fit.identity - prior.identity_mean) / prior.identity_std).norm() for fit in (loose, tight)]
    assert float(sizes[1]) < 0.05 < float(sizes[0])


def test_hardly_a_ridge_and_few_points(model: MorphableModel) -> None:
    """More coefficients than points, and a ridge that rounding swallows: the shortest solution is taken."""
    _, points = person(model, 1, seed=11)
    weight = torch.zeros(1, 68)
    weight[0, ::9] = 1
    problem = _Problem.of(model, points, weight, 1e-14)
    check_descent(problem)
    assert bool(torch.isfinite(fit_landmarks(model, points, weight, ridge=1e-14).identity).all())


def test_a_model_without_expressions(model: MorphableModel) -> None:
    _, points = person(model, 2, seed=9)
    problem = _Problem.of(model, points, None, 1.0)
    still = dataclasses.replace(problem, expression=problem.expression[:0])
    check_descent(still)
    assert still.with_expressions(still.start()).expression.shape == (2, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"landmarks_ndc": torch.zeros(0, 68, 2)}, "at least one photograph"),
        ({"landmarks_ndc": torch.rand(2, 5, 2)}, "landmarks_ndc must have shape"),
        ({"landmarks_ndc": torch.full((2, 68, 2), float("nan"))}, "not finite"),
        ({"landmarks_ndc": torch.zeros(2, 68, 2)}, "photograph 0 lie in one place"),
        ({"weight": torch.ones(2, 5)}, "weight must have shape"),
        ({"weight": -torch.ones(2, 68)}, "weight must hold numbers of at least 0"),
        ({"weight": torch.tensor([[1.0] * 68, [1.0] * 5 + [0.0] * 63])}, "photograph 1 has fewer than 6"),
        ({"ridge": -1.0}, "ridge must be"),
        ({"ridge": float("nan")}, "ridge must be"),
        ({"max_iterations": 0}, "max_iterations must be at least 1"),
        ({"tolerance": float("nan")}, "tolerance at least 0"),
    ],
)
def test_bad_input_is_refused(model: MorphableModel, change: dict[str, object], message: str) -> None:
    generator = torch.Generator().manual_seed(0)
    arguments = {"landmarks_ndc": torch.rand(2, 68, 2, generator=generator)} | change
    with pytest.raises(ValueError, match=message):
        fit_landmarks(model, **arguments)  # type: ignore[arg-type]
