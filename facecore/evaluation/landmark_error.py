"""Normalised mean error of landmarks, by yaw, and the cumulative error distribution (METHODS 8.1, NME)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

YAW_BINS = ((0.0, 30.0), (30.0, 60.0), (60.0, 90.0))  # |yaw| in degrees; the lower end belongs to the bin before
CED_LIMIT = 10.0  # percent: how far the curve is drawn and integrated


def landmark_nme(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Sparse NME in percent: mean distance of the 68 2-D points over root(w h) of the box of the true ones, times 100.

    predicted, truth: [68, 2], pixels. Raises ValueError for other shapes, values that are not finite, or a box without
    an area.
    """
    for name, points in (("predicted", predicted), ("truth", truth)):
        if points.shape != (68, 2) or not np.isfinite(points).all():
            raise ValueError(f"{name} must be 68 finite points [68, 2], got {list(points.shape)}")
    size = np.sqrt(np.ptp(truth, axis=0).prod())
    if not size > 0:
        raise ValueError("the true landmarks have a box without an area")
    return float(100 * np.linalg.norm(predicted - truth, axis=1).mean() / size)


@dataclasses.dataclass(frozen=True)
class YawBin:
    """name: such as "(30, 60]"; count: pictures; nme: their mean in percent, None where there are none."""

    name: str
    count: int
    nme: float | None


def by_yaw(nme: np.ndarray, yaw_degrees: np.ndarray) -> tuple[list[YawBin], float]:
    """The mean of each bin of |yaw|, [0, 30], (30, 60], (60, 90], and their mean: the overall NME of AFLW2000-3D.

    nme, yaw_degrees: [N]. Bins without pictures do not count; pictures beyond 90 degrees count in the last bin. Raises
    ValueError for shapes that differ or no picture.
    """
    if nme.shape != yaw_degrees.shape or nme.ndim != 1 or len(nme) == 0:
        raise ValueError(f"nme and yaw_degrees must both be [N > 0], got {list(nme.shape)}, {list(yaw_degrees.shape)}")
    uppers = np.array([upper for _, upper in YAW_BINS])
    index = np.minimum(np.searchsorted(uppers, np.abs(yaw_degrees), side="left"), len(uppers) - 1)
    bins = []
    for number, (lower, upper) in enumerate(YAW_BINS):
        own = nme[index == number]
        name = f"{'[' if number == 0 else '('}{lower:g}, {upper:g}]"
        bins.append(YawBin(name, len(own), float(own.mean()) if len(own) else None))
    return bins, float(np.mean([b.nme for b in bins if b.nme is not None]))


def cumulative_distribution(nme: np.ndarray, limit: float = CED_LIMIT, steps: int = 200) -> list[tuple[float, float]]:
    """CED: (NME in percent, share of pictures at or below it), `steps` + 1 points from 0 to `limit`.

    Raises ValueError for no picture or values that are not finite.
    """
    if nme.ndim != 1 or len(nme) == 0 or not np.isfinite(nme).all():
        raise ValueError(f"nme must be [N > 0] and finite, got {list(nme.shape)}")
    places = np.linspace(0, limit, steps + 1)
    shares = np.searchsorted(np.sort(nme), places, side="right") / len(nme)
    return [(float(x), float(y)) for x, y in zip(places, shares)]


def area_under(curve: Sequence[tuple[float, float]]) -> float:
    """Area under a curve of `cumulative_distribution` as a share of its width: 1 = no error at all."""
    x, y = np.array(curve).T
    return float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum() / (x[-1] - x[0]))
