"""Writing a case and dataset.json in nnU-Net's raw format, whole or not at all."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import SimpleITK as sitk

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.whole_files import partial_folder, remove_leftovers, whole
from nnunet_dycon.tools.convert.plan import CaseVolumes, DatasetPlan

FILE_ENDING = ".nii.gz"


def case_files(folder: Path, name: str, num_channels: int) -> list[Path]:
    """The files of a case in the order in which they appear: the label first.

    A conversion that is killed in between leaves at most a label without an image, which nnU-Net does not see.
    """
    images = [folder / "imagesTr" / f"{name}_{channel:04d}{FILE_ENDING}" for channel in range(num_channels)]
    return [folder / "labelsTr" / f"{name}{FILE_ENDING}", *images]


def write_case(volumes: CaseVolumes, folder: Path, name: str) -> None:
    """Write label and channels; they get their names only when all of them are complete.

    Raises:
        UserError: The disk does not take them.
    """
    targets = case_files(folder, name, len(volumes.channels))
    try:
        with partial_folder(folder, name) as partial:
            temporary = [partial / target.name for target in targets]
            for image, path in zip([volumes.label, *volumes.channels], temporary, strict=True):
                sitk.WriteImage(image, str(path), useCompression=True)
            for path, target in zip(temporary, targets, strict=True):
                os.replace(path, target)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"cannot write to {folder} ({reason}); is the disk full?") from error


def remove_case(folder: Path, name: str, num_channels: int) -> None:
    """Remove the files of a case, its images first."""
    for path in reversed(case_files(folder, name, num_channels)):
        path.unlink(missing_ok=True)


def prepare_folder(folder: Path) -> None:
    """Make the subfolders and remove what a killed conversion left unfinished."""
    for subfolder in ("imagesTr", "labelsTr"):
        (folder / subfolder).mkdir(exist_ok=True)
    remove_leftovers(folder)


def write_dataset_json(plan: DatasetPlan, folder: Path, num_cases: int) -> None:
    """Write dataset.json as nnU-Net's own helper does."""
    from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json

    with whole(folder / "dataset.json") as partial:
        generate_dataset_json(
            str(partial.parent),
            channel_names=dict(plan.channel_names),
            labels=copy.deepcopy(dict(plan.labels)),
            num_training_cases=num_cases,
            file_ending=FILE_ENDING,
            regions_class_order=plan.regions_class_order,
            dataset_name=folder.name.split("_", 1)[-1],
            reference=plan.reference,
            description=f"{plan.dataset}, converted from {plan.layout}",
            license="see reference",
            converted_by="nnunet-dycon convert",
        )
