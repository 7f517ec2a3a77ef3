"""Who is labelled, unlabelled, for validation and for testing, and whether the names say so without contradiction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from nnunet_dycon.dataset.raw_dataset import RawDataset
from nnunet_dycon.dataset.splits import read_splits
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import read_json_object
from nnunet_dycon.files.text import few
from nnunet_dycon.tools.audit.findings import Finding

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

    Args:
        raw: The raw dataset.
        preprocessed: Its folder in nnUNet_preprocessed, or None.

    Raises:
        UserError: One of the files cannot be understood.
    """
    folders = {part: frozenset(raw.images(part)) for part in ("Tr", "Un", "Ts")}
    record = _split_record(raw.folder)
    splits = read_splits(preprocessed) if preprocessed is not None else None
    if splits:
        in_place_record = _split_record(preprocessed) if preprocessed is not None else None
        return [
            _fold_use(folders, fold, f"fold {i}", _recorded_tests(record, in_place_record, i))
            for i, fold in enumerate(splits)
        ]
    if record:
        cases = record["cases"]
        fold = {"train": cases["labeled"], "val": cases["validation"] or cases["labeled"]}
        return [_fold_use(folders, fold, "split.json", set(cases["test"]))]
    return [_fold_use(folders, {"train": folders["Tr"], "val": []}, "the image folders", set())]


def _fold_use(folders: dict[str, frozenset[str]], fold: dict[str, Any], name: str, tests: set[str]) -> Use:
    labeled, validation = frozenset(fold["train"]), frozenset(fold["val"])
    in_place = frozenset(fold.get("unlabeled", []))
    on_training = bool(validation) and validation <= labeled
    cases = {
        "labelled": labeled,
        "unlabelled": folders["Un"] | in_place,
        "validation": frozenset() if on_training else validation,
        "test": folders["Ts"] | tests,
    }
    return Use(name, cases, on_training, in_place)


def _recorded_tests(record: dict[str, Any] | None, in_place_record: dict[str, Any] | None, fold: int) -> set[str]:
    tests = set(record["cases"]["test"]) if record else set()
    if in_place_record and in_place_record.get("fold") in (fold, None):
        tests |= set(in_place_record["cases"]["test"])
    return tests


def _split_record(folder: Path) -> dict[str, Any] | None:
    """Content of ``split.json``, or None where there is none."""
    file = folder / "split.json"
    if not file.is_file():
        return None
    fix = "remove it, or restore it as nnunet-dycon split wrote it"
    record = read_json_object(file, fix)
    cases = record.get("cases")
    lists = [cases.get(key) for key in ("labeled", "validation", "test")] if isinstance(cases, dict) else [None]
    if not all(isinstance(i, list) for i in lists):
        raise UserError(f"{file} has no cases that are labeled, validation and test; {fix}")
    return record


def name_findings(raw: RawDataset, uses: list[Use]) -> list[Finding]:
    """Cases with two roles, cases and files that do not exist for nnU-Net, and how validation is done."""
    findings = [*_folder_overlaps(raw), *_stranger_findings(raw)]
    reported = {case for finding in findings for case in finding.cases}
    known = {case for part in ("Tr", "Un", "Ts") for case in raw.images(part)}
    for use in uses:
        findings += _role_overlaps(use, reported)
        unknown = sorted(set().union(*use.cases.values()) - known)
        if unknown:
            findings.append(
                Finding(
                    "error",
                    "unknown-case",
                    f"{use.name} names cases without images: {few(unknown)}",
                    unknown,
                    "add their images, or remove the names from splits_final.json",
                )
            )
        if use.validates_on_training:
            findings.append(
                Finding(
                    "note",
                    "validation-on-training",
                    f"{use.name} validates on its labelled training cases: its Dice says nothing about new scans",
                )
            )
    if not any(use.cases["unlabelled"] for use in uses):
        message = f"nothing here is semi-supervised: no scan in {raw.folder / 'imagesUn'}, and no fold names any"
        fix = "put scans without masks there, or train with nnUNetTrainerSupervised or stock nnU-Net"
        findings.append(Finding("note", "no-unlabeled", message, [], fix))
    return findings


def _stranger_findings(raw: RawDataset) -> Iterator[Finding]:
    """Files that nnU-Net does not see, as ``CASE_0000.NII.GZ``; in imagesUn preprocessing refuses them."""
    for part in ("Tr", "Un", "Ts"):
        if strangers := raw.strangers(part):
            message = f"images{part} holds files that are not named CASE_0000{raw.file_ending}: {few(strangers)}"
            fix = "rename or remove them; nnU-Net does not see them (small and capital letters differ)"
            yield Finding("error" if part == "Un" else "warning", "file-name", message, [], fix)


def _folder_overlaps(raw: RawDataset) -> Iterator[Finding]:
    for one, other in combinations(("Tr", "Un", "Ts"), 2):
        both = sorted(set(raw.images(one)) & set(raw.images(other)))
        if both:
            yield Finding(
                "leak",
                "name-overlap",
                f"images{one} and images{other} both have {few(both)}",
                both,
                f"remove them from images{one} or images{other}; rename them if they are different scans",
            )


def _role_overlaps(use: Use, reported: set[str]) -> Iterator[Finding]:
    for one, other in combinations(ROLES, 2):
        both = sorted((use.cases[one] & use.cases[other]) - reported)
        if both:
            yield Finding(
                "leak",
                "name-overlap",
                f"in {use.name} cases are {one} and {other}: {few(both)}",
                both,
                f"give each case one role: remove it from the {one} or the {other} cases",
            )
