"""A softmax over persons to begin with: linear discriminant analysis of what an encoder says of them."""

from __future__ import annotations

import torch

from facecore.training import distributed

RIDGE = 1e-3  # of the mean variance: directions that hardly vary tell nobody apart


class PersonStatistics:
    """Sums over pictures, from which follow what an encoder is expected to say of a person and how far it is off.

    true, seen: codes of the same d numbers; seen = A true + constant + noise, A and the noise's covariance by least
    squares: an encoder that is unsure says less than the truth. Float64.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self.size = size
        self.sums = torch.zeros(2 * size + 1, 2 * size + 1, dtype=torch.float64, device=device)

    def add(self, true: torch.Tensor, seen: torch.Tensor) -> None:
        """Pictures: codes [N, d] of who they show, and what the encoder says of them."""
        whole = torch.cat([true, seen, true.new_ones(len(true), 1)], 1).double()
        self.sums.addmm_(whole.T, whole)

    def sum_over_processes(self) -> PersonStatistics:
        distributed.summed(self.sums)
        return self

    def discriminants(self, persons: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight [K, d] and bias [K] of the logits of persons with true codes [K, d], all as likely: the logarithm of
        the density of what is seen, but for what all have in common."""
        d = self.size
        mean = self.sums[-1, :-1] / self.sums[-1, -1].clamp_min(1)
        covariance = self.sums[:-1, :-1] / self.sums[-1, -1].clamp_min(1) - mean[:, None] * mean
        true, cross, seen = covariance[:d, :d], covariance[:d, d:], covariance[d:, d:]
        slope = torch.linalg.solve(true + _ridge(true), cross)  # [d, d], from the right
        noise = seen - slope.T @ cross
        centre = (persons.double() - mean[:d]) @ slope  # of what is seen less its mean
        weight = torch.linalg.solve(noise + _ridge(seen), centre.T).T
        return weight, -weight @ mean[d:] - 0.5 * (weight * centre).sum(1)


def _ridge(covariance: torch.Tensor) -> torch.Tensor:
    mean = covariance.diagonal().mean().clamp_min(torch.finfo(covariance.dtype).tiny)
    return RIDGE * mean * torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
