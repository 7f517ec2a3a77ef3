"""Files and folders that appear whole or not at all, and the removal of what killed processes left.

What is being written lies in a hidden folder beside its later place, ``.NAME.partial-MACHINE-PROCESS-RANDOM``.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from nnunet_dycon.errors import UserError

_NAME = re.compile(r"\..*\.partial-(?P<machine>[0-9a-f]{8})-(?P<process>\d{1,9})-\w+")
_DISK_FULL_BYTES = 2**20
_LONGEST_WRITING_S = 7 * 24 * 3600  # of a process that cannot be asked whether it lives
_in_use: set[str] = set()
"""Names of the partial folders of this process."""


@contextmanager
def partial_folder(folder: Path, name: str) -> Iterator[Path]:
    """A hidden folder in ``folder`` to make something in; it is removed in the end, with what is left in it.

    Args:
        folder: an existing folder.
        name: of what is made, so that a leftover can be recognised.

    Raises:
        UserError: the disk is full.
    """
    with _full_disk_explained(folder):
        remove_leftovers(folder)
        prefix = f".{name[:80]}.partial-{_machine()}-{os.getpid()}-"
        temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
        _in_use.add(temporary.name)
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            _in_use.discard(temporary.name)


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Where to write a file or a new folder that becomes ``target`` when the block ends without an error.

    Raises:
        UserError: the disk is full.
    """
    with partial_folder(target.parent, target.name) as folder:
        yield folder / target.name
        os.replace(folder / target.name, target)


def write_text(text: str, file: Path) -> None:
    """Write a text file, whole or not at all."""
    with whole(file) as partial:
        partial.write_text(text, encoding="utf-8")


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes have left in a folder; what a process is writing stays."""
    for path in folder.glob(".*.partial-*"):
        match = _NAME.fullmatch(path.name)
        if match and _is_left(path, match["machine"], int(match["process"])):
            shutil.rmtree(path, ignore_errors=True)


def _is_left(path: Path, machine: str, process: int) -> bool:
    if machine == _machine() and process == os.getpid():
        return path.name not in _in_use
    if machine == _machine() and not _is_running(process):
        return True
    try:
        return time.time() - path.stat().st_mtime > _LONGEST_WRITING_S
    except OSError:
        return False  # removed meanwhile


@cache
def _machine() -> str:
    """Where a process number means something: the machine, or the container with process numbers of its own."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return hashlib.sha256(f"{platform.node()} {namespace}".encode()).hexdigest()[:8]


def _is_running(process: int) -> bool:
    if os.name == "nt":
        return True  # os.kill asks nothing there, it ends the process
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
    except OSError:
        return True
    return not state.startswith(" Z")  # dead, but its parent has not asked for the exit code


@contextmanager
def _full_disk_explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # blosc2 and torch raise RuntimeError when they cannot write
        if not _is_disk_full(error, folder):
            raise
        raise UserError(f"the disk of {folder} is full; make room there") from error


def _is_disk_full(error: Exception, folder: Path) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or (folder.is_dir() and shutil.disk_usage(folder).free < _DISK_FULL_BYTES)
