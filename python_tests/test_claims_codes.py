"""Measurements of claims 5 and 6 on codes whose answers are known."""

from __future__ import annotations

import pytest
import torch

from facecore.evaluation.claims_codes import (
    RIDGES,
    _ridge,
    identity_spread,
    linear_probe,
    shape_spread_mm,
    swap_errors,
)
from facecore.morphable import load


@pytest.fixture(scope="module")
def model():
    return load("procedural", num_vertices=2500)


def test_swapping_in_a_linear_model_is_exact(model):
    """Codes that are the coefficients, decoded by the model: no error, swapped or not."""
    drawn = model.sample(4, torch.Generator().manual_seed(0))
    truth = drawn.identity, drawn.expression
    assert float(swap_errors(model.shape, truth, model, truth).max()) < 1e-3  # float32
    assert float(swap_errors(model.shape, truth, model, truth, torch.arange(4)).max()) < 1e-3


def test_a_decoder_that_reads_the_expression_from_the_identity_is_caught(model):
    """It is right as long as both codes are of one picture."""
    drawn = model.sample(4, torch.Generator().manual_seed(0))
    truth = drawn.identity, drawn.expression
    entangled = torch.cat(truth, 1)

    def decode(identity: torch.Tensor, expression: torch.Tensor) -> torch.Tensor:
        return model.shape(identity[:, : model.num_identity], identity[:, model.num_identity :])

    codes = entangled, drawn.expression
    assert float(swap_errors(decode, codes, model, truth, torch.arange(4)).max()) < 1e-3
    partner = torch.tensor([2, 3, 0, 1])
    expected = model.shape(truth[0], truth[1]) - model.shape(truth[0], truth[1][partner])
    error = swap_errors(decode, codes, model, truth, partner)
    assert float(error.min()) > 0.2 * float(expected.norm(dim=-1).mean())  # what no similarity explains
    with pytest.raises(ValueError, match="must be of the same pictures"):
        swap_errors(decode, codes, model, (truth[0][:3], truth[1]))


def test_probe_reads_what_is_there_and_nothing_else():
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(400, 6, generator=generator) * torch.tensor([1.0, 10, 0.1, 1, 1, 0]) + 3  # one is constant
    targets = features[:, :4] @ torch.randn(4, 2, generator=generator)
    assert linear_probe(features, targets) > 0.9999  # the ridge takes the rest
    other = torch.randn(400, 2, generator=generator)
    # 6 features fit 6 / 280 of the training noise, and lose as much again on the rest
    assert abs(linear_probe(features, other)) < 0.1
    half = linear_probe(features, targets + targets.std(0) * other)
    assert half == pytest.approx(0.5, abs=0.1)  # as much noise as signal


def test_probe_of_many_features_on_few_samples():
    """As codes of 128 numbers on 200 pictures: noise explains nothing, rather than less than nothing."""
    generator = torch.Generator().manual_seed(4)
    features, noise = torch.randn(200, 128, generator=generator), torch.randn(200, 5, generator=generator)
    assert -0.1 < linear_probe(features, noise) < 0.1
    signal = features[:, :2] @ torch.randn(2, 5, generator=generator)
    assert 0.3 < linear_probe(features, signal) < 1  # 140 samples for 128 directions


def test_probe_chooses_the_ridge_by_leaving_one_out():
    """The closed form against leaving out each sample in turn."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(12, 4, generator=generator).double()
    y = (x[:, :1] + torch.randn(12, 1, generator=generator)).double()
    x, y = x - x.mean(0), y - y.mean(0)

    def fit(rows: torch.Tensor, ridge: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mean, middle = x[rows].mean(0), y[rows].mean(0)
        gram = (x[rows] - mean).T @ (x[rows] - mean) + ridge * torch.eye(4).double()
        return torch.linalg.solve(gram, (x[rows] - mean).T @ (y[rows] - middle)), mean, middle

    def left_out(ridge: float) -> float:
        total = 0.0
        for i in range(12):
            weight, mean, middle = fit(torch.arange(12) != i, ridge)
            total += float((y[i] - middle - (x[i] - mean) @ weight).square().sum())
        return total

    best = min(RIDGES, key=left_out)
    torch.testing.assert_close(_ridge(x, y), fit(torch.arange(12) >= 0, best)[0])


def test_probe_refuses():
    with pytest.raises(ValueError, match=r"features \[N, F\] and targets \[N, T\]"):
        linear_probe(torch.zeros(4, 2), torch.zeros(3, 1))
    with pytest.raises(ValueError, match="train_share"):
        linear_probe(torch.zeros(4, 2), torch.zeros(4, 1), train_share=1.0)
    with pytest.raises(ValueError, match="two samples on either side"):
        linear_probe(torch.zeros(3, 2), torch.zeros(3, 1))


def test_spread_by_hand():
    """Two people at 0 and 10, two pictures each, 1 to either side; a third has one picture."""
    values = torch.tensor([[-1.0], [1.0], [9.0], [11.0], [500.0]])
    spread = identity_spread(values, torch.tensor([4, 4, 7, 7, 9]))
    assert spread.within == pytest.approx(2.0)  # 1 * 2 / (2 - 1)
    assert spread.between == pytest.approx(25.0) and spread.ratio == pytest.approx(0.08)
    with pytest.raises(ValueError, match="two pictures each"):
        identity_spread(values, torch.tensor([4, 4, 7, 8, 9]))


def test_shape_spread_forgives_pose_and_size(model):
    drawn = model.sample(3, torch.Generator().manual_seed(5)).identity
    shapes = model.shape(drawn).double()
    pictures = torch.cat([shapes, 1.2 * shapes + 30.0])
    identity = torch.arange(3).repeat(2)
    spread = shape_spread_mm(pictures, identity)
    assert spread.within < 1e-6 < 0.5 < spread.between
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    rough = shape_spread_mm(torch.cat([shapes, shapes]) + noise, identity)
    assert rough.within == pytest.approx(3**0.5, rel=0.05)  # RMS length of a unit normal vector
