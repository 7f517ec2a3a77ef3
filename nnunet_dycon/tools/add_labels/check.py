"""Are the masks fit to be training labels? Everything is checked before anything is moved."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_dycon.dataset.raw_dataset import RawDataset, label_values
from nnunet_dycon.dataset.reading import reader_of
from nnunet_dycon.dataset.splits import read_splits
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.pool import map_cases
from nnunet_dycon.tools.audit.scans import Scan, read_scan

# What nnU-Net leaves beside its predictions, which are often what is corrected by hand.
_NNUNET_FILES = ("dataset.json", "plans.json", "predict_from_raw_data_args.json")


@dataclass(frozen=True)
class NewCase:
    """A case of imagesUn with its new mask.

    Attributes:
        name: of the case.
        images: channel files in imagesUn, in order.
        mask: file in the user's folder.
    """

    name: str
    images: list[Path]
    mask: Path


def find_new_cases(raw: RawDataset, masks: Path, done: Collection[str] = ()) -> list[NewCase]:
    """The cases that a folder of masks is for, judged by the names.

    Args:
        raw: the dataset.
        masks: the folder.
        done: cases whose masks are left out, because they have just been moved.

    Raises:
        UserError: no mask, or files that do not belong to one unlabelled case each; all of them are named.
    """
    masks = masks.resolve()
    if not masks.is_dir():
        raise UserError(f"{masks} is no folder; give the folder with the new masks CASE{raw.file_ending}")
    if masks.is_relative_to(raw.folder.resolve()):
        raise UserError(f"{masks} lies in the dataset; put the new masks into a folder outside {raw.folder}")
    files = [i for i in sorted(masks.iterdir()) if not i.name.startswith(".") and i.name not in _NNUNET_FILES]
    found = [file for file in files if file.is_file() and file.name.endswith(raw.file_ending)]
    names = {file.name.removesuffix(raw.file_ending): file for file in found}
    sidecars = {f"{name}.json" for name in names}  # spacing of TIFF files
    if not names:
        raise UserError(f"{masks} holds no mask named CASE{raw.file_ending}, which is the dataset's file ending")
    names = {name: file for name, file in names.items() if name not in done}
    faults = [_stranger(file, raw) for file in files if file not in found and file.name not in sidecars]
    parts = {part: raw.images(part) for part in ("Un", "Tr", "Ts")}
    faults += [fault for name, file in names.items() if (fault := _name_fault(name, file, raw, parts))]
    faults += _split_faults(list(names), raw)
    if faults:
        raise UserError(_nothing_moved(faults))
    return [NewCase(name, parts["Un"][name], file) for name, file in names.items()]


def _stranger(file: Path, raw: RawDataset) -> str:
    return f"{file} is no mask CASE{raw.file_ending}; convert it or take it out of the folder"


def _name_fault(name: str, file: Path, raw: RawDataset, parts: dict[str, dict[str, list[Path]]]) -> str | None:
    """Why a mask can not be that of an unlabelled case; None if it can."""
    for part, role in (("Tr", "labelled already"), ("Ts", "a test case")):
        if name in parts[part]:
            return f"{file}: case {name} is {role} (images{part}); take the mask out of the folder"
    if (raw.folder / "labelsTr" / file.name).exists():
        return f"{file}: labelsTr/{file.name} exists already; remove one of the two"
    if name in parts["Un"]:
        expected = [f"{name}_{i:04d}{raw.file_ending}" for i in range(len(parts["Un"][name]))]
        if [image.name for image in parts["Un"][name]] == expected:
            return None
        return (
            f"case {name} has the channel files {', '.join(i.name for i in parts['Un'][name])}; number them from 0000"
        )
    if name.endswith("_0000") and name.removesuffix("_0000") in parts["Un"]:
        return f"{file}: masks have no channel number; rename it to {name.removesuffix('_0000')}{raw.file_ending}"
    near = difflib.get_close_matches(name, parts["Un"], n=1)
    hint = f" (nearest name: {near[0]})" if near else ""
    return f"{file}: imagesUn has no case {name}{hint}; rename the mask as its images, without channel number"


def _split_faults(names: Sequence[str], raw: RawDataset) -> list[str]:
    """Cases that a fold calls unlabelled although it will learn from their masks."""
    folder = raw.preprocessed_folder()
    faults = []
    for i, fold in enumerate((folder and read_splits(folder)) or []):
        both = sorted(set(names) & set(fold.get("unlabeled", [])))
        if both:
            file = folder / "splits_final.json" if folder else "splits_final.json"
            faults.append(f"{file} names {', '.join(both)} under 'unlabeled' in fold {i}; remove the names there first")
    return faults


def check_cases(raw: RawDataset, cases: Sequence[NewCase], *, num_processes: int, progress: bool) -> list[str]:
    """Read the images and masks of all cases.

    Returns:
        What is worth a look but no fault, in whole sentences.

    Raises:
        UserError: files that cannot be read, grids that differ in size, spacing, origin or direction, or values that
            dataset.json does not name; all of them.
    """
    results = map_cases(
        partial(_check_case, raw=raw),
        cases,
        num_processes=num_processes,
        description="checking masks",
        progress=progress,
    )
    faults = [fault for faults, _ in results for fault in faults]
    if faults:
        raise UserError(_nothing_moved(faults))
    return [warning for _, warnings in results for warning in warnings]


def _check_case(case: NewCase, raw: RawDataset) -> tuple[list[str], list[str]]:
    """Faults and warnings of one case."""
    scan = Scan("Un", case.name, case.images, case.mask)
    # no signature is compared here, so its voxel size (4, a coarse one) does not matter
    content = read_scan(scan, raw.dataset_json, raw.n_channels, raw.foreground_values(), 4.0)
    mask = f"{case.mask.parent.name}/{case.mask.name} "
    # nnU-Net takes channels whose positions differ among themselves, so only the mask's position is a fault
    faults = [i for i in content.findings if i.severity == "error" or i.message.startswith(mask)]
    if faults:
        return [f"{i.message}; {i.fix}" for i in faults], []
    voxels = _read_mask(case.mask, raw.dataset_json)
    allowed = label_values(raw.dataset_json)
    wrong = sorted(set(np.unique(voxels).tolist()) - set(allowed))
    if wrong:
        shown = ", ".join(f"{value:g}" for value in wrong[:5]) + (" ..." if len(wrong) > 5 else "")
        known = ", ".join(map(str, allowed))
        return [f"{case.mask} has the values {shown}; dataset.json names {known}: correct the mask"], []
    if not np.isin(voxels, raw.foreground_values()).any():
        return [], [f"{case.mask} has no foreground; if that is not true, correct labelsTr/{case.mask.name}"]
    return [], []


def _read_mask(file: Path, dataset_json: dict[str, Any]) -> np.ndarray:
    return reader_of(file, dataset_json).read_seg(str(file))[0]


def _nothing_moved(faults: Sequence[str]) -> str:
    return "nothing was moved:\n" + "\n".join(f"  {fault}" for fault in faults)
