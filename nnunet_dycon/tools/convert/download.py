"""Finding the files of a download, whatever folders lie above them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.text import few
from nnunet_dycon.tools.convert.plan import Benchmark, DatasetPlan

_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")


def recognise(benchmark: Benchmark, source: Path, layouts: Mapping[str, tuple[str, str]]) -> DatasetPlan:
    """A plan, still without cases, of the distribution of a dataset that a folder holds.

    Args:
        benchmark: The dataset.
        source: The download.
        layouts: Each distribution's name to (regular expression of its files' names, the files in words).

    Raises:
        UserError: The folder holds none, or several, which must not be mixed.
    """
    check_folder(source)
    found = {layout: find_files(source, pattern) for layout, (pattern, _) in layouts.items()}
    there = [layout for layout, files in found.items() if files]
    if not there:
        expected = " or ".join(words for _, words in layouts.values())
        names = sorted(path.name for path in source.iterdir())
        raise UserError(
            f"--source {source} holds no {benchmark.title} data: expected {expected} in it or below it, found "
            f"{few(names) or 'nothing'}; {_what_to_do(names)}"
        )
    if len(there) > 1:
        raise UserError(
            f"--source {source} holds {' and '.join(there)} files; they are preprocessed differently: give the folder "
            "of one"
        )
    return DatasetPlan(
        benchmark=benchmark, layout=there[0], source=source, found=found[there[0]], published=benchmark.published
    )


def _what_to_do(names: list[str]) -> str:
    archives = [name for name in names if name.lower().endswith(_ARCHIVES)]
    return f"unpack {few(archives, 3)} first" if archives else "give the folder that contains them"


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


def check_folder(source: Path, option: str = "--source") -> None:
    """Raise a UserError where a download is no unpacked folder."""
    if source.is_file():
        raise UserError(f"{option} {source} is a file; unpack it and give the folder")
    if not source.is_dir():
        raise UserError(f"{option} {source} does not exist; give the folder of the download")
