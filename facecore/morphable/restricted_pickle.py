"""Reading arrays out of a pickle without running what it may say: every object it names is a stand-in of this file."""

from __future__ import annotations

import io
import math
import pickle
import re
from typing import Any, NoReturn

import numpy as np
import scipy.sparse

_MAX_DEPTH = 20  # of chumpy expressions within one another
_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")


def load_arrays(content: bytes) -> dict[str, Any]:
    """The dictionary that a pickle of protocol 0 to 5 holds, Python 2 or 3; values as stand-ins, for `array` to read.

    numpy arrays, scipy's sparse matrices and chumpy's Ch and Select may be named; anything else, and whatever a damaged
    file does, raises ValueError. Nothing of the pickle runs: no name is imported, no state reaches another library.
    """
    try:
        value = _Unpickler(io.BytesIO(content), encoding="latin1").load()
    except ValueError:
        raise
    except Exception as error:  # a damaged pickle raises errors of many types; each means the same here
        raise ValueError(f"not a readable pickle ({type(error).__name__}: {error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"the pickle must hold a dictionary, got {type(value).__name__}")
    return {_decoded(key): entry for key, entry in value.items()}


def array(value: Any) -> np.ndarray:
    """The numbers of one entry of `load_arrays`, a sparse matrix filled up. Raises ValueError for what has none."""
    return _resolved(value, 0)


class _StandIn:
    """An object of the pickle: what it was made with, and its state."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments, self.state = arguments, None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __reduce__(self) -> NoReturn:
        raise TypeError("a stand-in is not written")


class _Dtype(_StandIn):
    pass


class _Array(_StandIn):
    pass


class _Buffer(_StandIn):
    pass


class _Scalar(_StandIn):
    pass


class _Sparse(_StandIn):
    pass


class _Chumpy(_StandIn):
    pass


class _Select(_StandIn):
    pass


class _NdArray(_StandIn):
    pass


class _Unread(_StandIn):
    """A sparse matrix of another layout: it may be in a file, no model's arrays are."""


class _Encoded(_StandIn):
    """Bytes of an old protocol: _codecs.encode(text, 'latin1')."""


def _reconstructor(kind: Any, base: Any, state: Any) -> Any:
    """copy_reg._reconstructor: how protocol 0 and 1 make an object before its state comes."""
    if not (isinstance(kind, type) and issubclass(kind, _StandIn)):
        raise ValueError("the pickle makes an object of a kind that is not allowed")
    return kind()


def _empty_bytes(*arguments: Any) -> bytes:
    """How protocol 0 to 2 write bytes of no length; no other call of bytes is made by arrays."""
    if arguments:
        raise ValueError("the pickle makes bytes of something that is not allowed")
    return b""


_NAMES: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Buffer for core in ("core", "_core")},
    **{(f"scipy.sparse.{part}", name): _Sparse for part in ("csc", "_csc") for name in ("csc_matrix", "csc_array")},
    **{
        (f"scipy.sparse.{mark}{kind}", f"{kind}_matrix"): _Unread
        for mark in ("", "_")
        for kind in ("csr", "coo", "lil")
    },
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _NdArray,
    ("chumpy.ch", "Ch"): _Chumpy,
    ("chumpy.reordering", "Select"): _Select,
    ("_codecs", "encode"): _Encoded,
    **{(module, "_reconstructor"): _reconstructor for module in ("copy_reg", "copyreg")},
    **{(module, "object"): object for module in ("__builtin__", "builtins")},
    ("__builtin__", "bytes"): _empty_bytes,
    **{(module, "set"): set for module in ("__builtin__", "builtins")},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _NAMES[module, name]
        except KeyError:
            raise ValueError(f"the pickle names {module}.{name}, which no model file needs; do not use it") from None


def _resolved(value: Any, depth: int) -> np.ndarray:
    if depth > _MAX_DEPTH:
        raise ValueError("the pickle nests its arrays too deeply")
    if isinstance(value, (bool, int, float)):
        return np.asarray(value, dtype=np.float64)
    if isinstance(value, _Array):
        return _from_state(value.state)
    if isinstance(value, _Buffer):
        data, dtype, shape, order = _unpacked(value.arguments, 4)
        return _from_bytes(data, dtype, shape, order == "F")
    if isinstance(value, _Scalar):
        dtype, data = _unpacked(value.arguments, 2)
        return _from_bytes(data, dtype, (), False)
    if isinstance(value, _Sparse):
        return _filled(_dictionary(value.state), depth)
    if isinstance(value, _Chumpy):
        return _resolved(_dictionary(value.state).get("x"), depth + 1)
    if isinstance(value, _Select):
        state = _dictionary(value.state)
        source = _resolved(state.get("a"), depth + 1).ravel()
        index = _resolved(state.get("idxs"), depth + 1).astype(np.int64).ravel()
        if index.size and not (0 <= index.min() and index.max() < source.size):
            raise ValueError("a chumpy selection reaches beyond its array")
        return _shaped(source[index], _shape(state.get("preferred_shape", index.shape)), False)
    raise ValueError(f"an array is expected, got {type(value).__name__}")


def _from_state(state: Any) -> np.ndarray:
    """ndarray.__setstate__: (version, shape, dtype, Fortran order, bytes)."""
    _, shape, dtype, fortran, data = _unpacked(state, 5)
    return _from_bytes(data, dtype, shape, bool(fortran))


def _from_bytes(data: Any, dtype: Any, shape: Any, fortran: bool) -> np.ndarray:
    if isinstance(data, _Encoded):
        data = data.arguments[0] if data.arguments else None
    if isinstance(data, str):
        data = data.encode("latin1")
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise ValueError(f"an array holds {type(data).__name__}, not numbers")
    try:
        values = np.frombuffer(data, dtype=_dtype(dtype))
    except ValueError as error:
        raise ValueError(f"an array of the pickle is damaged ({error})") from None
    return _shaped(values, _shape(shape), fortran)


def _dtype(value: Any) -> np.dtype[Any]:
    spec = value.arguments[0] if isinstance(value, _Dtype) and value.arguments else None
    if not isinstance(spec, str) or not _DTYPE.fullmatch(spec):
        raise ValueError(f"an array holds elements of the kind {spec!r}, not numbers")
    result = np.dtype(spec)
    big = isinstance(value.state, tuple) and len(value.state) > 1 and value.state[1] == ">"
    return result.newbyteorder(">") if big else result


def _shape(value: Any) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,)
    if not isinstance(value, (tuple, list)) or not all(isinstance(n, int) and n >= 0 for n in value):
        raise ValueError(f"an array has the shape {value!r}")
    return tuple(value)


def _shaped(values: np.ndarray, shape: tuple[int, ...], fortran: bool) -> np.ndarray:
    if math.prod(shape) != values.size:
        raise ValueError(f"an array of shape {list(shape)} has {values.size} numbers")
    return values.reshape(shape, order="F" if fortran else "C")


def _filled(state: dict[str, Any], depth: int) -> np.ndarray:
    """A sparse matrix in compressed columns as a full one; its places are checked by scipy."""
    shape = _shape(state.get("_shape"))
    if len(shape) != 2 or math.prod(shape) > 1 << 28:
        raise ValueError(f"a sparse matrix has the shape {list(shape)}")
    parts = [_resolved(state.get(name), depth + 1) for name in ("data", "indices", "indptr")]
    matrix = scipy.sparse.csc_matrix(tuple(parts), shape=shape)
    matrix.check_format(full_check=True)
    return np.asarray(matrix.toarray())


def _dictionary(state: Any) -> dict[str, Any]:
    if not isinstance(state, dict):
        raise ValueError("an object of the pickle has no named parts")
    return {_decoded(key): value for key, value in state.items()}


def _unpacked(values: Any, count: int) -> tuple[Any, ...]:
    if not isinstance(values, tuple) or len(values) != count:
        raise ValueError("an array of the pickle is incomplete")
    return values


def _decoded(key: Any) -> str:
    return key.decode("latin1") if isinstance(key, bytes) else str(key)
