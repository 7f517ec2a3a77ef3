"""Files and folders that appear whole or not at all.

What is being written lies in a hidden folder beside its later place, ``.NAME.partial-RANDOM``. What a killed process
has left is removed by whoever writes there a day later.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from nnunet_dycon.errors import UserError

_DISK_FULL_BYTES = 2**20
_LONGEST_WRITING_S = 24 * 3600


@contextmanager
def partial_folder(folder: Path, name: str) -> Iterator[Path]:
    """A hidden folder in an existing one to make something in, which gives a leftover its name.

    It is removed in the end, with what is left in it.

    Raises:
        UserError: nothing can be written there, or the disk is full.
    """
    with _full_disk_explained(folder):
        remove_leftovers(folder)
        try:
            temporary = Path(tempfile.mkdtemp(prefix=f".{name[:80]}.partial-", dir=folder))
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            raise _not_writable(folder, error) from error
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Where to write a file or a new folder that becomes ``target`` when the block ends without an error.

    Raises:
        UserError: nothing can be written there, or the disk is full.
    """
    with partial_folder(target.parent, target.name) as folder:
        yield folder / target.name
        os.replace(folder / target.name, target)


@contextmanager
def whole_folders(*targets: Path) -> Iterator[list[Path]]:
    """Where to make new folders that become ``targets``, in this order, when the block ends; all of them or none.

    Raises:
        UserError: as ``whole``.
    """
    with ExitStack() as undo, ExitStack() as partials:
        folders = [partials.enter_context(partial_folder(i.parent, i.name)) / i.name for i in targets]
        yield folders
        for folder, target in zip(folders, targets, strict=True):
            os.replace(folder, target)
            undo.callback(shutil.rmtree, target, ignore_errors=True)
        undo.pop_all()


def write_text(text: str, file: Path) -> None:
    """Write a text file, whole or not at all."""
    with whole(file) as partial:
        partial.write_text(text, encoding="utf-8")


def check_writable(folder: Path) -> None:
    """Make a folder if it is missing and write a little into it, before the work that is to end there.

    Raises:
        UserError: it cannot be made or written, or the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error) from error
    with partial_folder(folder, "check") as temporary:
        (temporary / "check").write_bytes(bytes(_DISK_FULL_BYTES))


def link_or_copy(source: Path, target: Path) -> None:
    """Hard link to a file (to what a symbolic link points to), or a copy where links are not possible."""
    real = source.resolve()
    try:
        os.link(real, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(real, target)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes have left in a folder; what is younger than a day may still be written."""
    for path in folder.glob(".*.partial-*"):
        try:
            is_left = time.time() - path.stat().st_mtime > _LONGEST_WRITING_S
        except OSError:  # removed meanwhile
            continue
        if is_left:
            shutil.rmtree(path, ignore_errors=True)


def _not_writable(folder: Path, error: OSError) -> UserError:
    return UserError(f"{folder} cannot be written ({error.strerror}); see to its permissions, or name another folder")


@contextmanager
def _full_disk_explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # blosc2 and torch raise RuntimeError when they cannot write
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not full and not (folder.is_dir() and shutil.disk_usage(folder).free < _DISK_FULL_BYTES):
            raise
        raise UserError(f"the disk of {folder} is full; make room there") from error
