"""Finding the files of a download, whatever folders lie above them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from nnunet_dycon.errors import UserError

_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")


def find_files(source: Path, pattern: str) -> list[tuple[Path, re.Match[str]]]:
    """Files below a folder whose name matches a regular expression in full, upper or lower case, sorted by path.

    Linked folders are followed (images and labels are often linked below one folder), each folder once.
    Files of macOS archives (``._name``) never match.
    """
    found = []
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(source, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        for name in names:
            match = re.fullmatch(pattern, name, flags=re.IGNORECASE)
            if match and not name.startswith("._"):
                found.append((Path(folder, name), match))
    return sorted(found, key=lambda pair: pair[0])


def check_folder(source: Path) -> None:
    """The download has to be an unpacked folder.

    Raises:
        UserError: It does not exist or is a file.
    """
    if source.is_file():
        raise UserError(f"--source {source} is a file; unpack it and give the folder")
    if not source.is_dir():
        raise UserError(f"--source {source} does not exist; give the folder of the download")


def nothing_found(source: Path, dataset: str, expected: Iterable[str]) -> UserError:
    """The error for a folder that holds nothing of the dataset."""
    names = sorted(path.name for path in source.iterdir())
    archives = [name for name in names if name.lower().endswith(_ARCHIVES)]
    hint = f"unpack {', '.join(archives[:3])} first" if archives else "give the folder that contains them"
    held = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") if names else "nothing"
    return UserError(
        f"--source {source} holds no {dataset} data: expected {' or '.join(expected)} in it or below it, found "
        f"{held}; {hint}"
    )


def ambiguous(source: Path, layouts: Iterable[str]) -> UserError:
    """The error for a folder with two distributions of one dataset, which must not be mixed."""
    return UserError(
        f"--source {source} holds {' and '.join(layouts)}; they are preprocessed differently: give the folder of one"
    )
