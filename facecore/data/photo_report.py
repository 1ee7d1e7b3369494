"""What was found in a folder of photographs, what was left out, and when that is too much."""

from __future__ import annotations

import dataclasses
import pathlib
import re

_SHOWN = 3  # names that a line of the report gives; `skipped` has them all


@dataclasses.dataclass
class PhotoReport:
    """What was found in a folder and what was left out.

    num_listed: pictures looked at; num_pictures: those with a usable face. skipped: for each picture or face left out,
    its path and the reason; notes: what was done otherwise than asked.
    """

    root: pathlib.Path
    num_listed: int = 0
    num_pictures: int = 0
    num_faces: int = 0
    num_identities: int = 0
    skipped: list[tuple[pathlib.Path, str]] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def skipped_share(self) -> float:
        """Of the pictures looked at, the share without a usable face."""
        return 1 - self.num_pictures / max(self.num_listed, 1)

    def refuse_more_than(self, max_skipped: float) -> None:
        """Raises ValueError with the report when a larger share was skipped, or when nothing is left."""
        if not self.num_faces:
            raise ValueError(f"{self.root} has no usable photograph of {self.num_listed} pictures\n{self}")
        if self.skipped_share > max_skipped:
            count = self.num_listed - self.num_pictures
            raise ValueError(
                f"{self.root}: {count} of {self.num_listed} pictures cannot be used ({self.skipped_share:.1%}), more "
                f"than {max_skipped:.1%}; put right what is listed below, or allow more by max_skipped\n{self}"
            )

    def __str__(self) -> str:
        persons = f"of {self.num_identities} persons" if self.num_identities else "persons unknown"
        lines = [f"{self.root}: {self.num_faces} faces in {self.num_pictures} pictures, {persons}"]
        kinds: dict[str, list[str]] = {}
        for path, reason in self.skipped:
            kinds.setdefault(_kind(path, reason), []).append(str(path))
        for kind, names in sorted(kinds.items(), key=lambda item: -len(item[1])):
            more = ", ..." if len(names) > _SHOWN else ""
            lines.append(f"  skipped {len(names)}: {kind}: {', '.join(names[:_SHOWN])}{more}")
        return "\n".join(lines + [f"  {note}" for note in self.notes])


def reason_of(error: ValueError, path: pathlib.Path) -> str:
    """The message without the picture's own name, which the report lists beside it."""
    return str(error).removeprefix(str(path)).strip(" :")


def _kind(path: pathlib.Path, reason: str) -> str:
    """The reason without the name of the picture's own label file, so that one kind of damage is one line."""
    return re.sub(rf"\S*\b{re.escape(path.stem)}(?=[._])", "*", reason)
