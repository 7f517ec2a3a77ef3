"""Carrying out a plan: in parallel, each case whole or not at all, resumable by what ``conversion.json`` says."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from nnunet_dycon import __version__
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import read_json_object, write_json
from nnunet_dycon.files.pool import completed
from nnunet_dycon.files.text import by_text, few
from nnunet_dycon.files.whole_files import check_writable, partial_folder, remove_leftovers, whole
from nnunet_dycon.tools.convert.plan import CasePlan, DatasetPlan

FILE_ENDING = ".nii.gz"
_MOST_NAMES = 8  # of a line of the summary; conversion.json has them in full


class Conversion:
    """A dataset folder that a plan is carried out in; every change of its cases is on disk before a call returns.

    Attributes:
        cases: What is recorded of the cases that were converted, now or in an earlier run, by name.
        written: Cases converted in this run.
        failures: Cases that could not be converted, and how to correct it.

    Raises:
        UserError: The folder holds something else, or another layout, other channels or other labels.
    """

    def __init__(self, plan: DatasetPlan, folder: Path) -> None:
        self.plan, self.folder = plan, folder
        self.written: list[str] = []
        self.failures = dict(plan.failures)
        self._file = folder / "conversion.json"
        self._identity = {  # what all cases of one dataset have in common, as JSON gives it back
            "dataset": plan.benchmark.name,
            "layout": plan.layout,
            "channels": {str(number): name for number, name in enumerate(plan.channel_names)},
            "labels": dict(plan.labels),
        }
        earlier = self._earlier_run()
        self.cases: dict[str, dict[str, Any]] = earlier["cases"]
        for key, value in self._identity.items():
            if self.cases and earlier.get(key) != value:
                raise UserError(
                    f"{folder} was converted with {key} {earlier.get(key)!r}, now it is {value!r}; choose another -d, "
                    "or remove the folder"
                )
        check_writable(folder)
        self.save()

    def _earlier_run(self) -> dict[str, Any]:
        if self._file.exists():
            return read_json_object(self._file, f"remove {self.folder} and convert again")
        if self.folder.is_dir() and any(self.folder.iterdir()):
            raise UserError(
                f"{self.folder} exists and was not made by 'nnunet-dycon convert'; choose another -d or --name, or "
                "remove it"
            )
        return {"cases": {}}

    def files(self, name: str) -> list[Path]:
        """The files of a case in the order in which they appear: the label first.

        A conversion that is killed in between leaves at most a label without an image, which nnU-Net does not see.
        """
        images = [f"imagesTr/{name}_{channel:04d}{FILE_ENDING}" for channel in range(len(self.plan.channel_names))]
        return [self.folder / i for i in (f"labelsTr/{name}{FILE_ENDING}", *images)]

    def waiting(self) -> list[CasePlan]:
        """The cases still to be converted; what an earlier run made of them, or of cases that now fail, is removed.

        A case is done that was converted from the same files with the same parameters.
        """
        waiting = []
        for case in self.plan.cases:
            done = _recipe(case).items() <= self.cases.get(case.name, {}).items()
            if not (done and all(file.exists() for file in self.files(case.name))):
                waiting.append(case)
        unwanted = {*self.plan.failures, *self.plan.skipped} & self.cases.keys()
        for name in [*(case.name for case in waiting), *unwanted]:
            if self.cases.pop(name, None) is not None:
                self.save()
            for path in reversed(self.files(name)):
                path.unlink(missing_ok=True)
        return waiting

    def add(self, case: CasePlan, notes: list[str]) -> None:
        """The case is complete on disk."""
        sources = {role: str(path) for role, path in case.sources.items()}
        self.cases[case.name] = {**_recipe(case), "sources": sources, "notes": notes}
        self.written.append(case.name)
        self.save()

    def save(self, **left_out: Mapping[str, str]) -> None:
        """Write the record, in the end with what this run left out, by kind: case to reason."""
        source = {"source": str(self.plan.source.resolve()), "version": __version__}
        write_json({**self._identity, **source, "cases": self.cases, **left_out}, self._file)

    @property
    def missing(self) -> dict[str, str]:
        """Cases that a published list names and neither the download nor the dataset has."""
        return self.plan.missing(self.cases)

    @property
    def kept(self) -> list[str]:
        """Cases of an earlier run whose files are no longer in the download."""
        return sorted(self.cases.keys() - {case.name for case in self.plan.cases})

    @property
    def unchanged(self) -> list[str]:
        """Cases that an earlier run had already converted from the same files."""
        return sorted(self.cases.keys() - {*self.written, *self.kept})

    @property
    def case_notes(self) -> dict[str, list[str]]:
        """What was assumed or repaired in single cases."""
        return {name: entry["notes"] for name, entry in sorted(self.cases.items()) if entry["notes"]}

    def summary(self) -> str:
        """Several lines: the counts, then notes, skipped cases and failures with their reasons."""
        plan, missing, kept = self.plan, self.missing, self.kept
        lines = [
            f"{len(plan.cases) + len(plan.failures)} cases found: {len(self.written)} written, {len(self.unchanged)} "
            f"already up to date, {len(plan.skipped)} skipped, {len(self.failures)} failed, {len(missing)} missing"
        ]
        if kept:
            lines.append(f"kept from an earlier run, no longer in the download: {few(kept, _MOST_NAMES)}")
        lines += [f"note: {note}" for note in plan.notes]
        lines += [f"note: {note}: {names}" for note, names in by_text(self.case_notes, _MOST_NAMES)]
        for word, reasons in (("skipped", plan.skipped), ("MISSING", missing), ("FAILED", self.failures)):
            listed = {name: [reason] for name, reason in reasons.items()}
            lines += [f"{word}: {names}: {reason}" for reason, names in by_text(listed, _MOST_NAMES)]
        return "\n".join(lines)


def convert(plan: DatasetPlan, folder: Path, *, num_processes: int = 1, progress: bool = False) -> Conversion:
    """Write the cases of a plan as a complete nnU-Net raw dataset, in a folder that is new or of an earlier run.

    A case that fails does not stop the others. A case that an earlier run converted from the same files (size and
    time of change) with the same parameters is left as it is. One conversion at a time into a folder; a UserError where
    it is another dataset's.
    """
    conversion = Conversion(plan, folder)
    for subfolder in ("imagesTr", "labelsTr"):
        (folder / subfolder).mkdir(exist_ok=True)
    remove_leftovers(folder)
    waiting = conversion.waiting()
    work = [(case, conversion.files(case.name)) for case in waiting]
    outcomes = completed(_convert_case, work, num_processes=num_processes, description="convert", progress=progress)
    for i, future in outcomes:
        if isinstance(error := future.exception(), UserError):
            conversion.failures[waiting[i].name] = str(error)
        else:
            conversion.add(waiting[i], future.result())
    if conversion.cases:
        _write_dataset_json(plan, folder, len(conversion.cases))
    conversion.save(skipped=plan.skipped, failures=conversion.failures, missing=conversion.missing)
    return conversion


def _convert_case(work: tuple[CasePlan, list[Path]]) -> list[str]:
    """Convert one case, whose files get their names only when all of them are complete; its notes."""
    case, targets = work
    try:
        images, notes = case.load(**case.sources, **case.parameters)
        with partial_folder(targets[0].parents[1], case.name) as temporary:
            for image, target in zip(images, targets, strict=True):
                sitk.WriteImage(image, str(temporary / target.name), useCompression=True)
            for target in targets:
                os.replace(temporary / target.name, target)
    except (OSError, MemoryError, RuntimeError) as error:  # RuntimeError: ITK cannot write
        reason = (str(error).strip().splitlines() or ["no reason is given"])[-1]
        raise UserError(f"{type(error).__name__}: {reason}; correct it and repeat the command") from error
    return notes


def _recipe(case: CasePlan) -> dict[str, Any]:
    """What a case is made of, as JSON gives it back."""
    stamps = {role: _stamp(path) for role, path in case.sources.items()}
    return json.loads(json.dumps({"parameters": dict(case.parameters), "stamps": stamps}))


def _stamp(path: Path) -> list[int]:
    """Number of files, their size and latest change; of a folder those in it."""
    stats = [file.stat() for file in ([i for i in path.iterdir() if i.is_file()] if path.is_dir() else [path])]
    return [len(stats), sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)]


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
