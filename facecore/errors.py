"""What is wrong with a call, where the caller must tell it from a damaged file."""

from __future__ import annotations


class OptionError(ValueError):
    """An option that what is called does not have, or that is outside its range; the message begins with its name or
    names what is called. On the command line it is bad usage."""
