"""The colour model of skin: two Gaussian mixtures in YCbCr (METHODS 1.10)."""

from __future__ import annotations

import numpy as np
import torch

from facecore.losses._constants import tensor_table

SKIN_PRIOR = 0.8
# Row: weight, mean (Y, Cb, Cr), inverse covariance x 1e-3 (11, 12, 13, 22, 23, 33).
SKIN_MIXTURE = (
    (0.24063933, 113.71862, 103.39613, 164.08226, 1.9472069, 2.0450759, -0.60243998, 17.700525, 5.1420014, 8.1308950),
    (0.16365987, 150.19858, 105.18467, 155.51428, 2.7110141, 1.1036990, 2.3122299, 10.707724, 10.742856, 17.481629),
    (0.26034665, 183.92976, 107.62468, 152.71820, 4.8026871, 0.22935172, 7.7668377, 11.729696, 8.1661865, 25.374353),
    (0.33535415, 114.90524, 113.59782, 151.38217, 1.1989699, 2.2453172, -1.0748957, 47.758564, 20.332102, 24.502251),
)
OTHER_MIXTURE = (
    (0.12791070, 99.200851, 112.07533, 140.20602, 0.85371657, 0.71197288, 0.23958916, 2.5935620, 0.76557708, 1.5042332),
    (0.31130761, 110.91392, 125.52969, 130.19237, 0.24650150, 0.45542428, 0.15019422, 26.412144, 18.419769, 37.497383),
    (0.34245777, 129.75864, 129.96107, 126.96808, 0.37054974, 0.38146760, 0.40408765, 8.5505722, 7.9136286, 10.982352),
    (0.21832393, 112.29587, 128.85121, 129.05431, 0.13709733, 0.51228428, 0.12777430, 282.37113, 105.28370, 234.68947),
)
# YCbCr of RGB in [0, 1]: matrix rows Y, Cb, Cr, then the offsets.
TO_YCBCR = ((65.481, 128.553, 24.966), (-37.797, -74.203, 112.0), (112.0, -93.786, -18.214))
YCBCR_OFFSET = (16.0, 128.0, 128.0)


def _whitening() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table = np.array(SKIN_MIXTURE + OTHER_MIXTURE)
    precision = table[:, [4, 5, 6, 5, 7, 8, 6, 8, 9]].reshape(-1, 3, 3) * 1e-3
    root = np.linalg.cholesky(precision).transpose(0, 2, 1)  # root^T root = S^-1
    offset = root @ (np.array(YCBCR_OFFSET) - table[:, 1:4])[:, :, None]
    return root @ np.array(TO_YCBCR), offset[..., 0], np.log(table[:, 0]) + 0.5 * np.linalg.slogdet(precision)[1]


LINEAR, OFFSET, LOG_WEIGHT = _whitening()
_linear = tensor_table(LINEAR[..., None, None])
_offset = tensor_table(OFFSET[..., None, None])
_log_weight = tensor_table(LOG_WEIGHT)


def gaussians(device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Per Gaussian k the affine map of RGB to z with (color - mean)^T S^-1 (color - mean) = |z|^2, and log weights.

    linear [8, 3, 3, 1, 1], offset [8, 3, 1, 1], log_weight [8]: log(w_k sqrt(det S_k^-1)), the four of skin first; the
    common factor (2 pi)^(-3/2) is left out.
    """
    return _linear(device, dtype), _offset(device, dtype), _log_weight(device, dtype)
