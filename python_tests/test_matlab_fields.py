"""Variables of MATLAB files: shapes, finite numbers, indices from 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from facecore.morphable.matlab_fields import indices, matrix, points, triangles, vector

FIELDS: dict[str, Any] = {
    "m": np.arange(6.0).reshape(2, 3),
    "row": np.arange(6.0)[None],
    "index": np.array([[1.0, 2.0, 4.0]]),
    "text": np.array(["a"]),
    "complex": np.array([1j]),
    "nan": np.array([[np.nan, 1.0]]),
    "half": np.array([[1.5, 2.0, 3.0]]),
    "empty": np.zeros((0, 3)),
    "zero": np.array([[0, 1, 2]]),
}


def test_what_is_right_is_given() -> None:
    assert matrix(FIELDS, "m", 2, 3) is FIELDS["m"] and matrix(FIELDS, "m") is FIELDS["m"]
    assert vector(FIELDS, "row", 6).tolist() == list(range(6))
    assert points(FIELDS, "row", 2).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert indices(FIELDS, "index", 4).tolist() == [[0, 1, 3]]
    assert indices({"a": np.array([[255]], dtype=np.uint8)}, "a", 255).tolist() == [[254]]  # no wrapping around
    three = np.arange(1, 13).reshape(3, 4)
    assert triangles({"t": three}, "t", 12).tolist() == (three.T - 1).tolist()
    assert triangles({"t": three.T}, "t", 12).tolist() == (three.T - 1).tolist()


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda: matrix(FIELDS, "absent"), "the variable absent is missing"),
        (lambda: matrix(FIELDS, "m", 3), r"m must be a matrix 3 x K, got \[2, 3\]"),
        (lambda: matrix(FIELDS, "nan"), "nan must be finite"),
        (lambda: matrix(FIELDS, "text"), "text must hold real numbers"),
        (lambda: matrix(FIELDS, "complex"), "complex must hold real numbers"),
        (lambda: vector(FIELDS, "m"), "m must have K entries"),
        (lambda: vector(FIELDS, "row", 5), "row must have 5 entries"),
        (lambda: points(FIELDS, "index", 2), "index must have 6 entries"),
        (lambda: indices(FIELDS, "index", 3), "index must hold numbers from 1 to 3, got 1 to 4"),
        (lambda: indices(FIELDS, "zero", 3), "zero must hold numbers from 1 to 3, got 0 to 2"),
        (lambda: indices(FIELDS, "nan", 3), "nan must hold"),
        (lambda: indices(FIELDS, "half", 3), "half must hold whole numbers"),
        (lambda: indices(FIELDS, "empty", 3), "empty must hold whole numbers"),
        (lambda: triangles({"t": np.ones((2, 4))}, "t", 3), "t must be T x 3 or 3 x T"),
    ],
)
def test_what_is_wrong_is_refused(read: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read()
