"""Where the unlabelled scans of a dataset are: raw images in ``imagesUn`` and what was made of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_raw
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_dycon.dataset.commands import planning
from nnunet_dycon.dataset.raw_dataset import channel_files, channel_names, scans_in
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import read_json_object
from nnunet_dycon.files.text import few

# The reader whose files hold all channels (RGB), so that a case is one file whatever its number of channels.
_READER_OF_ALL_CHANNELS = "NaturalImage2DIO"


def raw_unlabeled_folder(dataset_name: str) -> Path | None:
    """``nnUNet_raw/DATASET/imagesUn``, None where it or nnUNet_raw is missing; a UserError where it is no folder."""
    if not nnUNet_raw.is_set():
        return None
    folder = Path(nnUNet_raw) / dataset_name / "imagesUn"
    if not folder.is_dir() and os.path.lexists(folder):
        raise UserError(f"{folder} is no folder, or a link that leads nowhere; put the unlabelled scans into a folder")
    return folder if folder.is_dir() else None


def preprocessed_unlabeled_folder(preprocessed_dataset_folder: str | Path) -> Path:
    """Folder beside a configuration's preprocessed labelled cases that holds the unlabelled ones."""
    folder = Path(preprocessed_dataset_folder)
    return folder.with_name(folder.name + "_unlabeled")


def find_raw_scans(folder: Path, dataset_json: dict, plans: PlansManager) -> dict[str, list[Path]]:
    """Image files of each case in a folder such as ``imagesUn``, as ``scans_in`` has them.

    Raises:
        UserError: files with a wrong name, broken links, cases with missing or superfluous channels, or in two folders.
    """
    ending = dataset_json["file_ending"]
    cases, others = scans_in(folder, ending)
    if strangers := [path.relative_to(folder) for path in others if path.is_file() or path.parent != folder]:
        raise UserError(
            f"{folder} holds files that are not named CASE_0000{ending}: {few(strangers)}. "
            "Rename or remove them; every case needs the dataset's file ending (small letters count) and a four-digit "
            "channel number"
        )
    _check_files(cases, folder, dataset_json, plans)
    return cases


def _check_files(cases: dict[str, list[Path]], folder: Path, dataset_json: dict, plans: PlansManager) -> None:
    if broken := [path.name for paths in cases.values() for path in paths if not path.is_file()]:
        raise UserError(f"{folder} holds folders or broken links in place of files: {few(broken)}. Remove them")
    ending, one_file = dataset_json["file_ending"], plans.plans["image_reader_writer"] == _READER_OF_ALL_CHANNELS
    n = 1 if one_file else len(channel_names(dataset_json))
    if wrong := [i for i, paths in cases.items() if [path.name for path in paths] != channel_files(i, n, ending)]:
        raise UserError(
            f"cases in {folder} do not have the {n} channel file(s) 0000 to {n - 1:04d} that "
            f"dataset.json names: {few(wrong)}. Add or remove channel files"
        )


def source_of(files: Sequence[Path]) -> str:
    """Name of the folder in imagesUn where a scan lies; empty for imagesUn itself."""
    return "" if (folder := files[0].parent).name == "imagesUn" else folder.name


def record_of(image: Path) -> dict[str, Any]:
    """What a preprocessed scan of imagesUn was made from, written beside it; empty where missing or unreadable."""
    try:
        return read_json_object(image.with_suffix(".json"), "preprocess again")
    except UserError:
        return {}


def cases_of_images_un(dataset_name: str, dataset_json: dict, plans: PlansManager, folder: Path) -> dict[str, str]:
    """The cases of imagesUn, as ``find_raw_scans`` has them, with their sources; without it those preprocessed."""
    if raw_folder := raw_unlabeled_folder(dataset_name):
        return {case: source_of(files) for case, files in find_raw_scans(raw_folder, dataset_json, plans).items()}
    records = sorted(preprocessed_unlabeled_folder(folder).glob("*.json"))
    return {file.stem: str(record_of(file).get("source", "")) for file in records}


def sources_text(sources: Mapping[str, str]) -> str:
    """`` from 2 sources: site_a (12), site_b (30)`` of sources by case; empty where all lie in imagesUn itself."""
    if not any(sources.values()):
        return ""
    counts = Counter(source or "imagesUn" for source in sources.values())
    return f" from {len(counts)} sources: " + ", ".join(f"{source} ({n})" for source, n in sorted(counts.items()))


def read_plans(file: Path) -> dict:
    """Content of ``nnUNet_preprocessed/DATASET/PLANS.json``; a UserError where it lacks what preprocessing needs."""
    fix = f"run {planning(file.parent.name, file.stem)}"
    if not file.is_file():
        others = sorted(i.stem for i in file.parent.glob("*lans*.json") if i != file)
        raise UserError(
            f"{file} is missing; {fix} first" + (f", or choose plans that are there: {few(others)}" if others else "")
        )
    plans = read_json_object(file, fix)
    needed = ("plans_name", "configurations", "image_reader_writer", "transpose_forward")
    if missing := [key for key in needed if key not in plans]:
        raise UserError(f"{file} lacks {' and '.join(missing)}; {fix}")
    return plans


def configuration_of(plans: PlansManager, name: str) -> ConfigurationManager:
    """The configuration ``name`` of the plans; a UserError where they have none of this name."""
    if name not in plans.available_configurations:
        raise UserError(
            f"the plans {plans.plans_name} have no configuration {name!r}; they have "
            f"{', '.join(plans.available_configurations)}"
        )
    return plans.get_configuration(name)
