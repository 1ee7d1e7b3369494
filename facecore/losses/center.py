"""Center loss: the codes of one person's photographs gather around a center (Wen 2016)."""

from __future__ import annotations

import torch

from facecore.losses.identification import check_labels
from facecore.ops._library import check_tensor, takes_halves_under_autocast


@takes_halves_under_autocast
def center_loss(features: torch.Tensor, labels: torch.Tensor, centers: torch.Tensor) -> torch.Tensor:
    """Returns 1/(2B) sum_i |x_i - c_(y_i)|^2 over the B images with a known person, a scalar, 0 when none is known.

    features: codes [N, D]; labels: int64 [N], -1 = unknown, ignored; centers: [K, D], constants that CenterLoss.update
    moves. Differentiable in features only. Deterministic. Under torch.autocast half precision is taken as float32.
    Raises ValueError for a wrong shape, dtype or device, on the CPU also for a label >= K. METHODS 1.11.
    """
    check_tensor("centers", centers, ("K", "D"))
    _check(features, labels, centers)
    known = labels >= 0
    difference = torch.where(known[:, None], features - centers.detach()[labels.clamp_min(0)], 0.0)
    return (difference * difference).sum() / (2 * known.sum().clamp_min(1))


class CenterLoss(torch.nn.Module):
    """L = 1/(2B) sum_i |x_i - c_(y_i)|^2 over the B images with a known person; centers follow by a rule, no gradient.

    Args:
        num_persons: K, the number of centers.
        num_features: D, the length of a code.
        rate: alpha, how far a center moves in one update.

    The centers [K, D] are a buffer, part of the state_dict, all 0 at first. Differentiable in features only.
    Deterministic, forward and update. Raises ValueError for numbers out of range. METHODS 1.11.
    """

    centers: torch.Tensor

    def __init__(self, num_persons: int, num_features: int, rate: float = 0.5) -> None:
        super().__init__()
        if num_persons < 1 or num_features < 1:
            raise ValueError(f"num_persons and num_features must be at least 1, got {num_persons} and {num_features}")
        if not 0.0 < rate <= 1.0:
            raise ValueError(f"rate must be in (0, 1], got {rate}")
        self.rate = rate
        self.register_buffer("centers", torch.zeros(num_persons, num_features))

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Returns the loss, a scalar, 0 when no person is known.

        features: codes [N, D]; labels: int64 [N], -1 = unknown, ignored. Differentiable in features only.
        Deterministic. Raises ValueError for a wrong shape, dtype or device, on the CPU also for a label >= K.
        """
        return center_loss(features, labels, self.centers)

    @torch.no_grad()
    @takes_halves_under_autocast
    def update(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Moves the centers: c_j <- c_j - rate * sum_(i: y_i = j) (c_j - x_i) / (1 + count_j).

        Call it once per training step, after `forward`. In distributed training the sums run over the batches of all
        processes, so every process must call it. Deterministic on the CPU.
        """
        _check(features, labels, self.centers)
        known = labels >= 0
        rows, codes = labels[known], features[known].detach()
        count = torch.zeros_like(self.centers[:, :1]).index_add_(0, rows, torch.ones_like(codes[:, :1]))
        total = torch.zeros_like(self.centers).index_add_(0, rows, codes)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(count)
            torch.distributed.all_reduce(total)
        self.centers -= self.rate * (count * self.centers - total) / (1 + count)


def _check(features: torch.Tensor, labels: torch.Tensor, centers: torch.Tensor) -> None:
    persons, length = centers.shape
    sizes = check_tensor("features", features, ("N", length), like=centers)
    check_labels(labels, features, {**sizes, "K": persons})
