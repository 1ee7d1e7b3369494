"""What a transfer shows: a row of pictures for each result, a contact sheet, an animation, and the page of them."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from facecore.data import FaceCrop, write_png
from facecore.data.animations import to_bytes, write_animation
from facecore.evaluation.panels import VIEW, opaque, shape_view
from facecore.evaluation.report import Report, linked_picture, picture
from facecore.evaluation.vertex_rms import pairwise_rms

if TYPE_CHECKING:
    from facecore.systems.reconstruction import Reconstruction

PANEL = 320  # pixels; of a picture on the page
TILE = 192  # of a picture in the sheet and the animation
MOST_ROWS = 60  # results that the page shows; the files hold all
MOST_COLUMNS = 12  # frames that the sheet shows
MOST_FRAMES = 300  # of the animation: each waits in memory until it is written
SHEET = "sheet.png"


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """A picture [3, H, W] in [0, 1], where the face is in it, and the face."""

    image: torch.Tensor
    crop: FaceCrop
    face: Reconstruction

    def tile(self, size: int) -> torch.Tensor:
        """The face with some more around it, [3, size, size] in [0, 1]."""
        return self.crop.resized(size, size, VIEW).crop(self.image.detach().cpu().float()).clamp(0, 1)


def evenly(count: int, most: int) -> list[int]:
    """At most `most` of the indices 0 to count - 1, evenly spread, the first one among them."""
    return [i * count // most for i in range(most)] if count > most else list(range(count))


class TransferPage:
    """Collects the results of a transfer, frame by frame, and writes index.html, sheet.png and animation.*.

    Args:
        title, introduction: of the page.
        people: names of the identities, at least one; each frame has one result of each.
        frames: how many will come.
        driven: whether frames have pictures of drivers; without, a result stands beside its identity alone.
    """

    def __init__(self, title: str, introduction: str, people: Sequence[str], frames: int, driven: bool) -> None:
        self.people, self.driven = list(people), driven
        rows = evenly(frames, max(1, MOST_ROWS // len(self.people)))
        self._on_page, self._on_sheet = set(rows), set(evenly(frames, MOST_COLUMNS))
        moving = evenly(frames, MOST_FRAMES)
        self._moving, self._pace = set(moving), len(moving) / frames
        if len(rows) < frames:
            introduction += f" The page shows {len(rows)} of {frames} frames."
        self.report = Report(title, introduction)
        self._columns: list[list[torch.Tensor]] = []
        self._animation: list[np.ndarray] = []
        self._first: list[torch.Tensor] = []
        self._apart: list[float] = []
        self._neutral = torch.zeros(0, 0, 3)
        self.count = 0

    def add(
        self,
        index: int,
        name: str,
        identities: Sequence[Seen],
        driver: Seen | None,
        results: Sequence[Seen],
        *,
        links: Sequence[Mapping[str, str]],
    ) -> None:
        """Adds frame `index`: the result of each person, in its picture; links: of each result."""
        self.count += len(results)
        self._first = self._first or [seen.tile(TILE) for seen in identities]
        self._neutral = torch.cat([seen.face.neutral_vertices for seen in results])
        if len(results) > 1:
            self._apart.append(float(pairwise_rms(torch.cat([seen.face.vertices for seen in results])).mean()))
        if index in self._on_page:
            for person, identity, result, addresses in zip(self.people, identities, results, links):
                heading = name
                if len(self.people) > 1:
                    heading = f"{person}, {name}" if driver is None else f"{person} driven by {name}"
                self.report.add_pictures(heading, row_of_panels(identity, driver, result), links=addresses)
        if index not in self._on_sheet | self._moving:
            return
        tiles = [seen.tile(TILE) for seen in results]
        before = [] if driver is None else [driver.tile(TILE)]
        if index in self._on_sheet:
            self._columns.append([*before, *tiles])
        if index in self._moving:
            beside = self._first if len(self.people) == 1 else []
            self._animation.append(to_bytes(torch.cat([*beside, *before, *tiles], 2)))

    def distances(self) -> dict[str, float]:
        """With several identities, how far their results lie from each other: mean vertex RMS over pairs, mm.

        Between pictures of one person this should be near 0 (METHODS 2.4).
        """
        if not self._apart:
            return {}
        return {
            "mean vertex RMS between the results of the identities": sum(self._apart) / len(self._apart),
            "mean vertex RMS between their neutral faces": float(pairwise_rms(self._neutral).mean()),
        }

    def write(self, folder: pathlib.Path, animation: str | None, frames_per_second: float) -> list[pathlib.Path]:
        """Writes the page, and with more than one result the sheet and (animation: its suffix) the animation."""
        written: list[pathlib.Path] = []
        results = sum(len(column) - self.driven for column in self._columns)
        if results > 1:
            written.append(folder / SHEET)
            sheet = self._sheet()
            write_png(written[-1], sheet)
            self.report.add_html("All at a glance", picture(self._describe_sheet(), sheet), first=True)
        if len(self._animation) > 1 and animation is not None:
            written.append(folder / f"animation{animation}")
            write_animation(written[-1], self._animation, max(0.1, frames_per_second * self._pace))
            moving = linked_picture(", ".join(self._describe_frame()), written[-1].name)
            self.report.add_html("In motion", moving, first=True)
        if distances := self.distances():
            rows = [(name, value) for name, value in distances.items()]
            text = "Between pictures of one person these should be near 0."
            self.report.add_table("Identities against each other", ("what", "mm"), rows, text)
        written.append(folder / "index.html")
        self.report.write(written[-1])
        return written

    def _sheet(self) -> torch.Tensor:
        """Identities in the first column, drivers in the first row, results where they meet."""
        left = [*([torch.ones_like(self._first[0])] if self.driven else []), *self._first]
        return torch.cat([torch.cat(column, 1) for column in [left, *self._columns]], 2)

    def _describe_frame(self) -> list[str]:
        before = ["identity"] if len(self.people) == 1 else []
        results = ["result"] if len(self.people) == 1 else [f"result of {person}" for person in self.people]
        return [*before, *(["driver"] if self.driven else []), *results]

    def _describe_sheet(self) -> str:
        return "First column: identities. " + ("First row: drivers." if self.driven else "Then: results.")


def row_of_panels(identity: Seen, driver: Seen | None, result: Seen) -> dict[str, torch.Tensor]:
    """X | Y | result, then the shapes of Y and of the result, by caption, RGBA [4, PANEL, PANEL]."""
    pictures = {"identity": opaque(identity.tile(PANEL))}
    if driver is not None:
        pictures["driver"] = opaque(driver.tile(PANEL))
    pictures["result"] = opaque(result.tile(PANEL))
    if driver is not None:
        pictures["shape of the driver"] = shape_view(driver.face, 0.0, PANEL)
    pictures["shape of the result"] = shape_view(result.face, 0.0, PANEL)
    return pictures
