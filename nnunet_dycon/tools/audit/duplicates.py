"""Scans and masks that occur more than once, and what that means for the roles of their cases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from itertools import combinations

from nnunet_dycon.dataset.scan_files import Finding
from nnunet_dycon.files.pool import map_cases
from nnunet_dycon.tools.audit.roles import Use
from nnunet_dycon.tools.audit.scans import ScanContent
from nnunet_dycon.tools.audit.similarity import Signature, aligned_correlation, candidate_pairs

# Which roles must not share content; roles of one side may, at the price of redundancy.
_SIDE = {"labelled": "training", "unlabelled": "training", "validation": "validation", "test": "test"}
_PAIRS_A_PROCESS = 50  # fewer take less time than the start of a process


def duplicate_findings(
    contents: Sequence[ScanContent], uses: Sequence[Use], *, threshold: float, num_processes: int, progress: bool
) -> list[Finding]:
    """One finding for each pair of scans that share an image or a mask, or correlate by ``threshold`` or more."""
    same_image = _sharing([i.image_hashes for i in contents])
    correlations = _correlations(contents, same_image, num_processes, progress)
    causes: dict[tuple[int, int], list[str]] = {pair: ["the same image"] for pair in same_image}
    for pair, correlation in correlations.items():
        if correlation >= threshold:
            causes[pair] = [f"nearly the same image (correlation {correlation:.3f})"]
    for pair in _sharing([{i.mask_hash} - {None} for i in contents]):
        causes.setdefault(pair, []).append("the same mask")
    # one name in two folders is reported already
    pairs = [(i, j) for i, j in sorted(causes) if contents[i].scan.case != contents[j].scan.case]
    findings = [_finding(contents[i], contents[j], causes[i, j], uses) for i, j in pairs]
    return findings + _closest_pair(contents, correlations, threshold)


def _sharing(keys: Sequence[Iterable[Hashable]]) -> set[tuple[int, int]]:
    """Pairs of scans that have a key in common."""
    owners: dict[Hashable, list[int]] = defaultdict(list)
    for i, scan_keys in enumerate(keys):
        for key in scan_keys:
            owners[key].append(i)
    return {pair for indices in owners.values() for pair in combinations(indices, 2)}


def _correlations(
    contents: Sequence[ScanContent], known: set[tuple[int, int]], num_processes: int, progress: bool
) -> dict[tuple[int, int], float]:
    """Of the scans that are alike on a coarse grid, without the pairs that are known to share content."""
    signatures = {i: content.signature for i, content in enumerate(contents) if content.signature is not None}
    index = list(signatures)
    candidates = candidate_pairs(list(signatures.values()), num_threads=num_processes, progress=progress)
    pairs = [(index[i], index[j]) for i, j in candidates if (index[i], index[j]) not in known]
    both = [(signatures[i], signatures[j]) for i, j in pairs]
    number, what = min(num_processes, 1 + len(pairs) // _PAIRS_A_PROCESS), "comparing similar scans"
    found = map_cases(_correlation, both, num_processes=number, description=what, progress=progress)
    return dict(zip(pairs, found, strict=True))


def _closest_pair(
    contents: Sequence[ScanContent], correlations: dict[tuple[int, int], float], threshold: float
) -> list[Finding]:
    """How close the scans come that are not called nearly the same, so that the threshold can be judged."""
    below = {pair: correlation for pair, correlation in correlations.items() if correlation < threshold}
    if not below:
        return []
    closest = max(below, key=below.__getitem__)
    cases = [contents[i].scan.case for i in closest]
    like = f"correlation {below[closest]:.3f} < {threshold}"
    return [Finding("note", "closest-pair", f"the most similar other scans are {' and '.join(cases)}: {like}", cases)]


def _correlation(pair: tuple[Signature, Signature]) -> float:
    return aligned_correlation(pair[0].fine, pair[1].fine)


def _finding(one: ScanContent, other: ScanContent, causes: list[str], uses: Sequence[Use]) -> Finding:
    """A leak where some use has the two on different sides."""
    roles = [
        tuple(use.role(content.scan.part, content.scan.case) or "unused" for content in (one, other)) for use in uses
    ]
    crossing = [i for i, pair in enumerate(roles) if len({_SIDE.get(role, "") for role in pair} - {""}) == 2]
    first, second = roles[crossing[-1] if crossing else -1]
    what = f"{one.scan.case} ({first}) and {other.scan.case} ({second}) have {' and '.join(causes)}"
    cases = [one.scan.case, other.scan.case]
    if crossing:
        fix = "keep one of the two, or put both on the same side of the split"
        where = ", ".join(uses[i].name for i in crossing)
        return Finding("leak", "shared-content", f"{what}, in {where}", cases, fix)
    fix = "keep one of the two, or know that the other adds little"
    return Finding("warning", "shared-content", what, cases, fix)
