"""The whole audit of a dataset."""

from __future__ import annotations

from functools import partial

from nnunet_dycon.dataset.raw_dataset import RawDataset, open_raw_dataset
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.pool import map_cases
from nnunet_dycon.tools.audit.duplicates import duplicate_findings
from nnunet_dycon.tools.audit.findings import AuditReport, Finding, sorted_findings
from nnunet_dycon.tools.audit.masks import mask_findings
from nnunet_dycon.tools.audit.roles import ROLES, Use, name_findings, uses_of
from nnunet_dycon.tools.audit.scans import Scan, ScanContent, comparison_voxel_mm, read_scan
from nnunet_dycon.tools.audit.similarity import NEAR_DUPLICATE_CORRELATION

_SCANS_SAMPLED = 4  # to settle the voxel size at which scans are compared


def audit_dataset(
    dataset: int | str,
    *,
    threshold: float = NEAR_DUPLICATE_CORRELATION,
    num_processes: int = 1,
    progress: bool = False,
) -> AuditReport:
    """Check a raw dataset, and what was preprocessed of it where nnUNet_preprocessed is set.

    Reads every image, and the masks in labelsTr and labelsTs; nothing is written.

    Args:
        dataset: ID or name.
        threshold: Correlation (0 to 1) from which two scans are called nearly the same.
        num_processes: Worker processes.
        progress: Show progress bars.

    Raises:
        UserError: There is no such raw dataset, or one of its JSON files cannot be understood.
    """
    if not 0 < threshold <= 1:
        raise UserError(f"a correlation of {threshold} cannot be a threshold; give one above 0 and up to 1")
    raw = open_raw_dataset(dataset)
    scans = _scans(raw)
    if not scans:
        raise UserError(f"{raw.folder} has no images CASE_0000{raw.file_ending} in imagesTr, imagesUn or imagesTs")
    preprocessed = raw.preprocessed_folder()
    uses = uses_of(raw, preprocessed)
    contents = _contents(raw, scans, num_processes, progress)
    findings = [
        *name_findings(raw, uses),
        *mask_findings(raw, preprocessed, uses),
        *duplicate_findings(contents, uses, threshold=threshold, num_processes=num_processes, progress=progress),
        *_scan_findings(raw, contents, uses),
    ]
    if preprocessed is None:
        findings.append(Finding("note", "not-preprocessed", "no preprocessed folder was found, so none was checked"))
    counts = {use.name: {role: len(use.cases[role]) for role in ROLES} for use in uses}
    return AuditReport(raw.name, counts, sorted_findings(findings))


def _scans(raw: RawDataset) -> list[Scan]:
    scans = []
    for part in ("Tr", "Un", "Ts"):
        masks = {} if part == "Un" else raw.labels(part)
        scans += [Scan(part, case, files, masks.get(case)) for case, files in raw.images(part).items()]
    return scans


def _contents(raw: RawDataset, scans: list[Scan], num_processes: int, progress: bool) -> list[ScanContent]:
    sample = scans[:: max(1, len(scans) // _SCANS_SAMPLED)][:_SCANS_SAMPLED]
    voxel_mm = max(comparison_voxel_mm(scan, raw.dataset_json) for scan in sample)
    return map_cases(
        partial(
            read_scan,
            dataset_json=raw.dataset_json,
            n_channels=raw.n_channels,
            foreground_values=raw.foreground_values(),
            target_mm=voxel_mm or 1.0,
        ),
        scans,
        num_processes=num_processes,
        description="reading scans",
        progress=progress,
    )


def _scan_findings(raw: RawDataset, contents: list[ScanContent], uses: list[Use]) -> list[Finding]:
    """Findings on single scans: files, grids, missing and empty masks."""
    findings = [finding for content in contents for finding in content.findings]
    in_place = frozenset().union(*(use.in_place for use in uses))
    for content in contents:
        scan = content.scan
        if scan.part != "Tr":
            continue
        if scan.mask is None:
            message = f"imagesTr/{scan.case} has no mask"
            fix = f"add labelsTr/{scan.case}{raw.file_ending}, or move the images to imagesUn"
            findings.append(Finding("error", "no-mask", message, [scan.case], fix))
        elif not content.has_foreground and scan.case not in in_place:
            message = f"the mask of training case {scan.case} has no foreground"
            fix = "check that this is true; such a case teaches background only"
            findings.append(Finding("warning", "empty-mask", message, [scan.case], fix))
    return findings
