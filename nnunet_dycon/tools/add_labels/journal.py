"""Moving cases so that an interruption at any moment loses nothing.

All moves are written down first, in ``.add_labels.json`` of the raw dataset. Each step can be done again, so after an
interruption the next ``add-labels`` does the whole list once more and then removes it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from nnunet_dycon.dataset.raw_dataset import RawDataset
from nnunet_dycon.dataset.splits import check_case_names
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import read_json, write_json
from nnunet_dycon.tools.add_labels.check import NewCase

JOURNAL = ".add_labels.json"


def write_journal(raw: RawDataset, cases: Sequence[NewCase]) -> None:
    """Write down what is to be moved."""
    entries = [
        {"case": case.name, "images": [file.name for file in case.images], "mask": str(case.mask.resolve())}
        for case in cases
    ]
    write_json(entries, raw.folder / JOURNAL)


def read_journal(raw: RawDataset) -> list[NewCase]:
    """What an interrupted run was to move; empty without one.

    Raises:
        UserError: the journal cannot be understood, or names files that are none of its cases.
    """
    file = raw.folder / JOURNAL
    if not file.is_file():
        return []
    entries = read_json(file, "move the cases by hand and delete it")
    try:
        return [_entry(raw, **entry) for entry in entries]
    except (ValueError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error}); move the cases by hand and delete it") from error


def _entry(raw: RawDataset, *, case: str, images: list[str], mask: str) -> NewCase:
    """A case of the journal, whose files can have no other names than these."""
    check_case_names([case], "the entry")
    if images != [f"{case}_{i:04d}{raw.file_ending}" for i in range(len(images))]:
        raise ValueError(f"case {case} has the images {images}")
    if Path(mask).name != f"{case}{raw.file_ending}":
        raise ValueError(f"case {case} has the mask {mask}")
    return NewCase(case, [raw.folder / "imagesUn" / name for name in images], Path(mask))


def remove_journal(raw: RawDataset) -> None:
    """All is done."""
    (raw.folder / JOURNAL).unlink(missing_ok=True)


def move_cases(raw: RawDataset, cases: Sequence[NewCase], *, progress: bool) -> None:
    """Copy each mask to labelsTr, then move its images to imagesTr; what is done already is left alone.

    Raises:
        UserError: a file is gone, or cannot be written.
    """
    with _interruption_explained():
        for case in tqdm(cases, desc="moving cases", unit="case", disable=not progress):
            put_copy(case.mask, raw.folder / "labelsTr" / case.mask.name)
            _put_sidecar(case.mask.with_name(f"{case.name}.json"), raw.folder / "labelsTr")
            sidecar = raw.folder / "imagesUn" / f"{case.name}.json"
            for file in [*case.images, *([sidecar] if sidecar.is_file() else [])]:
                move_file(file, raw.folder / "imagesTr" / file.name)


@contextmanager
def _interruption_explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"interrupted: {error}. Nothing is lost; remove the cause and repeat the same command to finish"
        ) from error


def _put_sidecar(file: Path, folder: Path) -> None:
    """Copy the ``CASE.json`` that holds the spacing of a TIFF file, if there is one."""
    if file.is_file():
        put_copy(file, folder / file.name)


def put_copy(source: Path, target: Path) -> None:
    """Copy a file, whole or not at all, unless the target is there.

    It is no link, because a mask that is corrected later in its old place would change with it.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(source, partial)
    _flush(partial)
    os.replace(partial, target)


def move_file(source: Path, target: Path) -> None:
    """Move a file, whole or not at all, also to another file system; nothing is done if it has been moved.

    A hard link stays one. A symbolic link is made anew, so that a relative one points to the same file.
    """
    if not os.path.lexists(source):
        if not target.exists():
            raise FileNotFoundError(errno.ENOENT, "this file is gone", str(source))
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        if not os.path.lexists(target):
            target.symlink_to(source.resolve())
        source.unlink()
    elif target.exists() and target.samefile(source):
        source.unlink()  # renaming one of two hard links to the other does nothing
    else:
        _rename(source, target)


def _rename(source: Path, target: Path) -> None:
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        partial = target.with_name(f".{target.name}.partial")
        shutil.copy2(source, partial)
        _flush(partial)
        os.replace(partial, target)
        source.unlink()


def _flush(file: Path) -> None:
    """To the disk itself, before the name is given."""
    with open(file, "rb+") as stream:
        os.fsync(stream.fileno())
