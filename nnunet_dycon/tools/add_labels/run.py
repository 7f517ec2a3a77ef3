"""The whole command: check everything, copy the masks, keep the books, move the images.

There is no journal: the images of a case are moved last, so the folders themselves say where an interrupted run stood,
and the same call finishes it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from nnunet_dycon.dataset.raw_dataset import RawDataset, open_raw_dataset
from nnunet_dycon.dataset.scan_files import Scan
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.whole_files import whole
from nnunet_dycon.tools.add_labels.books import check_books, keep_books, preprocessing_commands, update_dataset_json
from nnunet_dycon.tools.add_labels.check import check_scans, find_new_scans


@dataclass(frozen=True)
class AddReport:
    """What was done.

    Attributes:
        raw: the dataset.
        cases: names of the cases that are labelled now.
        resumed: those of ``cases`` that an earlier run had begun or finished.
        notes: what the user should know, in whole sentences.
        warnings: what is worth a look, in whole sentences.
        next_command: the preprocessing.
    """

    raw: RawDataset
    cases: list[str]
    resumed: list[str]
    notes: list[str]
    warnings: list[str]
    next_command: str


def add_labels(dataset: int | str, masks: Path, *, num_processes: int = 1, progress: bool = False) -> AddReport:
    """Move cases of imagesUn to imagesTr, with masks from a folder, which are copied to labelsTr.

    All cases are checked before any is moved. If it is interrupted, the same call finishes it.

    Raises:
        UserError: anything wrong with the names, grids or values of the masks, or with the JSON files that name the
            cases; then every file is where it was. A file that cannot be written; then the same call finishes.
    """
    raw = open_raw_dataset(dataset)
    (new, begun), folder = find_new_scans(raw, masks), raw.preprocessed_folder()
    check_books(raw, folder)
    warnings = check_scans(raw, new, num_processes=num_processes, progress=progress)
    try:
        unfinished = sorted([*new, *(scan for scan in begun if scan.images)], key=lambda scan: scan.case)
        folds = _add(raw, folder, unfinished, progress)
    except OSError as error:
        raise UserError(
            f"interrupted: {error}. Nothing is lost; remove the cause and repeat the same command to finish"
        ) from error
    return AddReport(
        raw=raw,
        cases=sorted(scan.case for scan in [*new, *begun]),
        resumed=[scan.case for scan in begun],
        notes=_notes(raw, folder, folds),
        warnings=warnings,
        next_command=preprocessing_commands(folder, raw.name),
    )


def _add(raw: RawDataset, folder: Path | None, scans: Sequence[Scan], progress: bool) -> list[int] | None:
    """Each step may have been done before; the folds that train on the cases now."""
    for scan in tqdm(scans, desc="copying masks", unit="case", disable=not progress):
        _copy_mask(scan, raw.folder / "labelsTr")
    folds = keep_books(raw, folder, [scan.case for scan in scans])
    for scan in tqdm(scans, desc="moving images", unit="case", disable=not progress):
        spacings = {image.with_name(f"{scan.case}.json") for image in scan.images}  # of TIFF files
        for file in [*(i for i in spacings if i.is_file()), *scan.images]:
            _move_file(file, raw.folder / "imagesTr" / file.name)
    update_dataset_json(raw)
    return folds


def _copy_mask(scan: Scan, folder: Path) -> None:
    """A copy, as a link would change when the user corrects the mask; TIFF files have their spacing beside them."""
    assert scan.mask is not None
    folder.mkdir(exist_ok=True)
    for file in (scan.mask.with_name(f"{scan.case}.json"), scan.mask):
        if file.is_file() and not (folder / file.name).exists():
            with whole(folder / file.name) as partial:
                shutil.copyfile(file, partial)


def _move_file(source: Path, target: Path) -> None:
    """As ``shutil.move``; a symbolic link is made anew, so that a relative one points to the same file."""
    target.parent.mkdir(exist_ok=True)
    if source.is_symlink():
        target.unlink(missing_ok=True)
        target.symlink_to(source.resolve())
        source.unlink()
    else:
        shutil.move(source, target)


def _notes(raw: RawDataset, folder: Path | None, folds: Sequence[int] | None) -> list[str]:
    if folder is None:
        note = (
            "nnUNet_preprocessed has no folder of this dataset; a splits_final.json kept elsewhere does not name the "
            "new cases, so no fold would train on them: add them to 'train' there"
        )
    elif folds is None:
        note = (
            "there is no splits_final.json: nnU-Net draws folds of all labelled cases when training starts, so "
            "validation cases may be new ones"
        )
    else:
        note = (
            f"splits_final.json: training cases of fold {', '.join(map(str, folds)) or 'none'} include the new ones; "
            "no validation case was changed, so validation stays comparable. Fold 'all' trains on every labelled case"
        )
    plans = (
        "the plans stay as they are, so that results compare. To plan anew with the new cases (which matters for CT "
        "intensities): nnUNetv2_plan_and_preprocess --clean"
    )
    notes = [note, plans] if folder else [note]
    if not raw.images("Un"):
        notes.append("imagesUn has no case left: train with nnUNetTrainerSupervised or stock nnU-Net")
    return notes
