"""Pickles are read without running them: arrays come back, everything else is refused, damage is a ValueError."""

from __future__ import annotations

import os
import pathlib
import pickle
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from facecore.morphable.restricted_pickle import array, load_arrays

VALUES = {
    "plain": np.arange(6.0).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
    "big": np.arange(4, dtype=">u2"),
    "scalar": np.float64(2.5),
    "number": 3,
    "bool": np.array([True, False]),
    "empty": np.zeros((0, 3), dtype=np.float32),
}


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_come_back(protocol: int) -> None:
    read = load_arrays(pickle.dumps(VALUES, protocol))
    for name, value in VALUES.items():
        assert np.array_equal(array(read[name]), value), name
    sparse = scipy.sparse.random(5, 8, 0.3, format="csc", random_state=0)
    read = load_arrays(pickle.dumps({"J_regressor": sparse}, protocol))
    assert np.array_equal(array(read["J_regressor"]), sparse.toarray())


def test_python_2_files_are_read() -> None:
    """As Python 2 writes an array: str data, old module names."""
    content = (
        b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x10" + np.array([1.5, 300.25]).tobytes() + b"tbs."
    )
    assert array(load_arrays(content)["a"]).tolist() == [1.5, 300.25]


class _Runs:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.result = function, arguments

    def __reduce__(self) -> Any:
        return self.result


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_is_run(tmp_path: pathlib.Path, protocol: int) -> None:
    mark = tmp_path / "mark"
    for function, argument in ((os.system, f"touch {mark}"), (eval, f"open({str(mark)!r}, 'w')"), (open, str(mark))):
        content = pickle.dumps({"v_template": _Runs(function, argument)}, protocol)
        with pytest.raises(ValueError, match="which no model file needs"):
            load_arrays(content)
    with pytest.raises(ValueError, match="which no model file needs"):
        load_arrays(pickle.dumps({"a": _Runs(np.load, "x")}, protocol))
    assert not mark.exists()


def test_other_sparse_matrices_may_be_there_unread() -> None:
    content = {"a": np.arange(3.0), "b": scipy.sparse.csr_matrix(np.eye(2)), "c": scipy.sparse.coo_matrix(np.eye(2))}
    read = load_arrays(pickle.dumps(content, 2))
    assert array(read["a"]).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="an array is expected"):
        array(read["b"])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02}",
        b"\x80\x02K\x01.",  # a number
        b"\x80\x63}.",  # a protocol that does not exist
        b"\x80\x02}U\x01acnumpy\ndtype\nU\x02O8\x85Rs.",  # only a type
        b"\x80\x02}U\x01acchumpy.ch\nMatVecMult\n)\x81s.",
        b"\x80\x02}U\x01ac__builtin__\ngetattr\n)Rs.",
        b"\x80\x02}U\x01acchumpy.ch\nCh\n)\x81}U\x01xNsbs.",
        b"\x80\x02}U\x01aP1\ns.",  # a persistent id
    ],
)
def test_what_is_no_array_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):
        array(load_arrays(content)["a"])


def test_wrong_arrays_are_refused() -> None:
    content = pickle.dumps({"a": np.arange(6.0)}, 2)
    wrong = content.replace(b"K\x06\x85", b"K\x07\x85")  # another shape than the data have
    assert wrong != content
    with pytest.raises(ValueError, match=r"shape \[7\] has 6 numbers"):
        array(load_arrays(wrong)["a"])
    for value in (np.array([{}]), np.array(["text"]), np.zeros(2, dtype=[("x", "f8")]), np.array([1j])):
        with pytest.raises(ValueError, match=r"not numbers|holds list"):
            array(load_arrays(pickle.dumps({"a": value}, 2))["a"])


def test_damage_never_escapes() -> None:
    content = pickle.dumps(VALUES, 2)
    rng = np.random.default_rng(0)
    for round_ in range(400):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 1 + round_ % 3):
            damaged[place] = rng.integers(0, 256)
        try:
            for value in load_arrays(bytes(damaged)).values():
                array(value)
        except ValueError:
            pass
    for size in range(0, len(content), 7):
        with pytest.raises(ValueError):
            load_arrays(content[:size])
