"""The face finder that a command's options name, or why there is none."""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from facecore.cli.errors import UsageError

if TYPE_CHECKING:
    from facecore.data.face_finder import FaceFinder
    from facecore.perception import FaceSegmenter, IdentityNetwork

BUILT_IN = ("mediapipe", "none")


def check_finder(detector: str, landmark_network: str) -> None:
    """Raises UsageError for names that are neither built in nor files. A detector alone can be 'none'."""
    for option, name, words in (
        ("--detector", detector, BUILT_IN),
        ("--landmark-network", landmark_network, BUILT_IN[:1]),
    ):
        if name not in words and not pathlib.Path(name).exists():
            known = " or ".join(f"'{word}'" for word in words)
            raise UsageError(f"{option} {name}: no such file or folder; give a manifest, or {known}")


def load_segmenter(manifest: str | os.PathLike[str] | None) -> FaceSegmenter | None:
    """The segmentation network, if one is given; says in one line if it has never seen a photograph."""
    if manifest is None:
        return None
    from facecore.data.face_finder import load_segmenter

    say_if_rendered(manifest, "look whether its masks fit your photographs")
    return load_segmenter(manifest)


def say_if_rendered(manifest: str | os.PathLike[str], advice: str) -> None:
    """In one line, where a network has never seen a photograph."""
    from facecore.perception import read_manifest
    from facecore.perception.manifest import RENDERS

    if read_manifest(manifest).trained_on == RENDERS:
        print(f"{manifest}: this network was trained on renders alone; {advice}")


def load_judge(
    option: str, manifest: str | os.PathLike[str], trained_with: Mapping[str, Collection[str]]
) -> IdentityNetwork:
    """A recognition network that judges systems. trained_with: by a system's name, identities of the networks that took
    part in its training; UsageError where it is among them."""
    from facecore.perception import load_identity_network

    network = load_identity_network(manifest)
    for name, identities in trained_with.items():
        try:
            network.check_judge(identities)
        except ValueError as error:
            raise UsageError(f"{option}: {name}: {error}") from error
    return network


def lazy_finder(
    detector: str, landmark_network: str, cache: str | os.PathLike[str] | None = None
) -> Callable[[], FaceFinder | str]:
    """A function that gives the finder, or in words what to do where none is to be had: MediaPipe is absent.

    Networks of manifests are loaded at once, MediaPipe when it is first needed. Raises ValueError for a manifest that
    is refused, ImportError where one needs a package that is absent.
    """

    from facecore.data.face_finder import MEDIAPIPE, own_networks

    own = own_networks(MEDIAPIPE if detector == "none" else detector, landmark_network)

    @functools.cache
    def load() -> FaceFinder | str:
        if detector == "none":
            return ""
        from facecore.data.face_finder import join_networks
        from facecore.perception.mediapipe_faces import missing

        if None in own and (reason := missing()):
            return f"or let faces be found: {reason}"
        return join_networks(*own, cache)

    return load


def finder_identity(detector: str, landmark_network: str) -> str:
    """What the finder's results depend on, without loading it: the manifests' digests, MediaPipe's name."""
    if detector == "none":
        return "none"
    from facecore.perception import read_manifest

    names = [name if name in BUILT_IN else read_manifest(name).digest for name in (detector, landmark_network)]
    return " ".join(names)
