"""From a command line to a dataclass of options, by tyro, with errors of one line."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import tyro

from facecore.cli.errors import UsageError

_FRAME = "│╭╮╰╯─ "


def parse_options(kind: Any, argv: list[str], *, prog: str, description: str, **settings: Any) -> Any:
    """`tyro.cli` whose complaints are a UsageError of one line; --help prints and exits with 0 as ever."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(kind, args=argv, prog=prog, description=description, **settings)
    except SystemExit as end:
        if not end.code:
            raise
        framed = [line.strip(_FRAME) for line in complaint.getvalue().splitlines() if line.startswith("│")]
        reason = "; ".join(filter(None, " ".join(line or "\n" for line in framed).split(" \n ")))
        raise UsageError(reason or complaint.getvalue()) from None
