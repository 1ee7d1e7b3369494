"""The pairs of the 68 landmarks and their weights in the landmark structure loss (METHODS 2.2)."""

from __future__ import annotations

import numpy as np
import torch

from facecore.losses._constants import tensor_table

# Upper and lower lids, upper and lower inner lip: whether eyes and mouth are open.
APERTURE_PAIRS = ((37, 41), (38, 40), (43, 47), (44, 46), (61, 67), (62, 66), (63, 65))
APERTURE_WEIGHT = 20.0


def _weight_matrix() -> np.ndarray:
    matrix = 1.0 - np.eye(68)
    for a, b in APERTURE_PAIRS:
        matrix[a, b] = matrix[b, a] = APERTURE_WEIGHT
    return matrix


_MATRIX = _weight_matrix()
_FIRST, _SECOND = np.triu_indices(68, 1)
_first, _second, _weights = (tensor_table(array) for array in (_FIRST, _SECOND, _MATRIX[_FIRST, _SECOND]))
pair_matrix = tensor_table(_MATRIX)  # [68, 68], symmetric, 0 on the diagonal


def landmark_pairs(device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The 2,278 pairs: first, second, weight."""
    return _first(device, torch.int64), _second(device, torch.int64), _weights(device, dtype)
