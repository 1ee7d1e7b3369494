"""Writing a file in one move, so that a reader never sees half of it."""

from __future__ import annotations

import os
import pathlib
import uuid


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
