"""What a conversion did: ``conversion.json``, which makes it resumable, and its summary in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_dycon import __version__
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import read_json_object, write_json
from nnunet_dycon.files.text import by_text, few
from nnunet_dycon.files.whole_files import check_writable
from nnunet_dycon.tools.convert.plan import CasePlan, DatasetPlan

_MOST_NAMES = 8  # of a line of the summary; conversion.json has them in full


class Conversion:
    """A dataset folder that a plan is carried out in; every change of its cases is on disk before a call returns.

    Args:
        plan: What is converted.
        folder: ``nnUNet_raw/DatasetNNN_Name``.

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
        self.cases: dict[str, dict[str, Any]] = self._earlier_cases()
        check_writable(folder)
        self.save()

    def _earlier_cases(self) -> dict[str, dict[str, Any]]:
        if not self._file.exists():
            if self.folder.is_dir() and any(self.folder.iterdir()):
                raise UserError(
                    f"{self.folder} exists and was not made by 'nnunet-dycon convert'; choose another -d or --name, or "
                    "remove it"
                )
            return {}
        content = read_json_object(self._file, f"remove {self.folder} and convert again")
        for key, value in self._identity.items():
            if content["cases"] and content.get(key) != value:
                raise UserError(
                    f"{self.folder} was converted with {key} {content.get(key)!r}, now it is {value!r}; choose another "
                    "-d, or remove the folder"
                )
        return content["cases"]

    def is_current(self, case: CasePlan) -> bool:
        """The case was converted from the same files with the same parameters."""
        recipe = _recipe(case)
        return {key: self.cases.get(case.name, {}).get(key) for key in recipe} == recipe

    def add(self, case: CasePlan, notes: list[str]) -> None:
        """The case is complete on disk."""
        sources = {role: str(path) for role, path in case.sources.items()}
        self.cases[case.name] = {**_recipe(case), "sources": sources, "notes": notes}
        self.written.append(case.name)
        self.save()

    def remove(self, name: str) -> None:
        """The case is about to be converted anew."""
        if self.cases.pop(name, None) is not None:
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
