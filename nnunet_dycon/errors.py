"""The one exception for input that a user can correct, and a guess at what was meant."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(ValueError):
    """Bad input. The message names the file, case or option and says how to correct it.

    The command line prints the message alone; in Python it is an ordinary ``ValueError``.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` (did you mean X?)`` for a message, with the known name most like a wrong one; empty where none is."""
    from difflib import get_close_matches  # only where a name is wrong, not for each --help

    names = {i.lower(): i for i in known}
    near = get_close_matches(name.lower(), names, n=1)
    return f" (did you mean {names[near[0]]}?)" if near else ""
