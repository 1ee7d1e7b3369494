"""Identity loss: the render must be recognised as the person of the photograph (METHODS 4, L_per; 6, L_id)."""

from __future__ import annotations

import torch

from facecore.losses._masked import batch_mean
from facecore.ops._library import check_tensor, takes_halves_under_autocast

SMALLEST_LENGTH = 1e-8  # of a product of two features: below it their angle means nothing


@takes_halves_under_autocast
def identity_loss(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Returns 1 - cosine of the angle between two features, averaged over images: a scalar.

    predicted, target: features of a recognition network, of any length, float32 or float64 [N, D]; features of zero
    give a finite gradient. Differentiable in both. Deterministic on the CPU. Under torch.autocast half precision is
    taken as float32. Raises ValueError for a wrong shape, dtype or device.
    """
    sizes = check_tensor("predicted", predicted, ("N", "D"))
    check_tensor("target", target, ("N", "D"), like=predicted, sizes=sizes)
    return batch_mean(1.0 - torch.nn.functional.cosine_similarity(predicted, target, dim=1, eps=SMALLEST_LENGTH))
