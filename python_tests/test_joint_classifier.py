"""The softmax over persons that system 1 may begin phase III with: log-densities of what an encoder says."""

from __future__ import annotations

import pytest
import torch

from facecore.systems.joint_recognition_classifier import PersonStatistics

SIZE, PICTURES, NOISE = 4, 200_000, 0.4


def pictures(seed: int = 0):
    """True codes, and what an encoder says of them: shrunken, mixed, shifted, with noise."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.randn(PICTURES, SIZE, generator=generator, dtype=torch.float64)
    slope = torch.diag(torch.tensor([0.9, 0.7, 0.5, 0.2], dtype=torch.float64))
    slope[0, 1] = 0.3
    noise = torch.randn(PICTURES, SIZE, generator=generator, dtype=torch.float64)
    return true, true @ slope + 0.4 + NOISE * noise, slope


def test_logits_are_the_logarithms_of_the_persons_densities():
    """Differences between persons are those of Gaussian log-densities around what is expected of each, within what
    200,000 pictures and a ridge of 0.001 leave open."""
    true, seen, slope = pictures()
    statistics = PersonStatistics(SIZE, torch.device("cpu"))
    for rows in torch.arange(PICTURES).split(50_000):
        statistics.add(true[rows].float(), seen[rows].float())
    persons = torch.randn(6, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weight, bias = statistics.classifier(persons)
    said = seen[:10]
    logits = said @ weight.T + bias
    off = said[:, None] - (persons @ slope + 0.4)
    expected = -0.5 * off.square().sum(2) / NOISE**2
    torch.testing.assert_close(logits - logits[:, :1], expected - expected[:, :1], rtol=0.03, atol=0.1)


@pytest.mark.parametrize("said", [0.0, 0.25, 0.3, -0.1])
def test_an_encoder_that_says_nothing_tells_nobody_apart(said):
    """One that says the same of everybody has no noise, and expects the same of all, but for rounding: the weights fit
    into float32 and the logits are equal."""
    true = pictures()[0].float()
    statistics = PersonStatistics(SIZE, torch.device("cpu"))
    statistics.add(true[:1000], torch.full((1000, SIZE), said))
    weight, bias = (part.float() for part in statistics.classifier(true[:5]))
    logits = torch.full((1, SIZE), said) @ weight.T + bias
    assert float(weight.abs().max()) < 1e-3 and float(logits.max() - logits.min()) < 1e-3
