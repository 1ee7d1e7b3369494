"""The face finder that a command's options name, or why there is none."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from facecore.data.face_finder import FaceFinder

BUILT_IN = ("mediapipe", "none")


def lazy_finder(
    detector: str, landmark_network: str, cache: str | os.PathLike[str] | None = None
) -> Callable[[], FaceFinder | str]:
    """A function that gives the finder, or in words what to do where none is to be had: MediaPipe is absent.

    Networks of manifests are loaded at once, MediaPipe when it is first needed. Raises ValueError for a manifest that
    is refused, ImportError where one needs a package that is absent.
    """

    @functools.cache
    def load() -> FaceFinder | str:
        if detector == "none":
            return ""
        from facecore.data.face_finder import MEDIAPIPE, load_face_finder
        from facecore.perception.mediapipe_faces import missing

        if MEDIAPIPE in (detector, landmark_network) and (reason := missing()):
            return f"or let faces be found: {reason}"
        return load_face_finder(detector, landmark_network, cache)

    if not {detector, landmark_network} <= set(BUILT_IN):
        load()
    return load


def finder_identity(detector: str, landmark_network: str) -> str:
    """What the finder's results depend on, without loading it: the manifests' digests, MediaPipe's name."""
    if detector == "none":
        return "none"
    from facecore.perception import read_manifest

    names = [name if name in BUILT_IN else read_manifest(name).digest for name in (detector, landmark_network)]
    return " ".join(names)
