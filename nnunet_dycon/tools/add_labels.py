"""Newly labelled cases from imagesUn to imagesTr and labelsTr: ``nnunet-dycon add-labels``.

Everything is checked before anything is moved. There is no journal: masks are copied first and images moved last, so
the folders themselves say where an interrupted run stood, and the same call finishes it.
"""

from __future__ import annotations

import filecmp
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nnunet_dycon.dataset.commands import PLANS, planning, preprocessing
from nnunet_dycon.dataset.raw_dataset import RawDataset, channel_files, label_values, masks_in, open_raw_dataset
from nnunet_dycon.dataset.scan_files import Scan, file_findings, read_files
from nnunet_dycon.dataset.splits import read_split_record, read_splits
from nnunet_dycon.errors import UserError, did_you_mean
from nnunet_dycon.files.json_files import read_json, write_json
from nnunet_dycon.files.pool import map_cases
from nnunet_dycon.files.text import few
from nnunet_dycon.files.whole_files import whole

# What nnU-Net leaves beside its predictions, which are often what is corrected by hand.
_NNUNET_FILES = ("dataset.json", "plans.json", "predict_from_raw_data_args.json")


class AddReport(NamedTuple):
    """What was done: the cases that are labelled now, and in whole sentences what a user should know of it."""

    raw: RawDataset
    cases: list[str]
    resumed: list[str]
    """Those of ``cases`` that an earlier run had begun or finished."""
    notes: list[str]
    warnings: list[str]
    next_command: str


def add_labels(dataset: int | str, masks: Path, *, num_processes: int = 1, progress: bool = False) -> AddReport:
    """Move cases of imagesUn to imagesTr, with masks from a folder, which are copied to labelsTr.

    Raises:
        UserError: names, grids or values of masks, or JSON files that name the cases, are wrong: then every file is
            where it was. A file cannot be written: then the same call finishes.
    """
    raw = open_raw_dataset(dataset)
    folder, record = raw.preprocessed_folder(), read_split_record(raw.folder)
    splits = (read_splits(folder) if folder else None) or []
    next_command = preprocessing_commands(folder, raw.name)
    new, begun = _find_scans(raw, masks, splits)
    warnings = _check_scans(raw, new, num_processes, progress)
    scans = sorted([*new, *(scan for scan in begun if scan.images)], key=lambda scan: scan.case)
    splits = splits_with(splits, [scan.case for scan in scans])
    try:
        _add(raw, scans, record, splits)
    except OSError as error:
        raise UserError(
            f"interrupted: {error}. Nothing is lost; remove the cause and repeat the same command to finish"
        ) from error
    done, resumed = sorted(scan.case for scan in [*new, *begun]), [scan.case for scan in begun]
    return AddReport(raw, done, resumed, _notes(raw, folder, splits, scans), warnings, next_command)


def _find_scans(raw: RawDataset, masks: Path, splits: Sequence[dict[str, Any]]) -> tuple[list[Scan], list[Scan]]:
    """The scans that a folder of masks is for: new ones, and those whose mask an earlier run has copied to labelsTr."""
    found = _masks(masks, raw)
    images = {part: raw.images(part) for part in ("Tr", "Un", "Ts")}
    new: list[Scan] = []
    begun: list[Scan] = []
    for case, file in found.items():
        label = raw.folder / "labelsTr" / file.name
        is_copied = label.is_file() and filecmp.cmp(label, file, shallow=False) and case not in images["Ts"]
        (begun if is_copied else new).append(Scan("Un", case, images["Un"].get(case, []), file))
    faults = [fault for scan in new for fault in _name_faults(scan, raw, images)]
    for number, fold in enumerate(splits):  # which would learn from masks of cases that it calls unlabelled
        if both := few(sorted(found.keys() & fold.get("unlabeled", []))):
            faults.append(f"splits_final.json names {both} under 'unlabeled' in fold {number}; remove them there first")
    _refuse(faults)
    return new, begun


def _masks(folder: Path, raw: RawDataset) -> dict[str, Path]:
    """By case; the folder must hold nothing else."""
    ending = raw.file_ending
    if not folder.is_dir() or folder.resolve().is_relative_to(raw.folder.resolve()):
        raise UserError(f"{folder} is no folder outside {raw.folder}; put the new masks CASE{ending} into one")
    if not (found := masks_in(folder, ending)):
        raise UserError(f"{folder} holds no mask named CASE{ending}, which is the dataset's file ending")
    names = {*_NNUNET_FILES, *(f"{case}.json" for case in found), *(file.name for file in found.values())}
    strangers = [file for file in sorted(folder.glob("[!.]*")) if file.name not in names]
    _refuse([f"{i} is no mask CASE{ending}; convert it or take it out of the folder" for i in strangers])
    return found


def _name_faults(scan: Scan, raw: RawDataset, images: dict[str, dict[str, list[Path]]]) -> Iterator[str]:
    """Why a mask can not be that of an unlabelled case."""
    case, names = scan.case, [image.name for image in scan.images]
    if case in images["Tr"] or case in images["Ts"]:
        role = "labelled already (imagesTr)" if case in images["Tr"] else "a test case (imagesTs)"
        yield f"{scan.mask}: case {case} is {role}; take the mask out of the folder"
    elif (raw.folder / "labelsTr" / f"{case}{raw.file_ending}").exists():
        yield f"{scan.mask}: labelsTr/{case}{raw.file_ending} exists already; remove one of the two"
    elif not names:
        near = did_you_mean(case, images["Un"])
        yield f"{scan.mask}: imagesUn has no case {case}{near}; name the mask as its images, without channel number"
    elif names != channel_files(case, len(names), raw.file_ending):
        yield f"case {case} has the channel files {few(names)}; number them from 0000"


def _check_scans(raw: RawDataset, scans: Sequence[Scan], num_processes: int, progress: bool) -> list[str]:
    """The warnings of all scans; faults of any are an error."""
    check = partial(_check_scan, raw=raw)
    results = map_cases(check, scans, num_processes=num_processes, description="checking masks", progress=progress)
    _refuse([fault for faults, _ in results for fault in faults])
    return [warning for _, warnings in results for warning in warnings]


def _check_scan(scan: Scan, raw: RawDataset) -> tuple[list[str], list[str]]:
    """Read a scan with its mask: faults of files, grid, position and values, and what is worth a look but no fault."""
    try:
        volumes = read_files(scan, raw.dataset_json)
    except UserError as error:
        return [str(error)], []
    assert scan.mask is not None
    # nnU-Net takes channels whose positions differ among themselves, so only the mask's position is a fault
    findings, of_mask = file_findings(scan, volumes, raw.n_channels), f"{scan.mask} "
    faults = [f"{i.message}; {i.fix}" for i in findings if i.severity == "error" or i.message.startswith(of_mask)]
    values, allowed = {*np.unique(volumes[-1].voxels).tolist()}, label_values(raw.dataset_json)
    if wrong := few(f"{value:g}" for value in sorted(values - {*allowed})):
        faults.append(f"{scan.mask} has the values {wrong}; dataset.json names {few(allowed)}: correct the mask")
    if values & {*raw.foreground_values()}:
        return faults, []
    return faults, [f"{scan.mask} has no foreground; if that is not true, correct labelsTr/{scan.mask.name}"]


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        raise UserError("nothing was moved:\n" + "\n".join(f"  {fault}" for fault in faults))


def _add(raw: RawDataset, scans: Sequence[Scan], record: dict[str, Any] | None, splits: Sequence[dict]) -> None:
    """The steps, each of which an interrupted run may have done before."""
    cases, folder = [scan.case for scan in scans], raw.preprocessed_folder()
    for scan in scans:
        _copy_mask(scan, raw.folder / "labelsTr")
    if record is not None:
        roles = record["cases"]
        roles["labeled"] = _with(roles["labeled"], cases)
        roles["unlabeled"] = [case for case in roles["unlabeled"] if case not in cases]
        record["labels_added"] = _with(record.get("labels_added", []), cases)
        write_json(record, raw.folder / "split.json")
    if folder is not None:
        _forget_unlabeled(folder, cases)
        if splits:
            write_json(splits, folder / "splits_final.json")
    for scan in scans:
        _move_images(scan, raw.folder / "imagesTr")
    write_json(raw.dataset_json | {"numTraining": len(raw.images("Tr"))}, raw.folder / "dataset.json")


def _copy_mask(scan: Scan, folder: Path) -> None:
    """A copy, as a link would change when the user corrects the mask; TIFF files have their spacing beside them."""
    assert scan.mask is not None
    folder.mkdir(exist_ok=True)
    for file in (scan.mask.with_name(f"{scan.case}.json"), scan.mask):
        if file.is_file() and not (folder / file.name).exists():
            with whole(folder / file.name) as partial_file:
                shutil.copyfile(file, partial_file)


def _forget_unlabeled(folder: Path, cases: Sequence[str]) -> None:
    """Delete what was preprocessed of them; the record first: without it the image counts as not there."""
    for case in cases:
        for ending in (".json", ".b2nd"):
            for file in folder.glob(f"*_unlabeled/{case}{ending}"):
                file.unlink()


def _move_images(scan: Scan, folder: Path) -> None:
    """As ``shutil.move``; a symbolic link is made anew, so that a relative one points to the same file."""
    folder.mkdir(exist_ok=True)
    spacings = {image.with_name(f"{scan.case}.json") for image in scan.images}  # of TIFF files
    for file in [*(i for i in spacings if i.is_file()), *scan.images]:
        target = folder / file.name
        if file.is_symlink():
            target.unlink(missing_ok=True)
            target.symlink_to(file.resolve())
            file.unlink()
        else:
            shutil.move(file, target)


def splits_with(splits: Sequence[dict[str, Any]], cases: Sequence[str]) -> list[dict[str, Any]]:
    """``splits_final.json`` with the cases among the training cases of every fold that does not validate on them.

    Validation cases stay the same, so that results before and after compare, and no case gets two roles.
    """
    return [fold | {"train": _with(fold["train"], [i for i in cases if i not in fold["val"]])} for fold in splits]


def _with(names: Sequence[str], more: Sequence[str]) -> list[str]:
    return [*dict.fromkeys([*names, *more])]


def preprocessing_commands(folder: Path | None, name: str) -> str:
    """nnU-Net's for every preprocessed configuration, shared data once; a UserError where a JSON file is damaged."""
    files = sorted(folder.glob("*.json"), key=lambda file: (len(file.stem), file.stem)) if folder else []
    found: dict[str, list[str]] = defaultdict(list)
    named: set[Path] = set()
    for file in files:
        content = read_json(file, "correct or delete it")
        for configuration, values in content.get("configurations", {}).items() if isinstance(content, dict) else ():
            data = file.with_name(str(values.get("data_identifier")))
            if data.is_dir() and data not in named:
                named.add(data)
                found[file.stem].append(configuration)
    commands = [preprocessing(name, " ".join(configurations), plans) for plans, configurations in found.items()]
    return "; ".join(commands) or planning(name, PLANS, "--verify_dataset_integrity")


def _notes(raw: RawDataset, folder: Path | None, splits: Sequence[dict], scans: Sequence[Scan]) -> list[str]:
    notes = [
        "there is no splits_final.json in nnUNet_preprocessed: nnU-Net draws folds of all labelled cases when training "
        "starts, so validation cases may be new ones. Add the new cases to 'train' of a file kept elsewhere"
    ]
    if splits:
        folds = [str(i) for i, fold in enumerate(splits) if {scan.case for scan in scans} & {*fold["train"]}]
        notes = [
            f"splits_final.json: training cases of fold {', '.join(folds) or 'none'} include the new ones; no "
            "validation case was changed, so validation stays comparable. Fold 'all' trains on every labelled case"
        ]
    if folder:
        notes.append(
            "the plans stay as they are, so that results compare. To plan anew with the new cases (which matters for "
            "CT intensities): nnUNetv2_plan_and_preprocess --clean"
        )
    if not raw.images("Un"):
        notes.append("imagesUn has no case left: train with nnUNetTrainerSupervised or stock nnU-Net")
    return notes
