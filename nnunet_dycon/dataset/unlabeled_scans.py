"""Where the unlabelled scans of a dataset are: raw images in ``imagesUn`` and what was made of them."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path

from nnunetv2.paths import nnUNet_raw
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_dycon.dataset.raw_dataset import channel_names
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import read_json_object
from nnunet_dycon.files.text import few

# The reader whose files hold all channels (RGB), so that a case is one file whatever its number of channels.
_READER_OF_ALL_CHANNELS = "NaturalImage2DIO"


def raw_unlabeled_folder(dataset_name: str) -> Path | None:
    """``nnUNet_raw/DATASET/imagesUn``, or None where it or nnUNet_raw is missing (as on training-only machines).

    Raises:
        UserError: ``imagesUn`` is there, but no folder.
    """
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
    """Image files of each case in ``imagesUn``, channels in order.

    Args:
        folder: imagesUn.
        dataset_json: the dataset's dataset.json, for file ending and channels.
        plans: the dataset's plans, for the image reader.

    Returns:
        Files by case name, sorted by name.

    Raises:
        UserError: files with a wrong name, broken links, or cases with missing or superfluous channels.
    """
    ending = dataset_json["file_ending"]
    pattern = re.compile(rf"(.+)_(\d{{4}}){re.escape(ending)}")
    cases: dict[str, dict[int, Path]] = defaultdict(dict)
    strangers = []
    for file in _content(folder):
        match = pattern.fullmatch(file.name)
        if match:
            cases[match[1]][int(match[2])] = file
        elif file.is_file() and not file.name.startswith("."):
            strangers.append(file.name)
    strangers = [name for name in strangers if name not in {f"{case}.json" for case in cases}]  # spacing of .tif files
    if strangers:
        raise UserError(
            f"{folder} holds files that are not named CASE_0000{ending}: {few(strangers)}. "
            "Rename or remove them; every case needs the dataset's file ending and a four-digit channel number"
        )
    broken = [i.name for files in cases.values() for i in files.values() if not i.is_file()]
    if broken:
        raise UserError(f"{folder} holds folders or broken links in place of files: {few(broken)}. Remove them")
    num_channels = len(channel_names(dataset_json))
    num_files = 1 if plans.plans["image_reader_writer"] == _READER_OF_ALL_CHANNELS else num_channels
    wrong = [case for case, files in cases.items() if sorted(files) != list(range(num_files))]
    if wrong:
        raise UserError(
            f"cases in {folder} do not have the {num_files} channel file(s) 0000 to {num_files - 1:04d} that "
            f"dataset.json names: {few(wrong)}. Add or remove channel files"
        )
    return {case: [files[channel] for channel in sorted(files)] for case, files in cases.items()}


def _content(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}); see to its permissions") from error


def read_plans(file: Path) -> dict:
    """Content of a plans file.

    Raises:
        UserError: it is no JSON object, or lacks what preprocessing needs.
    """
    fix = "run nnUNetv2_plan_experiment again"
    plans = read_json_object(file, fix)
    needed = ("plans_name", "configurations", "image_reader_writer", "transpose_forward")
    missing = [key for key in needed if key not in plans]
    if missing:
        raise UserError(f"{file} lacks {' and '.join(missing)}; {fix}")
    return plans


def configuration_of(plans: PlansManager, name: str) -> ConfigurationManager:
    """The configuration ``name`` of the plans.

    Raises:
        UserError: the plans have no such configuration.
    """
    if name not in plans.available_configurations:
        raise UserError(
            f"the plans {plans.plans_name} have no configuration {name!r}; they have "
            f"{', '.join(plans.available_configurations)}"
        )
    return plans.get_configuration(name)
