"""Preprocessing of unlabelled scans by nnU-Net's own preprocessor, without a label file."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_dycon.dataset.comparison import LABELED, compare, copies
from nnunet_dycon.dataset.preprocessed_files import is_whole, open_image
from nnunet_dycon.dataset.raw_dataset import RawDataset
from nnunet_dycon.dataset.reading import sheared_affines_mended
from nnunet_dycon.dataset.scan_files import check_scan
from nnunet_dycon.dataset.unlabeled_scans import (
    find_raw_scans,
    preprocessed_unlabeled_folder,
    raw_unlabeled_folder,
    record_of,
    source_of,
)
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import write_json
from nnunet_dycon.files.pool import completed
from nnunet_dycon.files.text import by_text, few
from nnunet_dycon.files.whole_files import check_writable, partial_folder, remove_leftovers

# What a preprocessed scan depends on; patch size, batch size and network may change without it.
_PLANS_KEYS = ("transpose_forward", "image_reader_writer", "foreground_intensity_properties_per_channel")
_CONFIGURATION_KEYS = (
    "preprocessor_name", "spacing", "normalization_schemes", "use_mask_for_norm", "resampling_fn_data",
    "resampling_fn_data_kwargs",
)  # fmt: skip


class _Job(NamedTuple):
    """A case to be preprocessed; the record of what it is made from is written last."""

    files: list[Path]
    image: Path
    record: dict[str, Any]

    def is_done(self) -> bool:
        """Whether the case is there, made with these plans from these files; a new source is written down."""
        found = record_of(self.image)
        done = all(found.get(key) == self.record[key] for key in ("plans", "files")) and is_whole(self.image)
        if done and found != self.record:
            write_json(self.record, self.image.with_suffix(".json"))
        return done


def preprocessing_fingerprint(plans: PlansManager, configuration_name: str) -> str:
    """Hash of everything in the plans that the preprocessed images depend on."""
    configuration = plans.get_configuration(configuration_name).configuration
    relevant = [{i: plans.plans.get(i) for i in _PLANS_KEYS}, {i: configuration.get(i) for i in _CONFIGURATION_KEYS}]
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
    tell: Callable[[str], Any] = print,
) -> dict[str, str]:
    """Preprocess what is missing or outdated of a dataset's ``imagesUn``.

    A case is done when its ``CASE.json`` is there and names the present plans and source files; it is written last.
    Without ``imagesUn`` on this machine the cases preprocessed earlier with the same plans are taken. Several
    processes may do it at the same time, as trainings of several folds do: they share the work. The preprocessed folder
    is that of the labelled cases; ``tell`` gets how new scans compare with the labelled ones, and what is odd in some.

    Returns:
        The cases that are ready, sorted, each with its source: the folder in imagesUn, empty for imagesUn itself.

    Raises:
        UserError: wrong files in imagesUn, or cases that cannot be preprocessed; the other cases are kept.
    """
    manager = PlansManager(plans)
    folder = preprocessed_unlabeled_folder(preprocessed_dataset_folder)
    fingerprint = preprocessing_fingerprint(manager, configuration_name)
    raw_folder = raw_unlabeled_folder(dataset_name)
    if raw_folder is None:
        return _cases_without_raw_images(folder, fingerprint)
    scans = find_raw_scans(raw_folder, dataset_json, manager)
    remove_leftovers(folder)
    jobs = []
    for case, files in scans.items():
        record = {"plans": fingerprint, "files": _signature(files)}
        if source := source_of(files):  # older records have none
            record["source"] = source
        jobs.append(_Job(files, folder / f"{case}.b2nd", record))
    if todo := [job for job in jobs if not job.is_done()]:
        check_writable(folder)
        raw = RawDataset(raw_folder.parent, dataset_json)
        configuration = manager.get_configuration(configuration_name)
        work = partial(_preprocess_case, plans=manager, configuration=configuration, dataset_json=dataset_json)
        _preprocess(todo, raw, work, tell, num_processes=num_processes, progress=progress)
    return {job.image.stem: job.record.get("source", "") for job in jobs}


def _preprocess(
    jobs: list[_Job], raw: RawDataset, work: Callable[..., list[str]], tell: Callable[[str], Any], **pool: Any
) -> None:
    """Compare the labelled and the new scans, then ``work`` on these; errors and notes are told once."""
    groups = {LABELED: [*raw.images("Tr").values()]}
    for job in jobs:
        groups.setdefault(job.record.get("source", "imagesUn"), []).append(job.files)
    comparison = compare(groups, raw.dataset_json, **pool)
    if table := comparison.table():
        tell(f"Some labelled and unlabelled scans, medians:\n{table}")
    for warning in (*comparison.warnings(), *_copies(jobs, raw)):
        tell(f"warning: {warning}")
    work = partial(work, may_be_masks=comparison.labeled_look_like_masks)
    random.Random().shuffle(jobs)  # so that processes that start together work on different cases
    notes, errors = {}, {}
    for i, future in completed(work, jobs, description="Preprocessing unlabelled cases", **pool):
        if error := future.exception():
            errors[jobs[i].image.stem] = [str(error) or type(error).__name__]
        else:
            notes[jobs[i].image.stem] = future.result()
    for note, cases in sorted(by_text(notes)):
        tell(f"warning: {cases}: {note}")
    if errors:
        raise UserError(
            f"{len(errors)} of {len(jobs)} unlabelled cases could not be preprocessed. Correct what follows, or "
            "remove their images from imagesUn, and run the same command again (finished cases are kept):\n"
            + "\n".join(sorted(f"{cases}: {text}" for text, cases in by_text(errors)))
        )


def _copies(jobs: list[_Job], raw: RawDataset) -> Iterator[str]:
    """Scans that lie in imagesTr or imagesTs as well, under another name."""
    parts = [(part, raw.images(part)) for part in ("Tr", "Ts")]
    known = {f"{case} of images{part}": files[0] for part, scans in parts for case, files in scans.items()}
    if found := copies({job.image.stem: job.files[0] for job in jobs}, known):
        yield (
            f"the same file under another name: {few(f'{case} is {other}' for case, other in sorted(found.items()))}. "
            "Leave it out of imagesUn: a case to validate or test on must not be among the unlabelled ones. "
            "nnunet-dycon audit finds copies in other files, too"
        )


def _signature(files: list[Path]) -> list[list[Any]]:
    """Name, size and time of change of source files: replaced scans are preprocessed again."""
    spacing = files[0].with_name(files[0].name.rpartition("_")[0] + ".json")  # beside .tif files
    sources = [*files, spacing] if spacing.is_file() else files
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in sources]


def _cases_without_raw_images(folder: Path, fingerprint: str) -> dict[str, str]:
    """Cases preprocessed earlier; a UserError if their plans were others, as they cannot be made anew."""
    records = {file.stem: record for file in sorted(folder.glob("*.json")) if (record := record_of(file))}
    stale = [case for case, record in records.items() if record.get("plans") != fingerprint]
    if stale:
        raise UserError(
            f"{len(stale)} cases in {folder} were preprocessed with other plans, first {stale[0]}, and their raw "
            "images are not here. Run nnunet-dycon preprocess where imagesUn is, or delete them if they are not wanted"
        )
    return {case: record.get("source", "") for case, record in records.items()}


def _preprocess_case(
    job: _Job, *, plans: PlansManager, configuration: ConfigurationManager, dataset_json: dict, may_be_masks: bool
) -> list[str]:
    """Preprocess one case in a temporary folder and move its image, then its record, to their places; its notes."""
    files, record = [str(i) for i in job.files], job.image.with_suffix(".json")
    if job.is_done():  # by another process, meanwhile
        return []
    record.unlink(missing_ok=True)
    notes = check_scan(files, plans, configuration, dataset_json, may_be_masks=may_be_masks)
    with partial_folder(job.image.parent, job.image.stem) as temporary, sheared_affines_mended():
        preprocessor = configuration.preprocessor_class(verbose=False)
        preprocessor.run_case_save(str(temporary / job.image.stem), files, None, plans, configuration, dataset_json)
        image = temporary / job.image.name
        if not np.isfinite(open_image(image)[:].sum(dtype=np.float64)):
            raise UserError("preprocessing made voxels that are NaN or infinite; look at the scan's intensities")
        (temporary / "record.json").write_text(json.dumps(job.record), encoding="utf-8")
        if not job.is_done():
            os.replace(image, job.image)
            os.replace(temporary / "record.json", record)
    return notes
