"""Finding the files of a download, whatever folders lie above them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.plan import Benchmark, CaseFile

_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
Found = list[tuple[Path, re.Match[str]]]


def recognise(source: Path, title: str, layouts: Mapping[str, tuple[str, str]]) -> tuple[str, Found]:
    """The distribution of a dataset that a folder holds.

    Args:
        source: The download.
        title: The dataset, for messages.
        layouts: Each distribution's name to (regular expression of its files' names, the files in words).

    Returns:
        (its layout, its files)

    Raises:
        UserError: The folder holds none, or several, which must not be mixed.
    """
    check_folder(source)
    found = {layout: find_files(source, pattern) for layout, (pattern, _) in layouts.items()}
    there = [layout for layout, files in found.items() if files]
    if not there:
        names = sorted(path.name for path in source.iterdir())
        archives = [name for name in names if name.lower().endswith(_ARCHIVES)]
        raise UserError(
            f"--source {source} holds no {title} data: expected {' or '.join(words for _, words in layouts.values())} "
            f"in it or below it, found {', '.join(names[:5]) or 'nothing'}{', ...' if len(names) > 5 else ''}; "
            + (f"unpack {', '.join(archives[:3])} first" if archives else "give the folder that contains them")
        )
    if len(there) > 1:
        raise UserError(
            f"--source {source} holds {' and '.join(there)} files; they are preprocessed differently: give the folder "
            "of one"
        )
    return there[0], found[there[0]]


def find_files(source: Path, pattern: str) -> Found:
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


def case_files(
    benchmark: Benchmark, source: Path, found: Found, *, not_below: str = "", because: str = ""
) -> tuple[list[CaseFile], dict[str, str]]:
    """Sort files by case and kind, which groups of their pattern name: ``case``, else the file's folder; ``kind``.

    Args:
        benchmark: Whose cases they are.
        source: The download.
        found: Its files; a pattern without ``kind`` has files of the kind ``path``.
        not_below: Cases below a folder with this word in its name are skipped.
        because: Why they are.

    Returns:
        (files, skipped cases or folders with the reason)
    """
    files, skipped = [], {}
    for path, match in found:
        groups = match.groupdict()
        try:
            name = benchmark.case_name(groups.get("case") or path.parent.name)
        except UserError as error:
            skipped[str(path.parent)] = str(error)
            continue
        if not_below and any(not_below in part.lower() for part in path.relative_to(source).parts[:-1]):
            skipped[name] = because
        else:
            files.append((name, groups.get("kind", "path").lower(), path))
    return files, skipped


def check_folder(source: Path, option: str = "--source") -> None:
    """The download has to be an unpacked folder.

    Raises:
        UserError: It does not exist or is a file.
    """
    if source.is_file():
        raise UserError(f"{option} {source} is a file; unpack it and give the folder")
    if not source.is_dir():
        raise UserError(f"{option} {source} does not exist; give the folder of the download")
