"""The whole audit of a dataset, and what it finds.

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
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from nnunet_dycon.dataset.comparison import LABELED, Comparison, ScanFacts
from nnunet_dycon.dataset.preprocessed_files import no_foreground
from nnunet_dycon.dataset.raw_dataset import RawDataset, open_raw_dataset
from nnunet_dycon.dataset.scan_files import Finding, Scan
from nnunet_dycon.dataset.unlabeled_scans import source_of
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.pool import map_cases
from nnunet_dycon.files.text import few
from nnunet_dycon.tools.audit.duplicates import duplicate_findings
from nnunet_dycon.tools.audit.roles import PARTS, ROLES, Use, cases_in_place, mask_findings, name_findings, uses_of
from nnunet_dycon.tools.audit.scans import ScanContent, comparison_voxel_mm, read_scan
from nnunet_dycon.tools.audit.similarity import NEAR_DUPLICATE_CORRELATION

SEVERITIES = ("leak", "error", "warning", "note")
_SCANS_SAMPLED = 4  # to settle the voxel size at which scans are compared


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


def audit_dataset(
    dataset: int | str, *, threshold: float = NEAR_DUPLICATE_CORRELATION, num_processes: int = 1, progress: bool = False
) -> AuditReport:
    """Check a raw dataset, and what was preprocessed of it where nnUNet_preprocessed is set.

    Reads every image, and the masks in labelsTr and labelsTs; nothing is written. Two scans whose correlation (0 to 1)
    is ``threshold`` or more are called nearly the same.

    Raises:
        UserError: There is no such raw dataset, or one of its JSON files cannot be understood.
    """
    if not 0 < threshold <= 1:
        raise UserError(f"a correlation of {threshold} cannot be a threshold; give one above 0 and up to 1")
    raw = open_raw_dataset(dataset)
    masks = {"Tr": raw.labels("Tr"), "Un": {}, "Ts": raw.labels("Ts")}
    images = [(part, case, files) for part in PARTS for case, files in raw.images(part).items()]
    scans = [Scan(part, case, files, masks[part].get(case)) for part, case, files in images]
    if not scans:
        raise UserError(f"{raw.folder} has no images CASE_0000{raw.file_ending} in imagesTr, imagesUn or imagesTs")
    preprocessed = raw.preprocessed_folder()
    uses = uses_of(raw, preprocessed)
    contents = _contents(raw, scans, num_processes, progress)
    comparison = _comparison(raw, contents)
    findings = [
        *name_findings(raw, uses),
        *mask_findings(raw, preprocessed, uses),
        *duplicate_findings(contents, uses, threshold=threshold, num_processes=num_processes, progress=progress),
        *_scan_findings(raw, contents),
        *_empty_mask_findings(contents, uses),
        *_mask_like_findings(contents, comparison),
        *(Finding("warning", "unlike-labeled", warning) for warning in comparison.warnings()),
    ]
    if preprocessed is None:
        findings.append(Finding("note", "not-preprocessed", "no preprocessed folder was found, so none was checked"))
    counts = {use.name: {role: len(use.cases[role]) for role in ROLES} for use in uses}
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return AuditReport(raw.name, counts, findings, comparison.table())


def _contents(raw: RawDataset, scans: list[Scan], num_processes: int, progress: bool) -> list[ScanContent]:
    sample = scans[:: max(1, len(scans) // _SCANS_SAMPLED)][:_SCANS_SAMPLED]
    target_mm = max(comparison_voxel_mm(scan, raw.dataset_json) for scan in sample) or 1.0
    read = partial(read_scan, raw=raw, target_mm=target_mm)
    return map_cases(read, scans, num_processes=num_processes, description="reading scans", progress=progress)


def _comparison(raw: RawDataset, contents: list[ScanContent]) -> Comparison:
    """Labelled scans against those of each source of unlabelled ones."""
    groups: dict[str, list[ScanFacts]] = {}
    for content in contents:
        if content.facts is not None and content.scan.part != "Ts":
            source = source_of(content.scan.images) or "imagesUn"
            groups.setdefault(LABELED if content.scan.part == "Tr" else source, []).append(content.facts)
    return Comparison(groups, raw.dataset_json)


def _scan_findings(raw: RawDataset, contents: list[ScanContent]) -> Iterator[Finding]:
    """Findings on single scans: files, grids, missing masks."""
    for content in contents:
        yield from content.findings
        case = content.scan.case
        if content.scan.part == "Tr" and content.scan.mask is None:
            fix = f"add labelsTr/{case}{raw.file_ending}, or move the images to imagesUn"
            yield Finding("error", "no-mask", f"imagesTr/{case} has no mask", [case], fix)


def _empty_mask_findings(contents: list[ScanContent], uses: list[Use]) -> Iterator[Finding]:
    drawn = [i for i in contents if i.scan.part == "Tr" and i.scan.mask and i.scan.case not in cases_in_place(uses)]
    empty = [i.scan.case for i in drawn if i.facts and i.mask_hash is None]
    if 0 < len(drawn) == len(empty):
        yield Finding("error", "no-foreground", str(no_foreground(empty)), empty)
        return
    fix = "check that this is true; such a case teaches background only"
    for case in empty:
        yield Finding("warning", "empty-mask", f"the mask of training case {case} has no foreground", [case], fix)


def _mask_like_findings(contents: list[ScanContent], comparison: Comparison) -> Iterator[Finding]:
    """Unlabelled scans that are masks, unless the labelled scans look like masks, too."""
    unlabeled = [i for i in contents if i.scan.part == "Un" and i.facts and not comparison.labeled_look_like_masks]
    for verdict, severity, what in (("surely", "error", "are"), ("perhaps", "warning", "may be")):
        if cases := [i.scan.case for i in unlabeled if i.facts and i.facts.likeness_to_mask == verdict]:
            message = f"scans in imagesUn {what} masks, judged by their few values: {few(cases)}"
            fix = "look at them; put the images there, and keep masks out of imagesUn"
            yield Finding(severity, "mask-as-scan", message, cases, fix)
