"""What a prepared folder of photographs holds: its records, its tables, and nothing else."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import pathlib
import re
from collections import Counter
from typing import Any

from facecore.files import write_atomically

FORMAT = 1
PHOTOS, MASKS, RECORDS = "photos", "masks", "records"
MANIFEST, IDENTITIES = "manifest.json", "identities.csv"
FILES = ("crop", "points", "mask")  # of one face, by the keys of its record
_UNFINISHED = re.compile(r"\..*\.[0-9a-f]{32}")  # of write_atomically

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class PreparedSet:
    """What lies in the prepared folder. records: one per picture, by its path, in order; reused: how many were there
    already."""

    root: pathlib.Path
    records: dict[str, Record]
    reused: int

    @property
    def faces(self) -> list[Record]:
        """The faces of all pictures; `crop`, `mask` are paths from `root`."""
        return [face for record in self.records.values() for face in record["faces"]]

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Pictures and faces left out, and why."""
        return [(path, reason) for path, record in self.records.items() for reason in record["skipped"]]


def read_record(path: pathlib.Path) -> Record | None:
    """A record; None where there is none or it is damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        complete = (
            isinstance(record["sha256"], str)
            and isinstance(record["skipped"], list)
            and all(isinstance(face[key], str) for face in record["faces"] for key in FILES)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if complete else None


def is_unfinished(path: pathlib.Path) -> bool:
    """Whether the name is one under which a file is written before it is moved to its place."""
    return _UNFINISHED.fullmatch(path.name) is not None


def remove_orphans(prepared: PreparedSet) -> None:
    """Removes what a run that was killed left of a picture that has no record now, and its unfinished files."""
    wanted = {face[key] for face in prepared.faces for key in FILES}
    for file in sorted(prepared.root.rglob("*")):
        name = file.relative_to(prepared.root)
        ours = name.parts[0] in (PHOTOS, MASKS) and file.suffix in (".png", ".pts") and name.as_posix() not in wanted
        if file.is_file() and (ours or is_unfinished(file)):
            file.unlink()


def write_tables(prepared: PreparedSet, settings: dict[str, Any]) -> None:
    """Writes identities.csv, where persons are known, and manifest.json."""
    rows = [
        (face["crop"].removeprefix(PHOTOS + "/"), record["identity"])
        for record in prepared.records.values()
        for face in record["faces"]
        if record["identity"] is not None
    ]
    identities = prepared.root / IDENTITIES
    if rows:
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([("image", "identity"), *rows])
        write_atomically(identities, table.getvalue().encode())
    else:
        identities.unlink(missing_ok=True)
    manifest = {
        "settings": settings,
        "pictures": len(prepared.records),
        "faces": len(prepared.faces),
        "identities": len({r["identity"] for r in prepared.records.values() if r["faces"]} - {None}),
        "masks": dict(sorted(Counter(face["mask_from"] for face in prepared.faces).items())),
        "skipped": [{"picture": path, "reason": reason} for path, reason in prepared.skipped],
        "records": list(prepared.records.values()),
    }
    write_atomically(prepared.root / MANIFEST, json.dumps(manifest, indent=1).encode())
