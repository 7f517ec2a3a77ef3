"""The whole command: check everything, move, keep the books."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_dycon.dataset.raw_dataset import RawDataset, open_raw_dataset
from nnunet_dycon.tools.add_labels.bookkeeping import (
    check_books,
    preprocessing_commands,
    remove_preprocessed_unlabeled,
    update_dataset_json,
    update_split_record,
    update_splits,
)
from nnunet_dycon.tools.add_labels.check import NewCase, check_cases, find_new_cases
from nnunet_dycon.tools.add_labels.journal import move_cases, read_journal, remove_journal, write_journal


@dataclass(frozen=True)
class AddReport:
    """What was done.

    Attributes:
        raw: the dataset.
        cases: names of the cases that are labelled now.
        n_labeled: cases in imagesTr now.
        n_unlabeled: cases left in imagesUn.
        resumed: those of ``cases`` whose move an earlier run had begun.
        notes: what the user should know, in whole sentences.
        warnings: what is worth a look, in whole sentences.
        next_command: the preprocessing.
    """

    raw: RawDataset
    cases: list[str]
    n_labeled: int
    n_unlabeled: int
    resumed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    next_command: str = ""


def add_labels(dataset: int | str, masks: Path, *, num_processes: int = 1, progress: bool = False) -> AddReport:
    """Move cases of imagesUn to imagesTr, with masks from a folder, which are copied to labelsTr.

    All cases are checked before any is moved. If it is interrupted, the same call finishes it.

    Args:
        dataset: ID or name of a raw dataset.
        masks: folder of CASE with the dataset's file ending.
        num_processes: worker processes that read images and masks.
        progress: show progress bars.

    Raises:
        UserError: anything wrong with the names, grids or values of the masks, or with the JSON files that name the
            cases; then every file is where it was.
    """
    raw = open_raw_dataset(dataset)
    interrupted = read_journal(raw)
    if interrupted:
        _finish(raw, interrupted, progress)
    resumed = [case.name for case in interrupted]
    cases = find_new_cases(raw, masks, done=resumed)
    check_books(raw, raw.preprocessed_folder())
    warnings = check_cases(raw, cases, num_processes=num_processes, progress=progress)
    if cases:
        write_journal(raw, cases)
        _finish(raw, cases, progress)
    return _report(raw, [*resumed, *(case.name for case in cases)], resumed, warnings, str(dataset))


def _finish(raw: RawDataset, cases: Sequence[NewCase], progress: bool) -> None:
    """All steps, each of which may have been done before."""
    names = [case.name for case in cases]
    move_cases(raw, cases, progress=progress)
    update_dataset_json(raw)
    update_split_record(raw, names)
    folder = raw.preprocessed_folder()
    if folder is not None:
        remove_preprocessed_unlabeled(folder, names)
        update_splits(folder, names)
    remove_journal(raw)


def _report(raw: RawDataset, cases: list[str], resumed: list[str], warnings: list[str], dataset: str) -> AddReport:
    folder = raw.preprocessed_folder()
    return AddReport(
        raw=raw,
        cases=cases,
        n_labeled=len(raw.images("Tr")),
        n_unlabeled=len(raw.images("Un")),
        resumed=resumed,
        notes=_notes(raw, folder, cases),
        warnings=warnings,
        next_command=preprocessing_commands(folder, dataset),
    )


def _notes(raw: RawDataset, folder: Path | None, cases: Sequence[str]) -> list[str]:
    notes = []
    folds = None if folder is None else update_splits(folder, cases)
    if folder is None:
        notes.append(
            "nnUNet_preprocessed has no folder of this dataset; a splits_final.json kept elsewhere does not name the "
            "new cases, so no fold would train on them: add them to 'train' there"
        )
    elif folds is None:
        notes.append(
            "there is no splits_final.json: nnU-Net draws folds of all labelled cases when training starts, so "
            "validation cases may be new ones"
        )
    else:
        listed = ", ".join(map(str, folds)) or "none"
        notes.append(
            f"splits_final.json: training cases of fold {listed} include the new ones; no validation case was changed, "
            "so validation stays comparable. Fold 'all' trains on every labelled case"
        )
    if folder is not None:
        notes.append(
            "the plans stay as they are, so that results compare. To plan anew with the new cases (which matters for "
            "CT intensities): nnUNetv2_plan_and_preprocess --clean"
        )
    if not raw.images("Un"):
        notes.append("imagesUn has no case left: train with nnUNetTrainerSupervised or stock nnU-Net")
    return notes
