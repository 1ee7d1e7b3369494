"""Mild effects of cameras on rendered pictures: blur, gain, gamma and noise."""

from __future__ import annotations

import torch
from torch.nn import functional

NUM_UNIFORM = 4  # numbers that one picture takes, besides its noise


def sensor_effects(image: torch.Tensor, uniform: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Pictures [N, 3, H, W] in [0, 1] as a camera might give them, [N, 3, H, W] in [0, 1].

    Blur by three taps in each direction (standard deviation 0 to 0.7 pixels), gamma of 0.9 to 1.1, gain of 0.97 to
    1.03, noise of a standard deviation of 0 to 0.02. uniform: [N, NUM_UNIFORM] in [0, 1); noise: standard normal,
    [N, 3, H, W].
    """
    side = 0.25 * uniform[:, 0]
    kernel = torch.stack((side, 1 - 2 * side, side), dim=1)
    image = _blurred(_blurred(image, kernel, 2), kernel, 3)
    gamma, gain, deviation = 0.9 + 0.2 * uniform[:, 1], 0.97 + 0.06 * uniform[:, 2], 0.02 * uniform[:, 3] ** 2
    # x^g as exp(g log x), 0 for 0: several times faster than pow()
    shaped = image.clamp_(0, 1).log_().mul_(gamma[:, None, None, None]).exp_().mul_(gain[:, None, None, None])
    return shaped.addcmul_(deviation[:, None, None, None], noise).clamp_(0, 1)


def _blurred(image: torch.Tensor, kernel: torch.Tensor, axis: int) -> torch.Tensor:
    """Each picture filtered by its own symmetric kernel [N, 3] along an axis; edge pixels go on beyond the border."""
    wide = functional.pad(image, (1, 1, 0, 0) if axis == 3 else (0, 0, 1, 1), mode="replicate")
    before, after = (wide.narrow(axis, start, image.shape[axis]) for start in (0, 2))
    return torch.addcmul(image * kernel[:, 1, None, None, None], before + after, kernel[:, 0, None, None, None])
