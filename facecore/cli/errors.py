"""How commands end badly: one line on stderr and an exit code."""

from __future__ import annotations

from facecore.errors import OptionError


class UsageError(OptionError):
    """The command line asks for something impossible (exit code 2). The message names the argument and the remedy."""
