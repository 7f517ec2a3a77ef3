"""Names of cases become names of files, so they must not lead out of a folder."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from nnunet_dycon.errors import UserError

_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])", re.IGNORECASE)
"""Windows keeps these for devices, also with an ending."""


def check_case_names(names: Iterable[Any], source: str) -> None:
    """Check that every name is the name of a file in any folder, on any system.

    Args:
        names: what should be case names.
        source: where they were read, for the message.

    Raises:
        UserError: a name that is no text, is empty, has parts of a path, or is none that Windows can store.
    """
    for name in names:
        if not isinstance(name, str) or not _is_file_name(name):
            raise UserError(
                f"{source} has {name!r} for the name of a case; give the bare name, without folder, channel and "
                "ending, of characters that a file's name may have on any system"
            )


def _is_file_name(name: str) -> bool:
    if not name or name[-1] in ". " or _FORBIDDEN.search(name):
        return False
    return not _DEVICE.fullmatch(name.partition(".")[0].rstrip())
