"""The one exception for input that a user can correct."""

from __future__ import annotations


class UserError(ValueError):
    """Bad input. The message names the file, case or option and says how to correct it.

    The command line prints the message alone; in Python it is an ordinary ``ValueError``.
    """
