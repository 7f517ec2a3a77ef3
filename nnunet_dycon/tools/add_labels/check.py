"""Are the masks fit to be training labels? Everything is checked before anything is moved."""

from __future__ import annotations

import difflib
import filecmp
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nnunet_dycon.dataset.raw_dataset import RawDataset, channel_files, label_values
from nnunet_dycon.dataset.reading import read_volume, reader_of
from nnunet_dycon.dataset.splits import read_splits
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.pool import map_cases
from nnunet_dycon.files.text import few
from nnunet_dycon.tools.audit.scans import Scan, read_scan

# What nnU-Net leaves beside its predictions, which are often what is corrected by hand.
_NNUNET_FILES = ("dataset.json", "plans.json", "predict_from_raw_data_args.json")


@dataclass(frozen=True)
class NewCase:
    """A case of imagesUn with its new mask.

    Attributes:
        name: of the case.
        images: channel files that are in imagesUn still, in order.
        mask: file in the user's folder.
        is_begun: whether an earlier run has copied this mask to labelsTr, after it was checked.
    """

    name: str
    images: list[Path]
    mask: Path
    is_begun: bool

    @property
    def is_done(self) -> bool:
        """Whether an earlier run has moved the images, too, which is the last step."""
        return self.is_begun and not self.images


def find_new_cases(raw: RawDataset, masks: Path) -> list[NewCase]:
    """The cases that a folder of masks is for, judged by the names.

    Args:
        raw: the dataset.
        masks: the folder.

    Raises:
        UserError: no mask, or files that do not belong to one unlabelled case each; all of them are named.
    """
    masks = masks.resolve()
    if not masks.is_dir():
        raise UserError(f"{masks} is no folder; give the folder with the new masks CASE{raw.file_ending}")
    if masks.is_relative_to(raw.folder.resolve()):
        raise UserError(f"{masks} lies in the dataset; put the new masks into a folder outside {raw.folder}")
    names, strangers = _content(masks, raw.file_ending)
    unlabeled = raw.images("Un")
    cases = [NewCase(i, unlabeled.get(i, []), file, _is_begun(i, file, raw)) for i, file in names.items()]
    faults = [f"{i} is no mask CASE{raw.file_ending}; convert it or take it out of the folder" for i in strangers]
    faults += [fault for case in cases if not case.is_begun and (fault := _name_fault(case, raw))]
    faults += _split_faults(list(names), raw)
    if faults:
        raise UserError(_nothing_moved(faults))
    return cases


def _content(masks: Path, ending: str) -> tuple[dict[str, Path], list[Path]]:
    """Masks by case, and files that are none; TIFF masks have their spacing in ``CASE.json``."""
    files = [i for i in sorted(masks.glob("[!.]*")) if i.name not in _NNUNET_FILES]
    names = {i.name.removesuffix(ending): i for i in files if i.is_file() and i.name.endswith(ending)}
    if not names:
        raise UserError(f"{masks} holds no mask named CASE{ending}, which is the dataset's file ending")
    known = {*names.values(), *(masks / f"{name}.json" for name in names)}
    return names, sorted({*files} - known)


def _is_begun(name: str, mask: Path, raw: RawDataset) -> bool:
    """Whether labelsTr has this very mask, of a case that is, or was, in imagesUn."""
    label = raw.folder / "labelsTr" / mask.name
    return label.is_file() and filecmp.cmp(label, mask, shallow=False) and name not in raw.images("Ts")


def _name_fault(case: NewCase, raw: RawDataset) -> str | None:
    """Why a mask can not be that of an unlabelled case; None if it can."""
    name, file = case.name, case.mask
    for part, role in (("Tr", "labelled already"), ("Ts", "a test case")):
        if name in raw.images(part):
            return f"{file}: case {name} is {role} (images{part}); take the mask out of the folder"
    if (raw.folder / "labelsTr" / file.name).exists():
        return f"{file}: labelsTr/{file.name} exists already; remove one of the two"
    if case.images:
        found = [image.name for image in case.images]
        if found == channel_files(name, len(found), raw.file_ending):
            return None
        return f"case {name} has the channel files {few(found)}; number them from 0000"
    unlabeled = raw.images("Un")
    if name.endswith("_0000") and name.removesuffix("_0000") in unlabeled:
        return f"{file}: masks have no channel number; rename it to {name.removesuffix('_0000')}{raw.file_ending}"
    near = difflib.get_close_matches(name, unlabeled, n=1)
    hint = f" (nearest name: {near[0]})" if near else ""
    return f"{file}: imagesUn has no case {name}{hint}; rename the mask as its images, without channel number"


def _split_faults(names: Sequence[str], raw: RawDataset) -> list[str]:
    """Cases that a fold calls unlabelled although it will learn from their masks."""
    folder = raw.preprocessed_folder()
    splits = read_splits(folder) if folder is not None else None
    return [
        f"{folder}/splits_final.json names {few(both)} under 'unlabeled' in fold {i}; remove the names there first"
        for i, fold in enumerate(splits or [])
        if (both := sorted(set(names) & set(fold.get("unlabeled", []))))
    ]


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
    voxels = read_volume(case.mask, reader_of(case.mask, raw.dataset_json), is_mask=True)[0]
    allowed = label_values(raw.dataset_json)
    wrong = sorted(set(np.unique(voxels).tolist()) - set(allowed))
    if wrong:
        values = few(f"{value:g}" for value in wrong)
        return [f"{case.mask} has the values {values}; dataset.json names {few(allowed)}: correct the mask"], []
    if not content.has_foreground:
        return [], [f"{case.mask} has no foreground; if that is not true, correct labelsTr/{case.mask.name}"]
    return [], []


def _nothing_moved(faults: Sequence[str]) -> str:
    return "nothing was moved:\n" + "\n".join(f"  {fault}" for fault in faults)
