"""Carrying out a split: as a new raw dataset without the masks of its unlabelled cases, or in place.

In place it is the key ``unlabeled`` in the ``splits_final.json`` of a dataset that is preprocessed already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_raw

from nnunet_dycon.dataset.pseudo_labels import KEY as PSEUDO_LABELS
from nnunet_dycon.dataset.pseudo_labels import predicted_cases, predicted_masks
from nnunet_dycon.dataset.raw_dataset import (
    RawDataset,
    check_new_dataset,
    dataset_name,
    environment_folder,
    link_dataset,
    masks_in,
    open_raw_dataset,
    read_dataset_json,
)
from nnunet_dycon.dataset.splits import read_split_record, read_splits
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import write_json
from nnunet_dycon.files.text import few
from nnunet_dycon.files.whole_files import check_writable, whole_folders
from nnunet_dycon.tools.split.division import CasePool, Division, SplitOptions, divide
from nnunet_dycon.tools.split.report import Split, check_masks_there, checked_split

_WARNING = (
    "the dataset was planned with all its masks, also those of cases that are unlabelled now: the CT normalisation, "
    "where a channel is CT, is taken from them (mean, spread and range of foreground intensities). Their masks stay on "
    "disk; that they are not used rests on the trainer alone. For published results make a new dataset with -t"
)


def split_into_new_dataset(
    source_id: int | str,
    target_id: int,
    options: SplitOptions,
    *,
    target_name: str | None = None,
    progress: bool = False,
) -> Split:
    """Make ``nnUNet_raw/Dataset<target_id>_<target_name>`` and its ``splits_final.json`` in nnUNet_preprocessed.

    Labelled and validation cases go to imagesTr and labelsTr, unlabelled ones to imagesUn without their masks, test
    cases to imagesTs and, where the source has masks, labelsTs. Files are hard links where the file system has them,
    else copies. A dataset appears whole or not at all. Its name is by default the source's with ``_<n>labeled``.

    Raises:
        UserError: The source is unfit, the target exists, or the division is impossible.
    """
    preprocessed_root = environment_folder("nnUNet_preprocessed")
    source = open_raw_dataset(source_id)
    images = {part: source.images(part) for part in ("Tr", "Ts")}
    _check_source(source, images)
    check_new_dataset(target_id, target_name or "x", "-t")
    for root in (source.folder.parent, preprocessed_root):
        check_writable(root)
    masks = {
        case: source.folder / f"labels{part}" / f"{case}{source.file_ending}"
        for part, cases in images.items()
        for case in cases
    }
    pool = CasePool(source.name, [*images["Tr"]], test=[*images["Ts"]], predicted=predicted_cases(source))
    division = divide(pool, options)
    check_masks_there(source, masks, [*division.labeled, *division.validation])
    short_name = target_name or f"{source.name.split('_', 1)[-1]}_{len(division.labeled)}labeled"
    name = f"Dataset{target_id:03d}_{short_name}"
    target, preprocessed = source.folder.parent / name, preprocessed_root / name
    split = checked_split(
        source, masks, options, division, dataset_name=name, notes=_notes(division, options, masks, pool),
        split_file=target / "split.json", splits_final_file=preprocessed / "splits_final.json",
    )  # fmt: skip
    with whole_folders(preprocessed, target) as (of_preprocessed, folder):
        content = {key: value for key, value in source.dataset_json.items() if key != PSEUDO_LABELS}
        content["name"] = short_name
        link_dataset(folder, content, _files(division, images["Tr"] | images["Ts"], masks), progress=progress)
        write_json(split.record(), folder / "split.json")
        of_preprocessed.mkdir()
        write_json(split.folds, of_preprocessed / "splits_final.json")
    return split


def _check_source(source: RawDataset, images: Mapping[str, Mapping[str, Sequence[Path]]]) -> None:
    if source.images("Un"):
        raise UserError(
            f"{source.name} has unlabelled cases in imagesUn already; give the fully labelled dataset it was made of"
        )
    if not images["Tr"]:
        raise UserError(f"{source.folder / 'imagesTr'} has no images CASE_0000{source.file_ending}; nothing to split")
    if both := sorted(images["Tr"].keys() & images["Ts"].keys()):
        raise UserError(f"{source.name} has {few(both)} in imagesTr and in imagesTs; remove one of the two")


def _files(
    division: Division, scans: Mapping[str, list[Path]], masks: Mapping[str, Path]
) -> dict[str, dict[str, list[Path]]]:
    """Of each case by subfolder of the new dataset; masks of unlabelled cases are not among them."""
    roles = {"Tr": [*division.labeled, *division.validation], "Un": division.unlabeled, "Ts": division.test}
    images = {f"images{part}": {case: scans[case] for case in cases} for part, cases in roles.items()}
    return images | {f"labels{i}": {j: [masks[j]] for j in roles[i] if masks[j].is_file()} for i in ("Tr", "Ts")}


def _notes(division: Division, options: SplitOptions, masks: Mapping[str, Path], pool: CasePool) -> list[str]:
    notes = _notes_on_predicted(division, pool)
    if division.validation:
        notes.append(
            f"fold 0 validates on the {len(division.validation)} validation cases. They lie in imagesTr and labelsTr, "
            "so nnU-Net's fingerprint (spacings, CT intensities) sees them; they are labelled cases that the protocol "
            "allows for model selection. Train fold 0 only: fold 'all' and other folds would train on them"
        )
    elif not options.folds:
        notes.append(
            "there is no validation set: fold 0 trains and validates on the labelled cases, never on test cases"
        )
    if not division.unlabeled:
        notes.append("all training cases are labelled: there is no imagesUn (a fully supervised reference)")
    if without_mask := [case for case in division.test if not masks[case].is_file()]:
        notes.append(f"{len(without_mask)} test cases have no mask in {pool.name} and cannot be evaluated")
    if division.left_out:
        notes.append(f"{len(division.left_out)} cases of {pool.name} are in none of the sets (see split.json)")
    return notes


def _notes_on_predicted(division: Division, pool: CasePool) -> list[str]:
    unlabeled = [case for case in division.unlabeled if case in pool.predicted]
    return [f"{len(unlabeled)} cases whose masks are predictions are unlabelled: {few(unlabeled)}"] if unlabeled else []


def split_in_place(dataset: int | str, options: SplitOptions, *, fold: int = 0, overwrite: bool = False) -> Split:
    """Make cases unlabelled for one fold of a preprocessed dataset (other folds stay as they are), or for all folds.

    With a protocol the fold consists of the protocol's cases. Else the training cases of the fold are divided and its
    validation cases stay; without a ``splits_final.json`` all cases are divided and the labelled ones validate. With
    ``options.folds`` all cases are divided, and all folds are written. Test cases of a split before stay such unless
    the options name others; cases without a role are ``left_out``. ``overwrite`` allows to change what is there.

    Raises:
        UserError: The dataset is not preprocessed or has imagesUn, or ``splits_final.json`` would change.
    """
    preprocessed = _open_preprocessed(dataset)
    splits_file = preprocessed.folder / "splits_final.json"
    splits = read_splits(preprocessed.folder) or []
    if not 0 <= fold <= len(splits):
        raise UserError(f"-f {fold}: {splits_file} has {len(splits)} folds; give one from 0 to {len(splits)}")
    masks = masks_in(preprocessed.folder / "gt_segmentations", preprocessed.file_ending)
    pool = _pool(preprocessed, {*masks}, splits[fold : fold + 1], options)
    division = _with_all_cases(divide(pool, options), preprocessed, masks)
    new_splits = [i | {"unlabeled": division.unlabeled} for i in division.folds(options.folds)]
    if not options.folds:
        new_splits = [*splits[:fold], *new_splits, *splits[fold + 1 :]]
    if splits not in ([], new_splits) and not overwrite:
        which = "" if options.folds else f" in fold {fold}"
        raise UserError(f"{splits_file} exists and would change{which}; give --overwrite to replace that")
    on_training = not (division.validation or options.folds)
    split = checked_split(
        preprocessed, masks, options, division, first_fold=fold, warnings=[_WARNING], dataset_name=preprocessed.name,
        split_file=preprocessed.folder / "split.json", splits_final_file=splits_file,
        notes=[
            *[f"there is no validation set: fold {fold} validates on its labelled cases"] * on_training,
            *[f"the {len(pool.test)} test cases of the split before stay such; --test takes others"] * bool(pool.test),
            *_notes_on_predicted(division, pool),
        ],
    )  # fmt: skip
    split = replace(split, configuration=_preprocessed_for(preprocessed.folder, split.configuration))
    write_json(split.record(), split.split_file)
    write_json(new_splits, splits_file)
    return split


def _pool(preprocessed: RawDataset, cases: set[str], old: list[dict[str, Any]], options: SplitOptions) -> CasePool:
    """All cases, or those of the fold that is replaced, which keeps its validation cases; test cases stay such."""
    test = [] if options.protocol or options.test else _recorded_tests(preprocessed.folder, cases)
    divided, validation = cases, []
    if old and not (options.protocol or options.folds):
        (fold,) = old
        validation = [case for case in fold["val"] if case not in {*fold["train"], *test}]
        divided = cases if options.test else {*fold["train"], *fold.get("unlabeled", [])}
    predicted = predicted_masks(preprocessed.folder / "gt_segmentations")
    return CasePool(preprocessed.name, sorted(divided - {*validation, *test}), validation, test, predicted)


def _recorded_tests(folder: Path, cases: set[str]) -> list[str]:
    record = read_split_record(folder)
    return [case for case in record["cases"]["test"] if case in cases] if record else []


def _with_all_cases(division: Division, preprocessed: RawDataset, masks: Mapping[str, Path]) -> Division:
    """The division with the raw dataset's test cases, which were not preprocessed, and all cases without a role."""
    raw = nnUNet_raw.get()
    in_raw = RawDataset(Path(raw, preprocessed.name), preprocessed.dataset_json).images("Ts") if raw else {}
    test = [*dict.fromkeys([*division.test, *in_raw])]
    left_out = masks.keys() - {*division.labeled, *division.unlabeled, *division.validation, *test}
    return replace(division, test=test, left_out=sorted(left_out))


def _preprocessed_for(folder: Path, wanted: str) -> str:
    """The configuration that is wanted, or one that the dataset is preprocessed for where it is not for this one."""
    there = [i for i in ("3d_fullres", "2d", "3d_lowres") if any(folder.glob(f"*_{i}"))]
    return wanted if wanted in there or not there else there[0]


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
