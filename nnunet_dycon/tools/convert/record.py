"""What a conversion did: ``conversion.json``, which makes it resumable, and its summary in words."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_dycon import __version__
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import read_json_object, write_json
from nnunet_dycon.files.text import few
from nnunet_dycon.files.whole_files import check_writable
from nnunet_dycon.tools.convert.plan import CasePlan, DatasetPlan

FILE_NAME = "conversion.json"
# Longer lists of cases are cut in the summary; conversion.json has them in full.
_MAX_NAMES = 8


class ConversionRecord:
    """The record of one dataset folder; every change is on disk before the call returns.

    Args:
        folder: ``nnUNet_raw/DatasetNNN_Name``.
        plan: What is converted into it.

    Raises:
        UserError: The folder holds something else, or another layout, other channels or other labels.
    """

    def __init__(self, folder: Path, plan: DatasetPlan) -> None:
        self._path = folder / FILE_NAME
        self._content: dict[str, Any] = {"cases": {}}
        if self._path.exists():
            self._content = read_json_object(self._path, f"remove {folder} and convert again")
            if self._content["cases"]:
                _check_same_dataset(folder, self._content, plan)
        elif folder.is_dir() and any(folder.iterdir()):
            raise UserError(
                f"{folder} exists and was not made by 'nnunet-dycon convert'; choose another -d or --name, or remove it"
            )
        check_writable(folder)
        self._content |= {**_identity(plan), "source": str(plan.source.resolve()), "version": __version__}
        self._save()

    @property
    def case_names(self) -> list[str]:
        """Cases that were converted, now or in an earlier run."""
        return sorted(self._content["cases"])

    def notes(self, name: str) -> list[str]:
        """What was said when the case was converted."""
        return self._content["cases"][name]["notes"]

    def is_current(self, case: CasePlan) -> bool:
        """The case was converted from the same files with the same parameters."""
        entry = self._content["cases"].get(case.name, {})
        return {key: entry.get(key) for key in ("loader", "parameters", "stamps")} == _recipe(case)

    def add(self, case: CasePlan, notes: list[str]) -> None:
        """The case is complete on disk."""
        sources = {role: str(path) for role, path in case.sources.items()}
        self._content["cases"][case.name] = {**_recipe(case), "sources": sources, "notes": notes}
        self._save()

    def remove(self, name: str) -> None:
        """The case is about to be converted anew."""
        if self._content["cases"].pop(name, None) is not None:
            self._save()

    def finish(self, **left_out: dict[str, str]) -> None:
        """Add what this run left out, by kind: case to reason."""
        self._content |= left_out
        self._save()

    def _save(self) -> None:
        write_json(self._content, self._path)


def _identity(plan: DatasetPlan) -> dict[str, Any]:
    """What all cases of one dataset have in common, as JSON gives it back."""
    channels = {str(number): name for number, name in plan.channel_names.items()}
    return {"dataset": plan.dataset, "layout": plan.layout, "channels": channels, "labels": dict(plan.labels)}


def _check_same_dataset(folder: Path, content: dict[str, Any], plan: DatasetPlan) -> None:
    for key, value in _identity(plan).items():
        if content.get(key) != value:
            raise UserError(
                f"{folder} was converted with {key} {content.get(key)!r}, now it is {value!r}; choose another "
                "-d, or remove the folder"
            )


def _recipe(case: CasePlan) -> dict[str, Any]:
    return {
        "loader": case.load.__name__,
        "parameters": json.loads(json.dumps(dict(case.parameters))),
        "stamps": {role: _stamp(path) for role, path in case.sources.items()},
    }


def _stamp(path: Path) -> list[int]:
    """Size and time of change of a file; of a folder: number of files, their size, latest change."""
    if not path.is_dir():
        status = path.stat()
        return [status.st_size, status.st_mtime_ns]
    stats = [file.stat() for file in path.iterdir() if file.is_file()]
    return [len(stats), sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)]


@dataclass
class ConversionReport:
    """Outcome of a conversion.

    Attributes:
        folder: The nnU-Net raw dataset.
        found: Number of cases that the download holds.
        written: Cases converted in this run.
        unchanged: Cases that an earlier run had already converted from the same files.
        kept: Cases of an earlier run whose files are no longer in the download.
        skipped: Cases left out on purpose, and why.
        failures: Cases that could not be converted, and how to correct it.
        missing: Cases that a protocol list names and the download lacks.
        dataset_notes: What holds for all cases.
        case_notes: What was assumed or repaired in single cases.
    """

    folder: Path
    found: int
    written: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    dataset_notes: tuple[str, ...] = ()
    case_notes: dict[str, list[str]] = field(default_factory=dict)

    @property
    def num_cases(self) -> int:
        """Cases that the dataset now has."""
        return len(self.written) + len(self.unchanged) + len(self.kept)

    def summary(self) -> str:
        """Several lines: the counts, then notes, skipped cases and failures with their reasons."""
        lines = [
            f"{self.found} cases found: {len(self.written)} written, {len(self.unchanged)} already up to date, "
            f"{len(self.skipped)} skipped, {len(self.failures)} failed, {len(self.missing)} missing"
        ]
        if self.kept:
            lines.append(f"kept from an earlier run, no longer in the download: {few(self.kept, _MAX_NAMES)}")
        lines += [f"note: {note}" for note in self.dataset_notes]
        lines += [f"note: {note}: {names}" for note, names in _by_reason(self.case_notes)]
        for word, reasons in (("skipped", self.skipped), ("MISSING", self.missing), ("FAILED", self.failures)):
            listed = {name: [reason] for name, reason in reasons.items()}
            lines += [f"{word}: {names}: {reason}" for reason, names in _by_reason(listed)]
        return "\n".join(lines)


def _by_reason(reasons: Mapping[str, list[str]]) -> list[tuple[str, str]]:
    """(reason, its cases), in the order in which the reasons appear."""
    cases: dict[str, list[str]] = defaultdict(list)
    for name in sorted(reasons):
        for reason in reasons[name]:
            cases[reason].append(name)
    return [(reason, few(names, _MAX_NAMES)) for reason, names in cases.items()]
