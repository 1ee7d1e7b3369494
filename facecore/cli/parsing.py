"""From a command line to a dataclass of options, by tyro, with errors of one line."""

from __future__ import annotations

import contextlib
import io
import pathlib
import re
from typing import Any

import tyro

from facecore.cli.errors import UsageError

_FRAME = "│╭╮╰╯─ "


def parse_options(kind: Any, argv: list[str], *, prog: str, description: str, **settings: Any) -> Any:
    """`tyro.cli` whose complaints are a UsageError of one line, as are those of the options' own classes (ValueError);
    --help prints and exits with 0 as ever."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(kind, args=argv, prog=prog, description=description, **settings)
    except ValueError as error:
        raise UsageError(in_options(str(error))) from error
    except SystemExit as end:
        if not end.code:
            raise
        raise UsageError(_one_line(complaint.getvalue())) from None


def in_options(message: str, prefix: str = "--") -> str:
    """A message that begins with an argument's name with that of its option: `crop_mm must`, `--crop-mm must`."""
    return re.sub(r"^[a-z_.]+(?= must )", lambda match: prefix + match[0].replace("_", "-"), message)


def check_exists(**paths: pathlib.Path | str | None) -> None:
    """UsageError for a path that is not there; the option's name in Python's spelling, capitals for a positional."""
    for name, path in paths.items():
        if path is not None and not pathlib.Path(path).exists():
            raise UsageError(f"{_option(name)} {path}: no such file or folder")


def check_folders(**paths: pathlib.Path | str | None) -> None:
    """UsageError for a path that is not a folder."""
    check_exists(**paths)
    for name, path in paths.items():
        if path is not None and not pathlib.Path(path).is_dir():
            raise UsageError(f"{_option(name)} {path} is a file; give a folder")


def _option(name: str) -> str:
    return name if name.isupper() else "--" + name.replace("_", "-")


def _one_line(framed: str) -> str:
    """tyro's box (a title, paragraphs between rules; drawn in ASCII where the terminal knows no more) as one line."""
    paragraphs: list[list[str]] = [[]]
    for line in (line.strip(_FRAME) for line in framed.splitlines()[1:]):
        if line.strip("-"):
            paragraphs[-1].append(line)
        else:
            paragraphs.append([])
    return "; ".join(" ".join(lines) for lines in paragraphs if lines) or framed
