"""The whole audit of a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from nnunet_dycon.dataset.comparison import LABELED, Comparison, ScanFacts
from nnunet_dycon.dataset.preprocessed_files import no_foreground
from nnunet_dycon.dataset.raw_dataset import RawDataset, open_raw_dataset
from nnunet_dycon.dataset.scan_files import Finding, Scan
from nnunet_dycon.dataset.unlabeled_scans import source_of
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.pool import map_cases
from nnunet_dycon.files.text import few
from nnunet_dycon.tools.audit.duplicates import duplicate_findings
from nnunet_dycon.tools.audit.findings import SEVERITIES, AuditReport
from nnunet_dycon.tools.audit.masks import mask_findings
from nnunet_dycon.tools.audit.roles import PARTS, ROLES, Use, name_findings, uses_of
from nnunet_dycon.tools.audit.scans import ScanContent, comparison_voxel_mm, read_scan
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
        *_scan_findings(raw, contents, uses),
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
    read = partial(
        read_scan,
        dataset_json=raw.dataset_json,
        n_channels=raw.n_channels,
        foreground_values=raw.foreground_values(),
        target_mm=max(comparison_voxel_mm(scan, raw.dataset_json) for scan in sample) or 1.0,
    )
    return map_cases(read, scans, num_processes=num_processes, description="reading scans", progress=progress)


def _comparison(raw: RawDataset, contents: list[ScanContent]) -> Comparison:
    """Labelled scans against those of each source of unlabelled ones."""
    groups: dict[str, list[ScanFacts]] = {}
    for content in contents:
        if content.facts is not None and content.scan.part != "Ts":
            source = source_of(content.scan.images) or "imagesUn"
            groups.setdefault(LABELED if content.scan.part == "Tr" else source, []).append(content.facts)
    return Comparison(groups, raw.dataset_json)


def _scan_findings(raw: RawDataset, contents: list[ScanContent], uses: list[Use]) -> Iterator[Finding]:
    """Findings on single scans: files, grids, missing and empty masks."""
    unlabeled = frozenset().union(*(use.in_place for use in uses))
    labeled = []
    for content in contents:
        yield from content.findings
        case = content.scan.case
        if content.scan.part == "Tr" and content.scan.mask is None:
            fix = f"add labelsTr/{case}{raw.file_ending}, or move the images to imagesUn"
            yield Finding("error", "no-mask", f"imagesTr/{case} has no mask", [case], fix)
        elif content.scan.part == "Tr" and case not in unlabeled:
            labeled.append(content)
    yield from _empty_mask_findings(labeled)


def _empty_mask_findings(labeled: list[ScanContent]) -> Iterator[Finding]:
    empty = [i.scan.case for i in labeled if i.facts and i.mask_hash is None]
    if empty and len(labeled) == len(empty):
        yield Finding("error", "no-foreground", str(no_foreground(empty)), empty)
        return
    for case in empty:
        fix = "check that this is true; such a case teaches background only"
        yield Finding("warning", "empty-mask", f"the mask of training case {case} has no foreground", [case], fix)


def _mask_like_findings(contents: list[ScanContent], comparison: Comparison) -> Iterator[Finding]:
    """Unlabelled scans that are masks, unless the labelled scans look like masks, too."""
    unlabeled = [i for i in contents if i.scan.part == "Un" and i.facts and not comparison.labeled_look_like_masks]
    for verdict, severity, what in (("surely", "error", "are"), ("perhaps", "warning", "may be")):
        if cases := [i.scan.case for i in unlabeled if i.facts and i.facts.likeness_to_mask == verdict]:
            message = f"scans in imagesUn {what} masks, judged by their few values: {few(cases)}"
            fix = "look at them; put the images there, and keep masks out of imagesUn"
            yield Finding(severity, "mask-as-scan", message, cases, fix)
