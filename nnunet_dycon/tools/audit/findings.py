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

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from nnunet_dycon.dataset.scan_files import Finding

SEVERITIES = ("leak", "error", "warning", "note")


@dataclass(frozen=True)
class AuditReport:
    """All findings on a dataset.

    Attributes:
        dataset: DatasetXXX_Name.
        counts: For each way to use the dataset (fold) the number of cases by role.
        findings: The worst first.
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
        counts = {
            use: {role.replace("labelled", "labeled"): n for role, n in i.items()} for use, i in self.counts.items()
        }
        return asdict(self) | {"counts": counts, "sound": self.sound}

    def as_text(self) -> str:
        """The report for reading."""
        lines = [f"audit of {self.dataset}"]
        for use, counts in self.counts.items():
            lines.append(f"  {use}: " + ", ".join(f"{n} {role}" for role, n in counts.items()))
        if self.comparison:
            lines += ["  medians of the scans:", *(f"  {line}" for line in self.comparison.splitlines())]
        for i in self.findings:
            lines.append(f"{i.severity.upper()} [{i.code}] {i.message}" + f"\n  fix: {i.fix}" * bool(i.fix))
        numbers = Counter(finding.severity for finding in self.findings)
        found = ", ".join(f"{numbers[i]} {i}{'' if numbers[i] == 1 else 's'}" for i in SEVERITIES[:3])
        return "\n".join([*lines, f"{self.dataset} is {'sound' if self.sound else 'NOT sound'}: {found}"])
