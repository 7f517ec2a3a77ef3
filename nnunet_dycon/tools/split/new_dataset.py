"""A split as a new raw dataset: the masks of its unlabelled cases are not part of it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nnunet_dycon.dataset.raw_dataset import (
    RawDataset,
    check_new_dataset,
    environment_folder,
    link_case,
    open_raw_dataset,
)
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import write_json
from nnunet_dycon.files.text import few
from nnunet_dycon.files.whole_files import check_writable, whole
from nnunet_dycon.tools.split.division import CasePool, Division, divide
from nnunet_dycon.tools.split.masks import LabeledMasks, foreground_volumes_mm3
from nnunet_dycon.tools.split.options import SplitOptions
from nnunet_dycon.tools.split.report import SplitReport, configuration_of, split_record, split_warnings


def split_into_new_dataset(
    source_id: int | str,
    target_id: int,
    options: SplitOptions,
    *,
    target_name: str | None = None,
    num_processes: int = 1,
    progress: bool = False,
) -> SplitReport:
    """Make ``nnUNet_raw/Dataset<target_id>_<target_name>`` and its ``splits_final.json`` in nnUNet_preprocessed.

    Labelled and validation cases go to imagesTr and labelsTr, unlabelled ones to imagesUn without their masks, test
    cases to imagesTs and, where the source has masks, labelsTs. Files are hard links where the file system has them,
    else copies. A dataset appears whole or not at all.

    Args:
        source_id: ID or name of a raw dataset that has a mask for every case that needs one.
        target_id: ID that no dataset has.
        options: How to divide.
        target_name: Part of the name after ``DatasetXXX_``; default: the source's with ``_<n>labeled``.
        num_processes: Worker processes that read masks, for a stratified split.
        progress: Show progress bars.

    Raises:
        UserError: The source is unfit, the target exists, or the division is impossible.
    """
    preprocessed_root = environment_folder("nnUNet_preprocessed")
    source = open_raw_dataset(source_id)
    files = _case_files(source)
    _check_before_reading(source, files, target_id, target_name, preprocessed_root)
    division = divide(_pool(source, files, num_processes, progress), options)
    folds = division.folds(options.folds)
    masks = LabeledMasks(source, _masks(files, [*division.labeled, *division.validation]))
    short_name = target_name or f"{source.name.split('_', 1)[-1]}_{len(division.labeled)}labeled"
    name = f"Dataset{target_id:03d}_{short_name}"
    warnings = [*split_warnings(options), *masks.missing_classes(folds)]
    record = split_record(
        dataset_name=name, source=source.name, in_place=False, options=options, division=division, folds=folds,
        warnings=warnings,
    )  # fmt: skip
    target, preprocessed = source.folder.parent / name, preprocessed_root / name
    with ExitStack() as undo:
        with whole(target) as folder:
            _fill(folder, source.dataset_json | {"name": short_name}, files, division, progress)
            write_json(record, folder / "split.json")
            preprocessed.mkdir(parents=True)
            undo.callback(shutil.rmtree, preprocessed, ignore_errors=True)
            write_json(folds, preprocessed / "splits_final.json")
        undo.pop_all()
    return SplitReport(
        dataset_name=name,
        division=division,
        folds=folds,
        first_fold=0,
        configuration=configuration_of(options, masks.content(division.labeled[0]).flat),
        split_file=target / "split.json",
        splits_final_file=preprocessed / "splits_final.json",
        warnings=warnings,
        notes=_notes(division, folds, files, source.name),
    )


@dataclass(frozen=True)
class _CaseFiles:
    images: list[Path]
    mask: Path | None
    expected_mask: Path


def _case_files(source: RawDataset) -> dict[str, _CaseFiles]:
    """Files of every case in imagesTr and imagesTs."""
    found = {}
    for part in ("Tr", "Ts"):
        masks = source.labels(part)
        for case, images in source.images(part).items():
            expected = source.folder / f"labels{part}" / f"{case}{source.file_ending}"
            found[case] = _CaseFiles(images, masks.get(case), expected)
    return found


def _pool(source: RawDataset, files: Mapping[str, _CaseFiles], num_processes: int, progress: bool) -> CasePool:
    def volumes_mm3(cases: Sequence[str]) -> dict[str, float]:
        return foreground_volumes_mm3(_masks(files, cases), source, num_processes=num_processes, progress=progress)

    return CasePool(source.name, list(source.images("Tr")), volumes_mm3, test=list(source.images("Ts")))


def _masks(files: Mapping[str, _CaseFiles], cases: Sequence[str]) -> dict[str, Path]:
    """Masks of cases that need one.

    Raises:
        UserError: A case has none.
    """
    masks = {}
    for case in cases:
        mask = files[case].mask
        if mask is None:
            raise UserError(
                f"case {case} has no mask; add {files[case].expected_mask}, or leave the case out of the labelled ones"
            )
        masks[case] = mask
    return masks


def _check_before_reading(
    source: RawDataset, files: Mapping[str, _CaseFiles], target_id: int, name: str | None, preprocessed_root: Path
) -> None:
    """What can be known from names alone."""
    if source.images("Un"):
        raise UserError(
            f"{source.name} has unlabelled cases in imagesUn already; give the fully labelled dataset it was made of"
        )
    training, test = source.images("Tr"), source.images("Ts")
    if not training:
        raise UserError(f"{source.folder / 'imagesTr'} has no images CASE_0000{source.file_ending}; nothing to split")
    if both := sorted(set(training) & set(test)):
        raise UserError(f"{source.name} has {few(both)} in imagesTr and in imagesTs; remove one of the two")
    usual = Counter(len(case.images) for case in files.values()).most_common(1)[0][0]
    if other := [case for case in files if len(files[case].images) != usual]:
        raise UserError(f"{source.name}: {few(other)} have not {usual} channel files as the other cases; complete them")
    check_new_dataset(target_id, name or "x", "-t")
    for root in (source.folder.parent, preprocessed_root):
        check_writable(root)


def _fill(
    folder: Path,
    dataset_json: dict[str, Any],
    files: Mapping[str, _CaseFiles],
    division: Division,
    progress: bool,
) -> None:
    """Images, masks and dataset.json of the new dataset."""
    training = [*division.labeled, *division.validation]
    roles = [("Tr", training), ("Un", division.unlabeled), ("Ts", division.test)]
    with tqdm(total=sum(len(cases) for _, cases in roles), desc="linking cases", disable=not progress) as bar:
        for part, cases in roles:
            for case in cases:
                link_case(files[case].images, folder / f"images{part}", case)
                mask = files[case].mask
                if part != "Un" and mask is not None:
                    link_case([mask], folder / f"labels{part}", case)
                bar.update()
    write_json(dataset_json | {"numTraining": len(training)}, folder / "dataset.json")


def _notes(
    division: Division, folds: list[dict[str, list[str]]], files: Mapping[str, _CaseFiles], source_name: str
) -> list[str]:
    notes = []
    if division.validation:
        notes.append(
            f"fold 0 validates on the {len(division.validation)} validation cases. They lie in imagesTr and labelsTr, "
            "so nnU-Net's fingerprint (spacings, CT intensities) sees them; they are labelled cases that the protocol "
            "allows for model selection. Train fold 0 only: fold 'all' and other folds would train on them"
        )
    elif len(folds) == 1:
        notes.append(
            "there is no validation set: fold 0 trains and validates on the labelled cases, never on test cases"
        )
    if not division.unlabeled:
        notes.append("all training cases are labelled: there is no imagesUn (a fully supervised reference)")
    without_mask = [case for case in division.test if files[case].mask is None]
    if without_mask:
        notes.append(f"{len(without_mask)} test cases have no mask in {source_name} and cannot be evaluated")
    if division.left_out:
        notes.append(f"{len(division.left_out)} cases of {source_name} are in none of the sets (see split.json)")
    return notes
