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
        raise UsageError(_one_line(complaint.getvalue())) from None


def _one_line(framed: str) -> str:
    """tyro's box (a title, paragraphs between rules; drawn in ASCII where the terminal knows no more) as one line."""
    paragraphs: list[list[str]] = [[]]
    for line in (line.strip(_FRAME) for line in framed.splitlines()[1:]):
        if line.strip("-"):
            paragraphs[-1].append(line)
        else:
            paragraphs.append([])
    return "; ".join(" ".join(lines) for lines in paragraphs if lines) or framed
