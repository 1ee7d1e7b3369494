"""Writing a file in one move, so that a reader never sees half of it; reading MATLAB files that may be damaged."""

from __future__ import annotations

import contextlib
import os
import pathlib
import uuid
from collections.abc import Iterator, Sequence
from typing import Any


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes `content` under a temporary name beside `path`, then renames it. Raises OSError with the file's name."""
    target = pathlib.Path(path)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, target)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, f"{error.strerror}; make room or choose another folder", str(target)) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_matlab(path: str | os.PathLike[str], names: Sequence[str] | None = None) -> dict[str, Any]:
    """The variables of a MATLAB file (level 4 to 7.2), all or those of `names` that it has; structs as numpy records.

    Raises ValueError, in one line that names the file and what to do, for a file that is damaged or of level 7.3.
    """
    import scipy.io

    with _reading_matlab(path):
        fields = scipy.io.loadmat(path, variable_names=None if names is None else list(names))
    return {name: value for name, value in fields.items() if not name.startswith("__")}


def matlab_names(path: str | os.PathLike[str]) -> set[str]:
    """The names of a MATLAB file's variables, whose values are not read. Raises what read_matlab raises."""
    import scipy.io

    with _reading_matlab(path):
        return {name for name, _, _ in scipy.io.whosmat(path)}


@contextlib.contextmanager
def _reading_matlab(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except NotImplementedError:
        raise ValueError(f"{path} is a MATLAB 7.3 file; save it again with `-v7`") from None
    except Exception as error:  # scipy raises errors of many types for a damaged file; each means the same here
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not a readable MATLAB file ({reason}); get it again") from None
