"""A split of a dataset that is preprocessed already: the key ``unlabeled`` in ``splits_final.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_raw

from nnunet_dycon.dataset.raw_dataset import RawDataset, dataset_name, environment_folder, read_dataset_json
from nnunet_dycon.dataset.splits import read_splits
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import write_json
from nnunet_dycon.tools.split.division import CasePool, divide
from nnunet_dycon.tools.split.options import SplitOptions
from nnunet_dycon.tools.split.record import SplitReport, split_record, split_warnings
from nnunet_dycon.tools.split.volumes import foreground_volumes_mm3


def split_in_place(
    dataset: int | str,
    options: SplitOptions,
    *,
    fold: int = 0,
    overwrite: bool = False,
    num_processes: int = 1,
    progress: bool = False,
) -> SplitReport:
    """Make cases unlabelled for one fold of a preprocessed dataset; other folds stay as they are.

    With a protocol the fold consists of the protocol's cases. Else the training cases of the fold are divided and its
    validation cases stay; without a ``splits_final.json`` all cases are divided and the labelled ones validate.

    Args:
        dataset: ID or name of a dataset in nnUNet_preprocessed.
        options: How to divide.
        fold: The fold that is written.
        overwrite: Replace this fold of a ``splits_final.json`` that differs.
        num_processes: Worker processes that read masks, for a stratified split.
        progress: Show progress bars.

    Raises:
        UserError: The dataset is not preprocessed or has imagesUn, or ``splits_final.json`` would change.
    """
    preprocessed = _open_preprocessed(dataset)
    splits_file = preprocessed.folder / "splits_final.json"
    splits = read_splits(preprocessed.folder) or []
    if not 0 <= fold <= len(splits):
        raise UserError(f"-f {fold}: {splits_file} has {len(splits)} folds; give one from 0 to {len(splits)}")
    old_fold = splits[fold] if fold < len(splits) else None
    division = divide(_pool(preprocessed, old_fold, options, num_processes, progress), options)
    new_splits = [*splits[:fold], division.fold() | {"unlabeled": division.unlabeled}, *splits[fold + 1 :]]
    if splits and splits != new_splits and not overwrite:
        raise UserError(f"{splits_file} exists and would change in fold {fold}; give --overwrite to replace that fold")
    warnings = [*split_warnings(options), _fingerprint_warning(preprocessed)]
    record = split_record(
        dataset_name=preprocessed.name,
        source=preprocessed.name,
        in_place=True,
        options=options,
        division=division,
        warnings=warnings,
    )
    split_file = preprocessed.folder / "split.json"
    write_json(record | {"fold": fold}, split_file)
    write_json(new_splits, splits_file)
    notes = [] if division.validation else [f"there is no validation set: fold {fold} validates on its labelled cases"]
    return SplitReport(preprocessed.name, division, split_file, splits_file, warnings, notes)


def _open_preprocessed(dataset: int | str) -> RawDataset:
    """The preprocessed folder, seen as a dataset without images."""
    folder = environment_folder("nnUNet_preprocessed") / dataset_name(dataset)
    if not (folder / "gt_segmentations").is_dir():
        raise UserError(
            f"{folder} holds no preprocessed dataset; run nnUNetv2_plan_and_preprocess -d {dataset} first, or make a "
            "new dataset with -t (better: its fingerprint sees the labelled cases alone)"
        )
    if nnUNet_raw.is_set() and Path(nnUNet_raw, folder.name, "imagesUn").is_dir():
        raise UserError(
            f"{folder.name} has unlabelled cases in imagesUn already; --in-place is for fully labelled datasets"
        )
    return RawDataset(folder, read_dataset_json(folder))


def _pool(
    preprocessed: RawDataset,
    old_fold: dict[str, Any] | None,
    options: SplitOptions,
    num_processes: int,
    progress: bool,
) -> CasePool:
    masks = _masks(preprocessed)

    def volumes_mm3(cases: Sequence[str]) -> dict[str, float]:
        return foreground_volumes_mm3(
            {case: masks[case] for case in cases},
            preprocessed.dataset_json,
            preprocessed.foreground_values(),
            num_processes=num_processes,
            progress=progress,
        )

    if options.protocol or old_fold is None:
        return CasePool(preprocessed.name, sorted(masks), volumes_mm3)
    validation = [case for case in old_fold["val"] if case not in old_fold["train"]]
    divided = masks if options.test else {*old_fold["train"], *old_fold.get("unlabeled", [])}
    return CasePool(preprocessed.name, sorted(set(divided) - set(validation)), volumes_mm3, validation)


def _masks(preprocessed: RawDataset) -> dict[str, Path]:
    ending = preprocessed.file_ending
    files = sorted((preprocessed.folder / "gt_segmentations").glob(f"*{ending}"))
    return {file.name.removesuffix(ending): file for file in files}


def _fingerprint_warning(preprocessed: RawDataset) -> str:
    channels = preprocessed.dataset_json.get("channel_names", {}).values()
    has_ct = any(str(channel).lower() == "ct" for channel in channels)
    consequence = (
        "its CT normalisation (mean, spread and range of foreground intensities) is taken from them"
        if has_ct
        else "no channel is CT, so the normalisation does not depend on them"
    )
    return (
        "the dataset was planned with all its masks, also those of cases that are unlabelled now: "
        f"{consequence}. Their masks stay on disk; that they are not used rests on the trainer alone. For published "
        "results make a new dataset with -t"
    )
