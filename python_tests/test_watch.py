"""Losses that are not finite are found, at once or a step late, before weights are written."""

from __future__ import annotations

import pytest
import torch

from facecore.training.loop import NotFinite
from facecore.training.watch import FiniteWatch

GOOD = {"shape": torch.tensor(1.0), "gradient norm": torch.tensor(3.0)}
BAD = {"shape": torch.tensor(1.0), "pair": torch.tensor(float("inf"))}


def test_names_the_loss_and_the_iteration():
    watch = FiniteWatch()
    watch.see(GOOD, 0)
    with pytest.raises(NotFinite, match=r"the loss 'pair' is inf at iteration 1; lower the learning rate"):
        watch.see(BAD, 1)
    with pytest.raises(NotFinite, match="the gradient norm is nan at iteration 2"):
        watch.see({"gradient norm": torch.tensor(float("nan"))}, 2)


def test_late_it_is_found_with_the_next_iteration():
    watch = FiniteWatch(late=True)
    watch.see(BAD, 4)
    watch.see(GOOD, 4)  # the same iteration: nothing is waited for
    with pytest.raises(NotFinite, match="'pair' is inf at iteration 4"):
        watch.see(GOOD, 5)


def test_late_it_is_found_before_weights_are_written():
    watch = FiniteWatch(late=True)
    watch.see(GOOD, 3)
    watch.check()
    watch.see(BAD, 4)
    with pytest.raises(NotFinite, match="'pair' is inf at iteration 4"):
        watch.check()
    watch.check()  # said once
