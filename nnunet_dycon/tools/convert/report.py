"""What a conversion did, and its summary in words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# Longer lists of cases are cut in the summary; conversion.json has them in full.
_MAX_NAMES = 8


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
            lines.append(f"kept from an earlier run, no longer in the download: {shorten(self.kept)}")
        lines += [f"note: {note}" for note in self.dataset_notes]
        lines += [f"note: {note}: {names}" for note, names in _by_reason(self.case_notes)]
        for word, reasons in (("skipped", self.skipped), ("MISSING", self.missing), ("FAILED", self.failures)):
            listed = {name: [reason] for name, reason in reasons.items()}
            lines += [f"{word}: {names}: {reason}" for reason, names in _by_reason(listed)]
        return "\n".join(lines)


def shorten(names: list[str]) -> str:
    """``a, b, c``, cut after some."""
    shown = ", ".join(names[:_MAX_NAMES])
    return shown if len(names) <= _MAX_NAMES else f"{shown}, ... ({len(names)} cases)"


def _by_reason(reasons: Mapping[str, list[str]]) -> list[tuple[str, str]]:
    """(reason, its cases), in the order in which the reasons appear."""
    cases: dict[str, list[str]] = defaultdict(list)
    for name in sorted(reasons):
        for reason in reasons[name]:
            cases[reason].append(name)
    return [(reason, shorten(names)) for reason, names in cases.items()]
