"""Carrying out a plan: in parallel, resumable, each case whole or not at all."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import SimpleITK as sitk

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.pool import completed
from nnunet_dycon.files.whole_files import partial_folder, remove_leftovers, whole
from nnunet_dycon.tools.convert.plan import CasePlan, DatasetPlan
from nnunet_dycon.tools.convert.record import Conversion

FILE_ENDING = ".nii.gz"


def convert(plan: DatasetPlan, folder: Path, *, num_processes: int = 1, progress: bool = False) -> Conversion:
    """Write the cases of a plan as a complete nnU-Net raw dataset.

    A case that fails does not stop the others. A case that an earlier run converted from the same files (size and
    time of change) with the same parameters is left as it is. One conversion at a time into a folder.

    Args:
        plan: From ``la.plan`` and its sisters.
        folder: ``nnUNet_raw/DatasetNNN_Name``, new or made by an earlier run.
        num_processes, progress: As for ``files.pool.completed``.

    Raises:
        UserError: The folder belongs to another dataset.
    """
    conversion = Conversion(plan, folder)
    for subfolder in ("imagesTr", "labelsTr"):
        (folder / subfolder).mkdir(exist_ok=True)
    remove_leftovers(folder)
    waiting = _without_current(conversion)
    work = partial(_convert_case, folder=folder)
    outcomes = completed(work, waiting, num_processes=num_processes, description="convert", progress=progress)
    for i, future in outcomes:
        if isinstance(error := future.exception(), UserError):
            conversion.failures[waiting[i].name] = str(error)
        else:
            conversion.add(waiting[i], future.result())
    if conversion.cases:
        _write_dataset_json(plan, folder, len(conversion.cases))
    conversion.save(skipped=plan.skipped, failures=conversion.failures, missing=conversion.missing)
    return conversion


def _without_current(conversion: Conversion) -> list[CasePlan]:
    """The cases still to be converted; what an earlier run made of them, or of cases that now fail, is removed."""
    plan = conversion.plan

    def files(name: str) -> list[Path]:
        return _case_files(conversion.folder, name, len(plan.channel_names))

    waiting = [
        case for case in plan.cases if not (conversion.is_current(case) and all(i.exists() for i in files(case.name)))
    ]
    unwanted = {*plan.failures, *plan.skipped} & conversion.cases.keys()
    for name in [*(case.name for case in waiting), *unwanted]:
        conversion.remove(name)
        for path in reversed(files(name)):
            path.unlink(missing_ok=True)
    return waiting


def _case_files(folder: Path, name: str, num_channels: int) -> list[Path]:
    """The files of a case in the order in which they appear: the label first.

    A conversion that is killed in between leaves at most a label without an image, which nnU-Net does not see.
    """
    images = [folder / "imagesTr" / f"{name}_{channel:04d}{FILE_ENDING}" for channel in range(num_channels)]
    return [folder / "labelsTr" / f"{name}{FILE_ENDING}", *images]


def _convert_case(case: CasePlan, folder: Path) -> list[str]:
    """Convert one case, whose files get their names only when all of them are complete; its notes."""
    try:
        volumes = case.load(**case.sources, **case.parameters)
        targets = _case_files(folder, case.name, len(volumes.channels))
        with partial_folder(folder, case.name) as temporary:
            for image, target in zip([volumes.label, *volumes.channels], targets, strict=True):
                sitk.WriteImage(image, str(temporary / target.name), useCompression=True)
            for target in targets:
                os.replace(temporary / target.name, target)
    except (OSError, MemoryError, RuntimeError) as error:  # RuntimeError: ITK cannot write
        reason = (str(error).strip().splitlines() or ["no reason is given"])[-1]
        raise UserError(f"{type(error).__name__}: {reason}; correct it and repeat the command") from error
    return volumes.notes


def _write_dataset_json(plan: DatasetPlan, folder: Path, num_cases: int) -> None:
    from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json

    with whole(folder / "dataset.json") as partial_file:
        generate_dataset_json(
            str(partial_file.parent),
            channel_names=dict(enumerate(plan.channel_names)),
            labels=dict(plan.labels),
            num_training_cases=num_cases,
            file_ending=FILE_ENDING,
            regions_class_order=plan.regions_class_order,
            dataset_name=folder.name.split("_", 1)[-1],
            reference=plan.benchmark.reference,
            description=f"{plan.benchmark.name}, converted from {plan.layout}",
            license="see reference",
            converted_by="nnunet-dycon convert",
        )
