"""Identification loss: which person is this, among those of the training set."""

from __future__ import annotations

import torch

from facecore.ops._library import check_tensor, takes_halves_under_autocast


@takes_halves_under_autocast
def softmax_identification_loss(
    logits: torch.Tensor, labels: torch.Tensor, *, margin: float = 0.0, scale: float = 1.0
) -> torch.Tensor:
    """Returns the softmax cross-entropy, averaged over images with a known person: a scalar, 0 when none is known.

    Args:
        logits: scores of the K persons, float32 or float64 [N, K].
        labels: index of the person, int64 [N]; -1 = unknown, ignored.
        margin, scale: the additive margin form, for logits that are cosines between features and the persons' weights:
            the logits are scale * (logits - margin at the right person). Not negative; scale positive.

    Differentiable in logits. Deterministic. Under torch.autocast half precision is taken as float32. Raises ValueError
    for a wrong shape, dtype or device; on the CPU also for a label outside [-1, K) (on CUDA torch's device assertion
    reports it, without a synchronisation). METHODS 2.2 (L_recog).
    """
    sizes = check_tensor("logits", logits, ("N", "K"))
    check_labels(labels, logits, sizes)
    if not margin >= 0 or not scale > 0:
        raise ValueError(f"margin must not be negative and scale must be positive, got {margin} and {scale}")
    logits = torch.where((labels >= 0)[:, None], logits, 0.0)  # of an unknown person: whatever they are
    if margin:
        right = labels.clamp_min(0)[:, None]  # of an unknown person: any, the row is ignored
        logits = logits.scatter_add(1, right, logits.new_full(right.shape, -margin))
    if scale != 1.0:
        logits = logits * scale
    total = torch.nn.functional.cross_entropy(logits, labels, ignore_index=-1, reduction="sum")
    return total / (labels >= 0).sum().clamp_min(1)


identification_loss = softmax_identification_loss  # the shorter name


def check_labels(labels: torch.Tensor, like: torch.Tensor, sizes: dict[str, int]) -> None:
    """Checks int64 labels [N] in [-1, K)."""
    check_tensor("labels", labels, ("N",), (torch.int64,), like=like, sizes=sizes)
    if labels.device.type == "cpu" and labels.numel() and not torch.compiler.is_compiling():
        low, high = int(labels.min()), int(labels.max())
        if low < -1 or high >= sizes["K"]:
            raise ValueError(f"labels must lie in [-1, {sizes['K']}) (-1 = unknown), got {low} to {high}")
