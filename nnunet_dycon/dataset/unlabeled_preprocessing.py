"""Preprocessing of unlabelled scans by nnU-Net's own preprocessor, without a label file."""

from __future__ import annotations

import hashlib
import json
import os
import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_dycon.dataset.preprocessed_files import is_whole, open_image
from nnunet_dycon.dataset.scan_checks import check_scan
from nnunet_dycon.dataset.unlabeled_scans import (
    configuration_of,
    find_raw_scans,
    preprocessed_unlabeled_folder,
    raw_unlabeled_folder,
)
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import read_json_object
from nnunet_dycon.files.pool import completed
from nnunet_dycon.files.whole_files import partial_folder, remove_leftovers

# What a preprocessed scan depends on; patch size, batch size and network may change without it.
_PLANS_KEYS = ("transpose_forward", "image_reader_writer", "foreground_intensity_properties_per_channel")
_CONFIGURATION_KEYS = (
    "preprocessor_name",
    "spacing",
    "normalization_schemes",
    "use_mask_for_norm",
    "resampling_fn_data",
    "resampling_fn_data_kwargs",
)


def preprocessing_fingerprint(plans: PlansManager, configuration_name: str) -> str:
    """Hash of everything in the plans that the preprocessed images depend on."""
    configuration = plans.get_configuration(configuration_name).configuration
    relevant = [
        {key: plans.plans.get(key) for key in _PLANS_KEYS},
        {key: configuration.get(key) for key in _CONFIGURATION_KEYS},
    ]
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()


def preprocess_unlabeled(
    dataset_name: str,
    configuration_name: str,
    plans: dict,
    dataset_json: dict,
    preprocessed_dataset_folder: str | Path,
    *,
    num_processes: int,
    progress: bool = True,
) -> list[str]:
    """Preprocess what is missing or outdated of a dataset's ``imagesUn``.

    A case is done when its ``CASE.json`` is there and names the present plans and source files; it is written last.
    Without ``imagesUn`` on this machine the cases preprocessed earlier with the same plans are taken. Several
    processes may do it at the same time, as trainings of several folds do: they share the work.

    Args:
        dataset_name: DatasetXXX_Name.
        configuration_name: such as 3d_fullres.
        plans: content of the plans file.
        dataset_json: content of dataset.json.
        preprocessed_dataset_folder: folder of the configuration's labelled cases.
        num_processes: worker processes.
        progress: show a progress bar.

    Returns:
        Names of the cases that are ready, sorted.

    Raises:
        UserError: wrong files in imagesUn, or cases that cannot be preprocessed; the other cases are kept.
    """
    manager = PlansManager(plans)
    configuration_of(manager, configuration_name)
    folder = preprocessed_unlabeled_folder(preprocessed_dataset_folder)
    fingerprint = preprocessing_fingerprint(manager, configuration_name)
    raw_folder = raw_unlabeled_folder(dataset_name)
    if raw_folder is None:
        return _cases_without_raw_images(folder, fingerprint)
    scans = find_raw_scans(raw_folder, dataset_json, manager)
    wanted = {case: {"plans": fingerprint, "files": _signature(files)} for case, files in scans.items()}
    remove_leftovers(folder)
    todo = [case for case in scans if not _is_done(folder, case, wanted[case])]
    if todo:
        random.Random().shuffle(todo)  # so that processes that start together work on different cases
        jobs = [(case, [str(i) for i in scans[case]], str(folder), wanted[case]) for case in todo]
        _run(jobs, plans, configuration_name, dataset_json, num_processes, progress)
    return sorted(scans)


def _is_done(folder: Path, case: str, wanted: dict) -> bool:
    """Whether a case is there, made with the wanted plans from the wanted files."""
    return _record(folder / f"{case}.json") == wanted and is_whole(folder / f"{case}.b2nd")


def _signature(files: list[Path]) -> list[list[Any]]:
    """Name, size and time of change of source files: replaced scans are preprocessed again."""
    spacing = files[0].with_name(files[0].name.rpartition("_")[0] + ".json")  # beside .tif files
    sources = [*files, spacing] if spacing.is_file() else files
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in sources]


def _cases_without_raw_images(folder: Path, fingerprint: str) -> list[str]:
    """Cases preprocessed earlier; a UserError if their plans were others, as they cannot be made anew."""
    records = _records(folder)
    stale = sorted(case for case, record in records.items() if record.get("plans") != fingerprint)
    if stale:
        raise UserError(
            f"{len(stale)} cases in {folder} were preprocessed with other plans, first {stale[0]}, and their raw "
            "images are not here. Run nnunet-dycon preprocess where imagesUn is, or delete them if they are not wanted"
        )
    return sorted(records)


def _records(folder: Path) -> dict[str, dict]:
    """What is recorded of the preprocessed cases."""
    return {file.stem: record for file in folder.glob("*.json") if (record := _record(file)) is not None}


def _record(file: Path) -> dict | None:
    """A case's record; one that is missing or unreadable is none."""
    try:
        return read_json_object(file, "preprocess again")
    except UserError:
        return None


def _run(
    jobs: list[tuple], plans: dict, configuration_name: str, dataset_json: dict, num_processes: int, progress: bool
) -> None:
    """Preprocess cases side by side; errors are collected so that no other case is lost."""
    failures = []
    done = completed(
        partial(_preprocess_case, plans=plans, configuration_name=configuration_name, dataset_json=dataset_json),
        jobs,
        num_processes=num_processes,
        description="Preprocessing unlabelled cases",
        progress=progress,
    )
    for i, future in done:
        if (error := future.exception()) is not None:
            failures.append(f"{jobs[i][0]}: {str(error) or type(error).__name__}")
    if failures:
        raise UserError(
            f"{len(failures)} of {len(jobs)} unlabelled cases could not be preprocessed. Correct what follows, or "
            "remove their images from imagesUn, and run the same command again (finished cases are kept):\n"
            + "\n".join(sorted(failures))
        )


def _preprocess_case(job: tuple, *, plans: dict, configuration_name: str, dataset_json: dict) -> None:
    """Preprocess one case in a temporary folder and move its image, then its record, to their places."""
    case, files, folder, record = job
    manager = PlansManager(plans)
    configuration = manager.get_configuration(configuration_name)
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    if _is_done(target, case, record):  # by another process, meanwhile
        return
    (target / f"{case}.json").unlink(missing_ok=True)
    check_scan(files, manager, configuration, dataset_json)
    with partial_folder(target, case) as temporary:
        preprocessor = configuration.preprocessor_class(verbose=False)
        preprocessor.run_case_save(str(temporary / case), files, None, manager, configuration, dataset_json)
        image = temporary / f"{case}.b2nd"
        _check_image(open_image(image)[:])
        (temporary / "record.json").write_text(json.dumps(record), encoding="utf-8")
        if _is_done(target, case, record):
            return
        os.replace(image, target / image.name)
        os.replace(temporary / "record.json", target / f"{case}.json")


def _check_image(image: np.ndarray) -> None:
    """Raise a UserError unless all voxels of a preprocessed image are finite."""
    if not np.isfinite(image.sum(dtype=np.float64)):
        raise UserError("preprocessing made voxels that are NaN or infinite; look at the scan's intensities")
