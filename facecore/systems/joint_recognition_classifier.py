"""A softmax over persons to begin with: how far what an encoder says is from what is expected of each."""

from __future__ import annotations

import torch

from facecore.training import distributed

RIDGE = 1e-3  # of the persons' mean variance: below it codes do not differ, and nobody is told apart by them


class PersonStatistics:
    """Sums over pictures, from which follow what an encoder is expected to say of a person and how far it is off.

    true, seen: codes of the same d numbers; seen = true A + constant + noise, A by least squares: an encoder that is
    unsure says less than the truth. Float64.
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

    def classifier(self, persons: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight [K, d] and bias [K] of the logits of persons with true codes [K, d], all as likely: the logarithm of a
        Gaussian density around what is expected of each, but for what all have in common.

        The noise counts as equal in all codes: verification compares codes by their cosine, and what helps a softmax of
        unequal noise need not help that.
        """
        d = self.size
        mean = self.sums[-1, :-1] / self.sums[-1, -1].clamp_min(1)
        covariance = self.sums[:-1, :-1] / self.sums[-1, -1].clamp_min(1) - mean[:, None] * mean
        true, cross, seen = covariance[:d, :d], covariance[:d, d:], covariance[d:, d:]
        ridge = (RIDGE * true.diagonal().mean()).clamp_min(torch.finfo(true.dtype).eps)
        slope = torch.linalg.solve(true + ridge * torch.eye(d).to(true), cross)  # A
        noise = (seen - slope.T @ cross).diagonal().mean().clamp_min(ridge)
        expected = (persons.double() - mean[:d]) @ slope  # less the mean of what is seen
        weight = expected / noise
        return weight, -weight @ mean[d:] - 0.5 * (weight * expected).sum(1)
