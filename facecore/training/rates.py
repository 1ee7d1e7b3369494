"""Learning rates over a training."""

from __future__ import annotations

import math

RAMP = 50  # iterations over which a learning rate rises: Adam's moments are few then
FINAL_RATE = 0.01  # of the learning rate, where the cosine ends


def cosine(progress: float) -> float:
    """From 1 to FINAL_RATE as progress goes from 0 to 1."""
    return FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * progress))


def risen_cosine(done: int, total: int) -> float:
    """The cosine after `done` of `total` iterations, risen from 0 over the first RAMP."""
    return min(1.0, (done + 1) / RAMP) * cosine(done / max(total, 1))
