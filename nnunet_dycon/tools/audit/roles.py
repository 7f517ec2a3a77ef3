"""Who is labelled, unlabelled, for validation and for testing, and whether the names say so without contradiction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from nnunet_dycon.dataset.raw_dataset import RawDataset
from nnunet_dycon.dataset.scan_files import Finding
from nnunet_dycon.dataset.splits import read_split_record, read_splits
from nnunet_dycon.files.text import few

PARTS = ("Tr", "Un", "Ts")
ROLES = ("labelled", "unlabelled", "validation", "test")


@dataclass(frozen=True)
class Use:
    """One way in which the dataset is used: a fold, or the folders alone.

    Attributes:
        name: How messages call it.
        cases: Case names by role.
        validates_on_training: Validation is done on the labelled cases, so ``validation`` is empty.
        in_place: Unlabelled cases that lie in imagesTr.
    """

    name: str
    cases: dict[str, frozenset[str]]
    validates_on_training: bool
    in_place: frozenset[str]

    def role(self, part: str, case: str) -> str | None:
        """Role of the scan ``images<part>/<case>``; None if it is not used."""
        if part != "Tr":
            return {"Un": "unlabelled", "Ts": "test"}[part]
        return next((role for role in ROLES if case in self.cases[role]), None)


def uses_of(raw: RawDataset, preprocessed: Path | None) -> list[Use]:
    """The folds of ``splits_final.json``; without one the split that ``split.json`` records, or all of imagesTr.

    Raises:
        UserError: One of the files cannot be understood.
    """
    record = read_split_record(raw.folder)
    tests = set(record["cases"]["test"]) if record else set()
    if preprocessed is not None and (splits := read_splits(preprocessed)):
        record = read_split_record(preprocessed)
        return [_use(raw, fold, f"fold {i}", tests | _tests_of(record, i)) for i, fold in enumerate(splits)]
    if record:
        cases = record["cases"]
        fold = {"train": cases["labeled"], "val": cases["validation"] or cases["labeled"]}
        return [_use(raw, fold, "split.json", tests)]
    return [_use(raw, {"train": raw.images("Tr"), "val": ()}, "the image folders", tests)]


def _tests_of(record: dict[str, Any] | None, fold: int) -> set[str]:
    """Test cases of a split in place, which is of one fold or of all."""
    return set(record["cases"]["test"]) if record and record.get("fold") in (fold, None) else set()


def _use(raw: RawDataset, fold: dict[str, Any], name: str, tests: set[str]) -> Use:
    labeled, validation, in_place = (frozenset(fold.get(key, ())) for key in ("train", "val", "unlabeled"))
    on_training = bool(validation) and validation <= labeled
    cases = {
        "labelled": labeled,
        "unlabelled": in_place.union(raw.images("Un")),
        "validation": frozenset() if on_training else validation,
        "test": frozenset(tests.union(raw.images("Ts"))),
    }
    return Use(name, cases, on_training, in_place)


def name_findings(raw: RawDataset, uses: list[Use]) -> list[Finding]:
    """Cases with two roles, cases and files that do not exist for nnU-Net, and how validation is done."""
    findings = [*_folder_overlaps(raw), *_stranger_findings(raw)]
    reported = {case for finding in findings for case in finding.cases}
    known = {case for part in PARTS for case in raw.images(part)}
    for use in uses:
        findings += _role_overlaps(use, reported)
        if unknown := sorted(set().union(*use.cases.values()) - known):
            message = f"{use.name} names cases without images: {few(unknown)}"
            fix = "add their images, or remove the names from splits_final.json"
            findings.append(Finding("error", "unknown-case", message, unknown, fix))
        if use.validates_on_training:
            message = f"{use.name} validates on its labelled training cases: its Dice says nothing about new scans"
            findings.append(Finding("note", "validation-on-training", message))
    if not any(use.cases["unlabelled"] for use in uses):
        message = f"nothing here is semi-supervised: no scan in {raw.folder / 'imagesUn'}, and no fold names any"
        fix = "put scans without masks there, or train with nnUNetTrainerSupervised or stock nnU-Net"
        findings.append(Finding("note", "no-unlabeled", message, [], fix))
    return findings


def _stranger_findings(raw: RawDataset) -> Iterator[Finding]:
    """Files that nnU-Net does not see, as ``CASE_0000.NII.GZ``; in imagesUn preprocessing refuses them."""
    for part in PARTS:
        if strangers := raw.strangers(part):
            message = f"images{part} holds files that are not named CASE_0000{raw.file_ending}: {few(strangers)}"
            fix = "rename or remove them; nnU-Net does not see them (small and capital letters differ)"
            yield Finding("error" if part == "Un" else "warning", "file-name", message, [], fix)


def _folder_overlaps(raw: RawDataset) -> Iterator[Finding]:
    for one, other in combinations(PARTS, 2):
        if both := sorted(raw.images(one).keys() & raw.images(other).keys()):
            message = f"images{one} and images{other} both have {few(both)}"
            fix = f"remove them from images{one} or images{other}; rename them if they are different scans"
            yield Finding("leak", "name-overlap", message, both, fix)


def _role_overlaps(use: Use, reported: set[str]) -> Iterator[Finding]:
    for one, other in combinations(ROLES, 2):
        if both := sorted((use.cases[one] & use.cases[other]) - reported):
            message = f"in {use.name} cases are {one} and {other}: {few(both)}"
            fix = f"give each case one role: remove it from the {one} or the {other} cases"
            yield Finding("leak", "name-overlap", message, both, fix)
