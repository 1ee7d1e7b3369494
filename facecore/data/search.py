"""Which pictures lie below a folder, and which mask belongs to a picture: the same rules for every command."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable

from facecore.data.images import is_image_file


def find_pictures(root: pathlib.Path, leave_out: Iterable[pathlib.Path | None] = ()) -> list[pathlib.Path]:
    """The pictures (`IMAGE_SUFFIXES`) below a folder, sorted by path.

    Hidden files and folders are left out, and the folders of `leave_out` (masks, results), unless one is `root`.
    """
    outside = {folder.resolve() for folder in leave_out if folder is not None} - {root.resolve()}
    return sorted(
        path
        for path in root.rglob("*")
        if is_image_file(path)
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and (not outside or outside.isdisjoint(path.resolve().parents))
    )


def find_mask(masks: pathlib.Path, picture: pathlib.Path, root: pathlib.Path) -> pathlib.Path | None:
    """The PNG of the picture's path relative to `root`, else of its stem alone; None where there is neither."""
    choices = (masks / picture.relative_to(root).with_suffix(".png"), masks / f"{picture.stem}.png")
    return next((choice for choice in choices if choice.is_file()), None)
