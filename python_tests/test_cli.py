"""The command line: its overview, its help, and errors in one line with the right exit code."""

from __future__ import annotations

import io

import pytest

from facecore.cli import main
from facecore.cli.errors import UsageError
from facecore.cli.main import COMMANDS
from facecore.cli.parsing import parse_options
from facecore.cli.reconstruct import Reconstruct


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_overview_lists_every_command(run, arguments):
    code, out, errors = run(*arguments)
    assert code == 0 and errors == ""
    assert all(f"\n  {name} " in out for name in COMMANDS)


def test_version(run):
    import facecore

    assert run("--version") == (0, f"facecore {facecore.__version__}\n", "")


def test_unknown_command(run):
    code, out, errors = run("reconstuct")
    assert (code, out) == (2, "")
    assert errors == f"facecore: no command 'reconstuct'; choose one of {', '.join(COMMANDS)}"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(run, command):
    code, out, errors = run(command, "--help")
    assert code == 0 and errors == ""
    assert f"Example: facecore {command}" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_unknown_option_is_one_line(run, command):
    code, out, errors = run(command, "--no-such-option")
    assert (code, out) == (2, "") and errors.count("\n") == 0
    assert errors.startswith(f"facecore {command}: ")
    sub_commands = ("list, show, convert", "prepare, check")
    assert "--no-such-option" in errors or any(names in errors for names in sub_commands)
    assert f"facecore {command} --help" in errors


@pytest.mark.parametrize("utf8", [True, False])
def test_tyros_boxes_become_one_line(utf8, monkeypatch):
    """However wide the terminal and whatever it can draw."""
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8" if utf8 else "ascii"))
    with pytest.raises(UsageError) as caught:
        parse_options(Reconstruct, ["a.png", "--size", "x"], prog="facecore x", description="")
    assert str(caught.value).startswith("Error parsing --size: invalid literal for int() with base 10: 'x'; Argument ")
    assert str(caught.value).endswith("(default: 160); For full helptext, see facecore x --help")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(28, "No space left on device", "a.glb"), 1, "[Errno 28] No space left on device: 'a.glb'"),
        (RuntimeError("two\nlines"), 1, "two lines"),
        (KeyError("x"), 1, "KeyError: 'x'; this is a bug: report it with the output of --debug"),
        (KeyboardInterrupt(), 1, "stopped"),
        (UsageError("--x must be 1"), 2, "--x must be 1"),
    ],
)
def test_errors_become_one_line_and_a_code(run, monkeypatch, error, code, message):
    def fail(_):
        raise error

    monkeypatch.setattr("facecore.cli.model.main", fail)
    assert run("model", "list") == (code, "", f"facecore model: {message}")
    if isinstance(error, Exception):
        with pytest.raises(type(error)):
            main.main(["model", "list", "--debug"])
