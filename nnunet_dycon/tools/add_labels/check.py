"""Are the masks fit to be training labels? Everything is checked before anything is moved."""

from __future__ import annotations

import filecmp
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from nnunet_dycon.dataset.raw_dataset import RawDataset, channel_files, label_values
from nnunet_dycon.dataset.scan_files import Scan, file_findings, read_files
from nnunet_dycon.dataset.splits import read_splits
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.pool import map_cases
from nnunet_dycon.files.text import few, nearest

# What nnU-Net leaves beside its predictions, which are often what is corrected by hand.
_NNUNET_FILES = ("dataset.json", "plans.json", "predict_from_raw_data_args.json")


def find_new_scans(raw: RawDataset, masks: Path) -> tuple[list[Scan], list[Scan]]:
    """The scans that a folder of masks is for, judged by the names.

    Returns:
        New ones, and those whose mask an earlier run has checked and copied to labelsTr; with images only where these
        are in imagesUn still.

    Raises:
        UserError: no mask, or files that do not belong to one unlabelled case each; all of them are named.
    """
    found, strangers = _content(masks.resolve(), raw)
    unlabeled = raw.images("Un")
    new: list[Scan] = []
    begun: list[Scan] = []
    for name, file in found.items():
        (begun if _is_begun(name, file, raw) else new).append(Scan("Un", name, unlabeled.get(name, []), file))
    faults = [f"{i} is no mask CASE{raw.file_ending}; convert it or take it out of the folder" for i in strangers]
    refuse([*faults, *filter(None, (_name_fault(scan, raw) for scan in new)), *_split_faults({*found}, raw)])
    return new, begun


def _content(masks: Path, raw: RawDataset) -> tuple[dict[str, Path], list[Path]]:
    """Masks by case, and files that are none; TIFF masks have their spacing in ``CASE.json``."""
    ending = raw.file_ending
    if not masks.is_dir():
        raise UserError(f"{masks} is no folder; give the folder with the new masks CASE{ending}")
    if masks.is_relative_to(raw.folder.resolve()):
        raise UserError(f"{masks} lies in the dataset; put the new masks into a folder outside {raw.folder}")
    files = [i for i in sorted(masks.glob("[!.]*")) if i.name not in _NNUNET_FILES]
    found = {i.name.removesuffix(ending): i for i in files if i.is_file() and i.name.endswith(ending)}
    if not found:
        raise UserError(f"{masks} holds no mask named CASE{ending}, which is the dataset's file ending")
    return found, sorted({*files} - {*found.values(), *(masks / f"{name}.json" for name in found)})


def _is_begun(name: str, mask: Path, raw: RawDataset) -> bool:
    """Whether labelsTr has this very mask."""
    label = raw.folder / "labelsTr" / mask.name
    return label.is_file() and filecmp.cmp(label, mask, shallow=False) and name not in raw.images("Ts")


def _name_fault(scan: Scan, raw: RawDataset) -> str | None:
    """Why a mask can not be that of an unlabelled case; None if it can."""
    name, file, ending = scan.case, scan.mask, raw.file_ending
    for part, role in (("Tr", "labelled already"), ("Ts", "a test case")):
        if name in raw.images(part):
            return f"{file}: case {name} is {role} (images{part}); take the mask out of the folder"
    if (raw.folder / "labelsTr" / f"{name}{ending}").exists():
        return f"{file}: labelsTr/{name}{ending} exists already; remove one of the two"
    if found := [image.name for image in scan.images]:
        right = found == channel_files(name, len(found), ending)
        return None if right else f"case {name} has the channel files {few(found)}; number them from 0000"
    unlabeled, bare = raw.images("Un"), name.removesuffix("_0000")
    if bare != name and bare in unlabeled:
        return f"{file}: masks have no channel number; rename it to {bare}{ending}"
    near = nearest(name, unlabeled)
    return f"{file}: imagesUn has no case {name}{near}; rename the mask as its images, without channel number"


def _split_faults(names: set[str], raw: RawDataset) -> Iterator[str]:
    """Cases that a fold calls unlabelled although it will learn from their masks."""
    folder = raw.preprocessed_folder()
    for i, fold in enumerate((folder and read_splits(folder)) or []):
        if both := sorted(names & set(fold.get("unlabeled", []))):
            where = f"{folder}/splits_final.json names {few(both)} under 'unlabeled' in fold {i}"
            yield f"{where}; remove the names there first"


def check_scans(raw: RawDataset, scans: Sequence[Scan], *, num_processes: int, progress: bool) -> list[str]:
    """Read the images and masks of all scans.

    Returns:
        What is worth a look but no fault, in whole sentences.

    Raises:
        UserError: files that cannot be read, grids that differ in size, spacing, origin or direction, or values that
            dataset.json does not name; all of them.
    """
    check = partial(_check_scan, raw=raw)
    results = map_cases(check, scans, num_processes=num_processes, description="checking masks", progress=progress)
    refuse([fault for faults, _ in results for fault in faults])
    return [warning for _, warnings in results for warning in warnings]


def _check_scan(scan: Scan, raw: RawDataset) -> tuple[list[str], list[str]]:
    """Faults and warnings of one scan."""
    try:
        volumes = read_files(scan, raw.dataset_json)
    except UserError as error:
        return [str(error)], []
    assert scan.mask is not None
    name = f"{scan.mask.parent.name}/{scan.mask.name} "
    # nnU-Net takes channels whose positions differ among themselves, so only the mask's position is a fault
    findings = file_findings(scan, volumes, raw.n_channels)
    faults = [f"{i.message}; {i.fix}" for i in findings if i.severity == "error" or i.message.startswith(name)]
    if faults:
        return faults, []
    values, allowed = set(np.unique(volumes[-1].voxels).tolist()), label_values(raw.dataset_json)
    if wrong := sorted(values - {*allowed}):
        found = few(f"{value:g}" for value in wrong)
        return [f"{scan.mask} has the values {found}; dataset.json names {few(allowed)}: correct the mask"], []
    if not values & {*raw.foreground_values()}:
        return [], [f"{scan.mask} has no foreground; if that is not true, correct labelsTr/{scan.mask.name}"]
    return [], []


def refuse(faults: Sequence[str]) -> None:
    """Raise a UserError that names the faults, if there are any."""
    if faults:
        raise UserError("nothing was moved:\n" + "\n".join(f"  {fault}" for fault in faults))
