"""Accuracy, EER, AUC and TAR of pairs whose curves can be drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import trapezoid

from facecore.evaluation.verification import (
    best_threshold,
    cosine,
    equal_error_rate,
    fused,
    pairs_of_persons,
    roc,
    verify,
    verify_persons,
)


def test_roc_by_hand():
    """Falling: same, other, same, same, other: (0, 1/3), (1/2, 1/3), (1/2, 2/3), (1/2, 1), (1, 1)."""
    false, true = roc(np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([True, False, True, True, False]))
    np.testing.assert_allclose(false, [0, 0, 0.5, 0.5, 0.5, 1])
    np.testing.assert_allclose(true, [0, 1 / 3, 1 / 3, 2 / 3, 1, 1])
    assert trapezoid(true, false) == pytest.approx(0.5 / 3 + 0.5)
    # 1 - true falls from 2/3 to 1/3 at false = 1/2: equal at 1/2
    assert equal_error_rate(false, true) == pytest.approx(0.5)


def test_equal_similarities_are_one_point():
    false, true = roc(np.array([0.5, 0.5]), np.array([True, False]))
    np.testing.assert_allclose(false, [0, 1])
    np.testing.assert_allclose(true, [0, 1])
    assert equal_error_rate(false, true) == pytest.approx(0.5)


def test_best_threshold_by_hand():
    similarity, same = np.array([0.1, 0.2, 0.6, 0.4, 0.8]), np.array([False, False, False, True, True])
    assert best_threshold(similarity, same) == pytest.approx(0.3)  # one error, as at 0.7; the lower one
    assert best_threshold(similarity[:2], same[:2]) > 0.2, "nothing is the same: everything is refused"


def test_perfect_and_useless_similarities():
    fold = np.repeat(np.arange(10), 20)
    same = np.tile(np.repeat([True, False], 10), 10)
    perfect = verify(same.astype(float), same, fold)
    assert perfect.measures == dict.fromkeys(
        ("accuracy", "accuracy_at_equal_error", "auc", "tar_10", "tar_1"), (100, 0)
    )
    noise = verify(np.random.default_rng(0).normal(size=200), same, fold)
    assert abs(noise.measures["auc"][0] - 50) < 10  # 200 pairs: a standard error of 4
    assert 0 <= noise.measures["tar_1"][0] < noise.measures["tar_10"][0] < 40
    assert len(noise.folds) == len(noise.thresholds) == 10


def test_tar_is_interpolated():
    """Five others per fold: the rates between 0 and 1/5 have no pair of their own."""
    similarity = np.array([0.9, 0.5, 0.7, 0.4, 0.3, 0.2, 0.1] * 2)
    same = np.array([True, True, False, False, False, False, False] * 2)
    found = verify(similarity, same, np.repeat([0, 1], 7))
    # from (0, 1/2) to (1/5, 1): at 0.1 half of the way, at 0.01 a twentieth
    assert found.measures["tar_10"][0] == pytest.approx(75) and found.measures["tar_1"][0] == pytest.approx(52.5)


def test_the_threshold_comes_from_the_other_folds():
    """Fold 1 is shifted by 10: its own threshold would be right for all, that of fold 0 calls everything the same."""
    similarity = np.array([0.0, 1.0, 10.0, 11.0])
    found = verify(similarity, np.array([False, True, False, True]), np.array([0, 0, 1, 1]))
    assert found.thresholds == [10.5, 0.5] and found.measures["accuracy"][0] == 50
    assert found.measures["auc"][0] == 100


def test_cosine_by_hand():
    np.testing.assert_allclose(cosine(np.array([[3.0, 4], [1, 0]]), np.array([[4.0, 3], [-2, 0]])), [0.96, -1])
    with pytest.raises(ValueError, match="zeros has no direction"):
        cosine(np.zeros((1, 2)), np.ones((1, 2)))


def test_bad_arguments():
    similarity, same = np.array([0.0, 1, 0, 1]), np.array([False, True, False, True])
    with pytest.raises(ValueError, match=r"same and fold \[P\]"):
        verify(similarity, same[:3], np.zeros(4))
    with pytest.raises(ValueError, match="at least two folds"):
        verify(similarity, same, np.zeros(4))
    with pytest.raises(ValueError, match="only one kind"):
        verify(similarity, same, np.array([0, 1, 0, 1]))
    with pytest.raises(ValueError, match="finite, 1 values are not"):
        verify(np.array([0.0, np.nan, 0, 1]), same, np.array([0, 0, 1, 1]))


@pytest.mark.parametrize("count", [4, 5, 21, 200])
def test_pairs_of_persons(count):
    person = np.repeat(np.arange(count), 4)
    pairs, same, fold = pairs_of_persons(count, 4)
    assert len(pairs) == 12 * count and same.sum() == 6 * count
    assert len({tuple(pair) for pair in pairs.tolist()}) == len(pairs) and (pairs[:, 0] != pairs[:, 1]).all()
    assert np.array_equal(same, person[pairs[:, 0]] == person[pairs[:, 1]])
    own = np.empty(count, dtype=int)
    own[person[pairs[:, 0]]] = fold
    assert np.array_equal(own[person[pairs[:, 1]]], fold)  # nobody is in two folds
    assert len(np.unique(fold)) == min(10, count // 2)
    for number in np.unique(fold):
        assert same[fold == number].sum() == (~same[fold == number]).sum() > 0


def test_too_few_persons_are_refused():
    for rows, pictures in ((12, 4), (10, 4), (8, 1)):
        with pytest.raises(ValueError, match="at least 4 persons"):
            verify_persons(np.ones((rows, 3)), pictures)


def test_fusion_by_hand():
    """Training pairs 0, 2 (mean 1, deviation 1) and 0, 4 (mean 2, deviation 2): the third is 3 - 1 + (8 - 2) / 2."""
    similarity = np.array([[0.0, 2.0, 3.0], [0.0, 4.0, 8.0]])
    training = np.array([True, True, False])
    np.testing.assert_allclose(fused(similarity, training), [-2, 2, 5])
    one = similarity[0]
    assert fused(one, training) is one
    with pytest.raises(ValueError, match="cannot be fused"):
        fused(np.array([[1.0, 1.0, 2.0], [0.0, 4.0, 8.0]]), training)


def test_fusion_of_independent_noise_helps():
    """Two methods that are wrong in other pairs: the sum is right more often; one alone, said twice, is not."""
    rng = np.random.default_rng(1)
    fold, same = np.repeat(np.arange(10), 60), np.tile(np.repeat([True, False], 30), 10)
    one, other = (same + rng.normal(size=600) for _ in range(2))
    alone = verify(one, same, fold).measures["auc"][0]
    assert verify(np.stack([one, 100 * other]), same, fold).measures["auc"][0] > alone + 3  # expected 84 against 76
    assert verify(np.stack([one, 2 * one + 1]), same, fold).measures["auc"][0] == pytest.approx(alone)
