"""The softmax over persons that system 1 may begin phase III with: log-densities of what an encoder says."""

from __future__ import annotations

import torch

from facecore.systems.person_classifier import PersonStatistics

SIZE, PICTURES = 4, 200_000


def pictures(seed: int = 0):
    """True codes, and what an encoder says of them: shrunken, mixed, shifted, with noise that is correlated."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.randn(PICTURES, SIZE, generator=generator, dtype=torch.float64)
    slope = torch.diag(torch.tensor([0.9, 0.7, 0.5, 0.2], dtype=torch.float64))
    slope[0, 1] = 0.3
    root = 0.3 * torch.eye(SIZE, dtype=torch.float64) + 0.1 * torch.ones(SIZE, SIZE, dtype=torch.float64)
    noise = torch.randn(PICTURES, SIZE, generator=generator, dtype=torch.float64) @ root
    return true, true @ slope + 0.4 + noise, slope, root.T @ root


def test_logits_are_the_logarithms_of_the_persons_densities():
    """Differences between persons are those of Gaussian log-densities around what is expected of each, within what
    200,000 pictures and a ridge of 0.001 leave open."""
    true, seen, slope, covariance = pictures()
    statistics = PersonStatistics(SIZE, torch.device("cpu"))
    for rows in torch.arange(PICTURES).split(50_000):
        statistics.add(true[rows].float(), seen[rows].float())
    persons = torch.randn(6, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weight, bias = statistics.discriminants(persons)
    said = seen[:10]
    logits = said @ weight.T + bias
    off = said[:, None] - (persons @ slope + 0.4)
    expected = -0.5 * (off @ torch.linalg.inv(covariance) * off).sum(2)
    torch.testing.assert_close(logits - logits[:, :1], expected - expected[:, :1], rtol=0.03, atol=0.1)


def test_what_never_varies_tells_nobody_apart():
    """A code that the encoder always says alike has no density; its weight stays finite and changes no logit."""
    true, seen, _, _ = pictures()
    seen[:, 3] = 0.25
    statistics = PersonStatistics(SIZE, torch.device("cpu"))
    statistics.add(true[:1000], seen[:1000])
    weight, bias = statistics.discriminants(true[:5])
    assert weight.isfinite().all() and bias.isfinite().all()
    assert float(weight[:, 3].abs().max()) < 1e-3 * float(weight[:, :3].abs().max())
