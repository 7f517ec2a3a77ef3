"""A split of a dataset that is preprocessed already: the key ``unlabeled`` in ``splits_final.json``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_raw

from nnunet_dycon.dataset.raw_dataset import (
    RawDataset,
    dataset_name,
    environment_folder,
    masks_in,
    read_dataset_json,
)
from nnunet_dycon.dataset.splits import read_splits
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import write_json
from nnunet_dycon.files.whole_files import check_writable
from nnunet_dycon.tools.split.division import CasePool, divide
from nnunet_dycon.tools.split.masks import Masks
from nnunet_dycon.tools.split.options import SplitOptions
from nnunet_dycon.tools.split.report import Split

_WARNING = (
    "the dataset was planned with all its masks, also those of cases that are unlabelled now: the CT normalisation, "
    "where a channel is CT, is taken from them (mean, spread and range of foreground intensities). Their masks stay on "
    "disk; that they are not used rests on the trainer alone. For published results make a new dataset with -t"
)


def split_in_place(
    dataset: int | str,
    options: SplitOptions,
    *,
    fold: int = 0,
    overwrite: bool = False,
) -> Split:
    """Make cases unlabelled for one fold of a preprocessed dataset (other folds stay as they are), or for all folds.

    With a protocol the fold consists of the protocol's cases. Else the training cases of the fold are divided and its
    validation cases stay; without a ``splits_final.json`` all cases are divided and the labelled ones validate. With
    ``options.folds`` all cases are divided, and all folds are written.

    Args:
        dataset: ID or name of a dataset in nnUNet_preprocessed.
        options: How to divide.
        fold: The fold that is written.
        overwrite: Replace this fold of a ``splits_final.json`` that differs.

    Raises:
        UserError: The dataset is not preprocessed or has imagesUn, or ``splits_final.json`` would change.
    """
    preprocessed = _open_preprocessed(dataset)
    splits_file = preprocessed.folder / "splits_final.json"
    splits = read_splits(preprocessed.folder) or []
    if not 0 <= fold <= len(splits):
        raise UserError(f"-f {fold}: {splits_file} has {len(splits)} folds; give one from 0 to {len(splits)}")
    files = masks_in(preprocessed.folder / "gt_segmentations", preprocessed.file_ending)
    masks = Masks(preprocessed, files)
    division = divide(_pool(masks, splits[fold : fold + 1], options), options)
    division = replace(division, test=[*dict.fromkeys([*division.test, *_raw_test_cases(preprocessed)])])
    folds = division.folds(options.folds)
    new_splits = [i | {"unlabeled": division.unlabeled} for i in folds]
    if not options.folds:
        new_splits = [*splits[:fold], *new_splits, *splits[fold + 1 :]]
    if splits not in ([], new_splits) and not overwrite:
        which = "" if options.folds else f" in fold {fold}"
        raise UserError(f"{splits_file} exists and would change{which}; give --overwrite to replace that")
    missing = masks.missing_classes(folds, fold)
    configuration = options.configuration(flat=masks.content(division.labeled[0])[1])
    on_training = not (division.validation or options.folds)
    split = Split(
        dataset_name=preprocessed.name, source=preprocessed.name, options=options, division=division, first_fold=fold,
        configuration=_preprocessed_for(preprocessed.folder, configuration),
        split_file=preprocessed.folder / "split.json", splits_final_file=splits_file,
        warnings=[*options.warnings(), _WARNING, *missing],
        notes=[f"there is no validation set: fold {fold} validates on its labelled cases"] * on_training,
    )  # fmt: skip
    write_json(split.record(), split.split_file)
    write_json(new_splits, splits_file)
    return split


def _pool(masks: Masks, old: list[dict[str, Any]], options: SplitOptions) -> CasePool:
    """All cases, or those of the fold that is replaced, which keeps its validation cases."""
    if options.protocol or options.folds or not old:
        return CasePool(masks.dataset.name, sorted(masks.files))
    (old_fold,) = old
    validation = [case for case in old_fold["val"] if case not in old_fold["train"]]
    divided = masks.files if options.test else {*old_fold["train"], *old_fold.get("unlabeled", [])}
    return CasePool(masks.dataset.name, sorted(set(divided) - set(validation)), validation)


def _preprocessed_for(folder: Path, wanted: str) -> str:
    """The configuration that is wanted, or one that the dataset is preprocessed for where it is not for this one."""
    there = [i for i in ("3d_fullres", "2d", "3d_lowres") if any(folder.glob(f"*_{i}"))]
    return wanted if wanted in there or not there else there[0]


def _raw_test_cases(preprocessed: RawDataset) -> list[str]:
    """Cases of the raw dataset's imagesTs, which was not preprocessed."""
    raw = nnUNet_raw.get()
    return list(RawDataset(Path(raw, preprocessed.name), preprocessed.dataset_json).images("Ts")) if raw else []


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
    check_writable(folder)
    return RawDataset(folder, read_dataset_json(folder))
