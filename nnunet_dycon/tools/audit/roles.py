"""Who is labelled, unlabelled, for validation and for testing, whether the names say so without contradiction, and
whether masks of unlabelled cases can be read, in the raw dataset or in what was preprocessed of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from nnunet_dycon.dataset.pseudo_labels import predicted_cases
from nnunet_dycon.dataset.raw_dataset import RawDataset, like_images_un
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


def cases_in_place(uses: list[Use]) -> frozenset[str]:
    """Cases that are unlabelled in some use although they lie in imagesTr."""
    return frozenset().union(*(use.in_place for use in uses))


def name_findings(raw: RawDataset, uses: list[Use]) -> list[Finding]:
    """Cases with two roles, cases and files that do not exist for nnU-Net, and how validation is done."""
    findings = list(_folder_findings(raw))
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
        where = f"{raw.folder / 'imagesUn'}{like_images_un(raw.folder)}"
        message = f"nothing here is semi-supervised: no scan in {where}, and no fold names any"
        fix = "put scans without masks there, or train with nnUNetTrainerSupervised or stock nnU-Net"
        findings.append(Finding("note", "no-unlabeled", message, [], fix))
    return findings


def _folder_findings(raw: RawDataset) -> Iterator[Finding]:
    """Names in two folders, and files that nnU-Net does not see, as ``CASE_0000.NII.GZ``."""
    for one, other in combinations(PARTS, 2):
        if both := sorted(raw.images(one).keys() & raw.images(other).keys()):
            message = f"images{one} and images{other} both have {few(both)}"
            fix = f"remove them from images{one} or images{other}; rename them if they are different scans"
            yield Finding("leak", "name-overlap", message, both, fix)
    for part in PARTS:
        if strangers := raw.strangers(part):
            message = f"images{part} holds files that are not named CASE_0000{raw.file_ending}: {few(strangers)}"
            fix = "rename or remove them; nnU-Net does not see them (small and capital letters differ)"
            severity = "error" if part == "Un" else "warning"  # preprocessing refuses them in imagesUn
            yield Finding(severity, "file-name", message, [], fix)


def _role_overlaps(use: Use, reported: set[str]) -> Iterator[Finding]:
    for one, other in combinations(ROLES, 2):
        if both := sorted((use.cases[one] & use.cases[other]) - reported):
            message = f"in {use.name} cases are {one} and {other}: {few(both)}"
            fix = f"give each case one role: remove it from the {one} or the {other} cases"
            yield Finding("leak", "name-overlap", message, both, fix)


def mask_findings(raw: RawDataset, preprocessed: Path | None, uses: list[Use]) -> Iterator[Finding]:
    """Masks of cases in imagesUn are leaks, and what is preprocessed of cases that are test cases by now.

    Those of an in-place split cannot be otherwise and give a warning.
    """
    unlabeled = dict.fromkeys(raw.images("Un"), "unlabelled")
    moved = dict.fromkeys(raw.images("Ts").keys() - raw.images("Tr").keys(), "test")
    wanted = {raw.folder: unlabeled} | ({preprocessed: moved | unlabeled} if preprocessed else {})
    reachable: dict[tuple[str, str], list[str]] = defaultdict(list)
    for folder, roles in wanted.items():
        for file in folder.rglob("*"):
            case = _owner_of_mask(file.relative_to(folder), raw.file_ending)
            if case in roles and file.is_file():
                reachable[case, roles[case]].append(str(file))
    for (case, role), files in sorted(reachable.items()):
        message = f"the mask of {role} case {case} can be read: {few(sorted(files))}"
        fix = (
            "move these files out of the dataset; if they were made by preprocessing, delete the folder and preprocess "
            "again"
        )
        yield Finding("leak", f"mask-of-{role.replace('labelled', 'labeled')}", message, [case], fix)
    if in_place := sorted(cases_in_place(uses)):
        message = (
            f"{len(in_place)} unlabelled cases ({few(in_place, 3)}) lie in imagesTr with their masks: nnU-Net's "
            "fingerprint saw these masks (CT normalisation depends on them), and only the trainer keeps them unseen"
        )
        fix = "for published results make a new dataset: nnunet-dycon split with -t"
        yield Finding("warning", "in-place", message, in_place, fix)
    yield from _prediction_findings(raw, uses)


def _prediction_findings(raw: RawDataset, uses: list[Use]) -> Iterator[Finding]:
    """Masks that ``pseudo-label`` wrote: no case is to be validated on one."""
    predicted = predicted_cases(raw)
    if predicted:
        message = f"{len(predicted)} masks of labelsTr and labelsTs are predictions: {few(sorted(predicted))}"
        yield Finding("note", "predicted-masks", message)
    for use in uses:
        if validated := sorted(predicted.intersection(use.cases["validation"] | use.cases["test"])):
            message = f"{use.name} validates or tests on masks that are predictions: {few(validated)}"
            fix = (
                "give splits_final.json folds whose val has cases with drawn masks only, and take the others out of "
                "labelsTs"
            )
            yield Finding("error", "prediction-as-reference", message, validated, fix)


def _owner_of_mask(file: Path, file_ending: str) -> str | None:
    """Case whose mask, or foreground locations, a file of a dataset may hold: raw, or as nnU-Net writes them."""
    name = file.name
    if name.endswith(file_ending) and not file.parts[0].startswith("images"):
        return name.removesuffix(file_ending)
    case, is_seg, _ = name.rpartition("_seg.")
    if is_seg:
        return case
    # .npz holds image and mask, .pkl where the foreground is; nnU-Net writes them for labelled cases
    return file.stem if file.suffix in (".npz", ".pkl") and not file.parent.name.endswith("_unlabeled") else None
