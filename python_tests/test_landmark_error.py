"""NME, yaw bins and the CED by hand."""

from __future__ import annotations

import numpy as np
import pytest

from facecore.evaluation.landmark_error import area_under, by_yaw, cumulative_distribution, landmark_nme


def square() -> np.ndarray:
    """68 points whose box is 90 x 40, so root(w h) = 60."""
    points = np.random.default_rng(0).uniform([10, 20], [100, 60], size=(68, 2))
    points[0], points[1] = (10, 20), (100, 60)
    return points


def test_nme_by_hand():
    truth = square()
    predicted = truth.copy()
    predicted[:34] += [3.0, 4.0]  # half of the points 5 pixels off
    assert landmark_nme(predicted, truth) == pytest.approx(100 * 2.5 / 60)
    assert landmark_nme(2 * predicted, 2 * truth) == pytest.approx(100 * 2.5 / 60), "the unit does not count"


def test_yaw_bins_by_hand():
    """0 and 30 degrees belong to the first bin, 30.1 and -60 to the second, 90 and 95 to the third."""
    nme = np.array([1.0, 3.0, 5.0, 7.0, 10.0, 20.0])
    bins, overall = by_yaw(nme, np.array([0.0, 30.0, 30.1, -60.0, 90.0, -95.0]))
    assert [(b.name, b.count, b.nme) for b in bins] == [
        ("[0, 30]", 2, pytest.approx(2.0)),
        ("(30, 60]", 2, pytest.approx(6.0)),
        ("(60, 90]", 2, pytest.approx(15.0)),
    ]
    assert overall == pytest.approx((2 + 6 + 15) / 3), "the mean of the bins, not of the pictures"
    bins, overall = by_yaw(nme[:2], np.zeros(2))
    assert bins[2].nme is None and bins[2].count == 0 and overall == pytest.approx(2.0)


def test_ced_by_hand():
    curve = cumulative_distribution(np.array([1.0, 2.0, 2.0, 20.0]), limit=4.0, steps=4)
    assert curve == [(0.0, 0.0), (1.0, 0.25), (2.0, 0.75), (3.0, 0.75), (4.0, 0.75)]
    assert area_under(curve) == pytest.approx((0.125 + 0.5 + 0.75 + 0.75) / 4)
    assert area_under(cumulative_distribution(np.zeros(3))) == 1


def test_bad_arguments():
    with pytest.raises(ValueError, match="predicted must be 68 finite points"):
        landmark_nme(square()[:67], square())
    with pytest.raises(ValueError, match="box without an area"):
        landmark_nme(square(), np.ones((68, 2)))
    with pytest.raises(ValueError, match="must both be"):
        by_yaw(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="finite"):
        cumulative_distribution(np.array([np.nan]))
