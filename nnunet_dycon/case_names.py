"""Names of cases become names of files, so they must not lead out of a folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from nnunet_dycon.errors import UserError


def check_case_names(names: Iterable[Any], source: str) -> None:
    """Check that every name is the name of a file in any folder, on any system.

    Args:
        names: what should be case names.
        source: where they were read, for the message.

    Raises:
        UserError: a name that is no text, is empty or has parts of a path.
    """
    for name in names:
        if not isinstance(name, str) or not _is_file_name(name):
            raise UserError(
                f"{source} has {name!r} for the name of a case; give the bare name, without folder, channel and ending"
            )


def _is_file_name(name: str) -> bool:
    plain = PurePosixPath(name).name == name and PureWindowsPath(name).name == name
    return plain and name not in ("", ".", "..") and "\0" not in name
