"""What an audit finds.

==========  ==============================================================================================  =====
severity    meaning                                                                                         sound
==========  ==============================================================================================  =====
``leak``    a result on this dataset would be worth less than it seems: training, validation and test       no
            share a name or a scan, or a mask of an unlabelled case can be read
``error``   nnU-Net or this plugin would stop, or read something else than meant                            no
``warning`` worth a look, but no result is wrong because of it                                              yes
``note``    how the dataset is used                                                                         yes
==========  ==============================================================================================  =====
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

SEVERITIES = ("leak", "error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        severity: One of ``SEVERITIES``.
        code: Short name of the kind of finding, for scripts.
        message: What is the matter, naming the cases.
        cases: Names of the cases concerned.
        fix: What to do about it.
    """

    severity: str
    code: str
    message: str
    cases: list[str] = field(default_factory=list)
    fix: str = ""


@dataclass(frozen=True)
class AuditReport:
    """All findings on a dataset, the worst first.

    Attributes:
        dataset: DatasetXXX_Name.
        counts: For each way to use the dataset (fold) the number of cases by role.
        findings: Sorted by severity.
        comparison: Table of labelled scans and each source of unlabelled ones; empty without both.
    """

    dataset: str
    counts: dict[str, dict[str, int]]
    findings: list[Finding]
    comparison: str = ""

    @property
    def sound(self) -> bool:
        """No leak and no error."""
        return not any(finding.severity in ("leak", "error") for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values; roles are spelled as everywhere in machine-read output."""
        counts = {use: {_spelled(role): n for role, n in i.items()} for use, i in self.counts.items()}
        return asdict(self) | {"counts": counts, "sound": self.sound}

    def as_text(self) -> str:
        """The report for reading."""
        lines = [f"audit of {self.dataset}"]
        for use, counts in self.counts.items():
            lines.append(f"  {use}: " + ", ".join(f"{n} {role}" for role, n in counts.items()))
        lines += ["  medians of the scans:", *(f"  {line}" for line in self.comparison.splitlines())] * bool(
            self.comparison
        )
        for finding in self.findings:
            lines.append(f"{finding.severity.upper()} [{finding.code}] {finding.message}")
            if finding.fix:
                lines.append(f"  fix: {finding.fix}")
        found = ", ".join(self._number(severity) for severity in SEVERITIES[:3])
        lines.append(f"{self.dataset} is {'sound' if self.sound else 'NOT sound'}: {found}")
        return "\n".join(lines)

    def _number(self, severity: str) -> str:
        number = sum(finding.severity == severity for finding in self.findings)
        return f"{number} {severity}{'' if number == 1 else 's'}"


def _spelled(role: str) -> str:
    return role.replace("labelled", "labeled")


def sorted_findings(findings: Sequence[Finding]) -> list[Finding]:
    """The worst first, else in the order given."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
