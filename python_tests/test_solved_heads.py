"""Solved heads of the semi-supervised system: ridge regression against numpy, and the choice of the ridge."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_semi_supervised import tiny

from facecore.morphable import load as load_model
from facecore.systems import solved_heads
from facecore.systems.semi_supervised_training import SemiSupervisedTrainer
from facecore.systems.solved_heads import RIDGES, SMALLEST_VARIANCE, NormalEquations, solve_code_heads
from facecore.training.config import overlay


@pytest.fixture(scope="module")
def morphable():
    return load_model("procedural", num_vertices=2500)


def samples(generator, count=60, features=9, targets=2):
    """Features of different sizes and means that move together, one of which never changes, and noisy targets."""
    mixed = torch.randn(count, features, generator=generator) @ torch.randn(features, features, generator=generator)
    x = mixed * 10.0 ** (torch.arange(features) / 4 - 1) + 5
    x[:, 3] = 7.0
    x[:, 4] = 2 + 1e-4 * mixed[:, 4]
    y = mixed @ torch.randn(features, targets, generator=generator) + torch.randn(count, targets, generator=generator)
    return x, y - 3


def test_normal_equations_against_numpy(generator):
    """However the samples are split; the mean maps to the mean; what hardly or never changes is not blown up."""
    x, y = samples(generator)
    equations, second = (NormalEquations(9, 2, torch.device("cpu")) for _ in range(2))
    equations.add(x[:7], y[:7])
    second.add(x[7:], y[7:])
    equations.join(second)
    a, b = x.double().numpy(), y.double().numpy()
    deviation = np.sqrt(np.maximum(a.var(0), SMALLEST_VARIANCE * a.var(0).mean()))
    assert deviation[4] > 10 * a[:, 4].std()
    z = (a - a.mean(0)) / deviation
    for ridge in RIDGES:
        expected = np.linalg.solve(z.T @ z / 60 + ridge * np.eye(9), z.T @ (b - b.mean(0)) / 60)
        weight, bias = equations.solve(ridge)
        scaled = weight.numpy() * deviation[:, None]
        np.testing.assert_allclose(scaled, expected, rtol=1e-6, atol=1e-8)  # float64 sums of float32 features
        np.testing.assert_allclose(a.mean(0) @ weight.numpy() + bias.numpy(), b.mean(0), rtol=1e-9)
        assert np.abs(scaled[3]).max() < 1e-9  # rounding of the sums over the least deviation


def solved(system):
    heads = torch.cat([system.identity_head.weight, system.expression_head.weight])
    corrections = torch.cat([system.identity_correction.weight, system.expression_correction.weight])
    bias = torch.cat([system.identity_head.bias, system.expression_head.bias])
    return torch.cat([heads, corrections], 1).detach(), bias.detach()


def test_heads_are_the_fit_of_all_renders(morphable, monkeypatch):
    """With the ridge that is best on the renders set aside, found here by trying each; pose heads stay."""
    trainer = SemiSupervisedTrainer(tiny(), morphable, None)
    system, embedding = trainer.system.eval(), trainer.objective.embedding
    batches = [trainer.renders.batch(torch.arange(i, i + 32)) for i in (0, 32, 64)]
    with torch.no_grad():
        features = [system.encode(batch.image).features for batch in batches]
    codes = [torch.cat(embedding.codes(b.identity, b.expression, b.albedo), 1) for b in batches]
    used, every = (NormalEquations(features[0].shape[1], codes[0].shape[1], torch.device("cpu")) for _ in range(2))
    for x, y in zip(features, codes):
        used.add(x[4:], y[4:])
        every.add(x, y)
    x, y = (torch.cat([part[:4] for part in parts]) for parts in (features, codes))
    error = {}
    for ridge in RIDGES:
        weight, bias = (part.float() for part in used.solve(ridge))
        error[ridge] = float(embedding.code_error(x @ weight + bias - y).mean())
    pose = system.pose_head.weight.clone()
    ridge = solve_code_heads(system, embedding.codes_of, embedding.code_error, batches)
    assert error[ridge] <= min(error.values()) * (1 + 1e-6)
    weight, bias = every.solve(ridge)
    found = solved(system)
    deviation = torch.cat(features).std(0)
    torch.testing.assert_close(found[0] * deviation, weight.float().T * deviation, rtol=1e-4, atol=1e-6)  # float32
    torch.testing.assert_close(found[1], bias.float(), rtol=1e-4, atol=1e-4)
    assert system.pose_head.weight.equal(pose)
    monkeypatch.setattr(solved_heads, "RIDGES", (1e6,))  # so large a ridge leaves the mean code
    solve_code_heads(system, embedding.codes_of, embedding.code_error, batches)
    with torch.no_grad():
        again = system.encode(batches[0].image).codes
    torch.testing.assert_close(
        torch.cat([again.identity, again.expression], 1), torch.cat(codes).mean(0).expand(32, -1), rtol=0, atol=1e-3
    )
    with pytest.raises(ValueError, match=r"call \.eval\(\) first"):
        solve_code_heads(system.train(), embedding.codes_of, embedding.code_error, batches)


def test_heads_are_solved_when_the_encoder_stage_ends(morphable, capsys):
    config = overlay(tiny(), {"stages": {"encoder_iterations": 2, "head_renders": 10}})
    trainer = SemiSupervisedTrainer(config, morphable, None)
    head = trainer.system.identity_head.weight
    largest = []
    for iteration in range(4):
        before = head.detach().clone()
        trainer.step(iteration)
        largest.append(float((head.detach() - before).abs().max()))
        assert ("solved on 10 renders, ridge" in capsys.readouterr().out) == (iteration == 2)
        assert (head in trainer.optimizer.state) == (iteration in (1, 3))
    rate = config.stages.encoder_learning_rate
    assert largest[0] == 0 and largest[1] < 1.01 * rate < largest[2]  # Adam's step is its rate; the solution is not


def test_solved_heads_move_less(morphable):
    """The first step of Adam is the learning rate for every weight that has a gradient to speak of."""
    stages = {"decoder_iterations": 0, "encoder_iterations": 0, "warmup_iterations": 1, "schedule": "constant"}
    trainer = SemiSupervisedTrainer(tiny(**stages, learning_rate=1e-3, head_rate=0.125), morphable, None)
    before = {name: parameter.detach().clone() for name, parameter in trainer.system.named_parameters()}
    trainer.step(0)
    moved = {name: (parameter.detach() - before[name]) for name, parameter in trainer.system.named_parameters()}
    for name in ("identity_head", "expression_head"):
        assert float(moved[f"{name}.weight"].abs().max()) == pytest.approx(1.25e-4, rel=1e-3), name  # float32 weights
    for name in ("encoder.conv1", "pose_head"):
        assert float(moved[f"{name}.weight"].abs().max()) == pytest.approx(1e-3, rel=1e-2), name
    assert not moved["identity_correction.weight"].any()
