"""Verification of faces from similarities of pairs: accuracy, EER, AUC, TAR at FAR, over folds (METHODS 8.1)."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.integrate import trapezoid

FALSE_ACCEPT_RATES = (0.10, 0.01)
FOLDS = 10  # of `verify_persons`


@dataclasses.dataclass(frozen=True)
class Verification:
    """Mean and standard deviation over folds of each measure, in percent. thresholds: of each fold's accuracy.

    accuracy; accuracy_at_equal_error: 100 - EER; auc: area under the ROC curve; tar_10, tar_1: true accept rate where
    10 % and 1 % of the other pairs are accepted.
    """

    measures: dict[str, tuple[float, float]]
    folds: list[dict[str, float]]
    thresholds: list[float]


def verify(similarity: np.ndarray, same: np.ndarray, fold: np.ndarray) -> Verification:
    """Measures of LFW and YTF: METHODS 8.1.

    The threshold of a fold is the one with the highest accuracy on the other folds (the middle between two
    similarities; the lowest of several). EER, AUC and TAR are those of the fold's own pairs; TAR is interpolated
    linearly.

    similarity: [P], larger = more alike, or [S, P] by several methods, which are fused (`fused`); same: bool [P]; fold:
    integers [P]. Deterministic. Raises ValueError for shapes that differ, similarities that are not finite, fewer than
    two folds, or a fold without pairs of either kind.
    """
    if not (same.shape == fold.shape == similarity.shape[-1:] and similarity.ndim in (1, 2)):
        raise ValueError(
            "similarity must be [P] or [S, P], same and fold [P], got "
            f"{list(similarity.shape)}, {list(same.shape)}, {list(fold.shape)}"
        )
    if not np.isfinite(similarity).all():
        raise ValueError(f"similarity must be finite, {int((~np.isfinite(similarity)).sum())} values are not")
    same = same.astype(bool)
    numbers = np.unique(fold)
    if len(numbers) < 2:
        raise ValueError("at least two folds are needed: a threshold is chosen on the other folds")
    folds, thresholds = [], []
    for number in numbers:
        own = fold == number
        if same[own].all() or not same[own].any():
            raise ValueError(f"fold {number} needs pairs of one person and pairs of two, it has only one kind")
        score = fused(similarity, ~own)
        threshold = best_threshold(score[~own], same[~own])
        false_accept, true_accept = roc(score[own], same[own])
        folds.append(
            {
                "accuracy": 100 * float(((score[own] >= threshold) == same[own]).mean()),
                "accuracy_at_equal_error": 100 * (1 - equal_error_rate(false_accept, true_accept)),
                "auc": 100 * float(trapezoid(true_accept, false_accept)),
                **{
                    f"tar_{100 * rate:g}": 100 * float(np.interp(rate, *_upper(false_accept, true_accept)))
                    for rate in FALSE_ACCEPT_RATES
                },
            }
        )
        thresholds.append(threshold)
    measures = {}
    for name in folds[0]:
        values = np.array([row[name] for row in folds])
        measures[name] = (float(values.mean()), float(values.std(ddof=1)))
    return Verification(measures, folds, thresholds)


def fused(similarity: np.ndarray, training: np.ndarray) -> np.ndarray:
    """The sum of several methods' similarities [S, P], each less its mean over its standard deviation on the training
    pairs, bool [P] (METHODS 3: fusion is the sum of scores); [P] as it is.

    Raises ValueError where a method says the same of all training pairs.
    """
    if similarity.ndim == 1:
        return similarity
    deviation = similarity[:, training].std(1, keepdims=True)
    if not (deviation > 0).all():
        raise ValueError("a method gives all pairs of the training folds one similarity: it cannot be fused")
    result: np.ndarray = ((similarity - similarity[:, training].mean(1, keepdims=True)) / deviation).sum(0)
    return result


def verify_persons(features: np.ndarray, pictures: int) -> dict[str, float]:
    """The measures of `verify`, their means over folds, for persons of whom `pictures` in a row are there each.

    features: [N, F], compared by cosine. Raises ValueError for fewer than four persons or one picture of each.
    """
    count, rest = divmod(len(features), pictures)
    if rest or pictures < 2 or count < 4:
        raise ValueError(
            f"features must be of at least 4 persons, {pictures} > 1 rows of each, got {len(features)} rows"
        )
    pairs, same, fold = pairs_of_persons(count, pictures)
    similarity = cosine(features[pairs[:, 0]], features[pairs[:, 1]])
    return {name: value for name, (value, _) in verify(similarity, same, fold).measures.items()}


def pairs_of_persons(count: int, pictures: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs [P, 2] of pictures, whether both show one person, and their folds; as many of the one kind as of the other.

    `pictures` in a row show each of `count` persons. Of one person all pairs; of two, the same places in the pictures
    of a person and of the next one in the same fold.
    """
    first, second = np.triu_indices(pictures, 1)
    start = pictures * np.arange(count)
    fold = np.arange(count) * min(FOLDS, count // 2) // count
    following = np.array([_next_in_fold(number, fold) for number in range(count)])
    own = np.stack([start[:, None] + first, start[:, None] + second], -1)
    other = np.stack([start[:, None] + first, start[following][:, None] + second], -1)
    pairs = np.concatenate([own.reshape(-1, 2), other.reshape(-1, 2)])
    folds = np.tile(np.repeat(fold, len(first)), 2)
    return pairs, pairs[:, 0] // pictures == pairs[:, 1] // pictures, folds


def _next_in_fold(number: int, fold: np.ndarray) -> int:
    members = np.flatnonzero(fold == fold[number])
    return int(members[(np.flatnonzero(members == number)[0] + 1) % len(members)])


def best_threshold(similarity: np.ndarray, same: np.ndarray) -> float:
    """Pairs at or above it are called the same; the accuracy is the highest there is."""
    values = np.unique(similarity)
    candidates = np.concatenate([values[:1] - 1, (values[1:] + values[:-1]) / 2, values[-1:] + 1])
    alike, other = np.sort(similarity[same]), np.sort(similarity[~same])
    right = len(alike) - np.searchsorted(alike, candidates, "left") + np.searchsorted(other, candidates, "left")
    return float(candidates[right.argmax()])


def roc(similarity: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true accept rates [K] over falling thresholds, from (0, 0) to (1, 1); equal ones fall together."""
    order = np.argsort(-similarity, kind="stable")
    ends = np.concatenate([np.nonzero(np.diff(similarity[order]))[0], [len(order) - 1]])
    true, false = np.cumsum(same[order])[ends], np.cumsum(~same[order])[ends]
    return np.concatenate([[0.0], false / false[-1]]), np.concatenate([[0.0], true / true[-1]])


def equal_error_rate(false_accept: np.ndarray, true_accept: np.ndarray) -> float:
    """Where false accepts equal false rejects, 1 - true accept, interpolated linearly along the curve of `roc`."""
    gap = false_accept - (1 - true_accept)  # rises from -1 to 1
    after = int(np.argmax(gap >= 0))
    before = after - 1
    share = -gap[before] / (gap[after] - gap[before])
    return float(false_accept[before] + share * (false_accept[after] - false_accept[before]))


def _upper(false_accept: np.ndarray, true_accept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The curve as a function: of several points with one false accept rate, the highest."""
    last = np.concatenate([np.diff(false_accept) > 0, [True]])
    return false_accept[last], true_accept[last]


def cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cosine similarity of rows, [P, F] and [P, F] -> [P]. Raises ValueError for a row of zeros."""
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    if not (lengths > 0).all():
        raise ValueError("a feature of zeros has no direction; leave its pairs out")
    return (one * other).sum(1) / lengths
