"""What every trainer must do: go on from a checkpoint to the weights of a run that was never stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def assert_resumes(make: Callable[[], Any], stop: int, weights: Callable[[Any], torch.nn.Module]) -> None:
    """Trains to the end, and again with a stop before iteration `stop`: bit for bit the same weights.

    make: a fresh trainer of the same settings; weights: its module with everything that is trained.
    """
    whole, half, again = make(), make(), make()
    for iteration in range(whole.total_iterations):
        whole.step(iteration)
    for iteration in range(stop):
        half.step(iteration)
    assert again.restore(half.checkpoint(stop, resumable=True)) == stop
    for iteration in range(stop, again.total_iterations):
        again.step(iteration)
    expected = weights(whole).state_dict()
    for name, weight in weights(again).state_dict().items():
        assert torch.equal(weight, expected[name]), name
