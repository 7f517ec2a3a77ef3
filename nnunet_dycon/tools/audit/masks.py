"""Masks of unlabelled cases that could be read: in the raw dataset and in what was preprocessed of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from nnunet_dycon.dataset.pseudo_labels import predicted_masks
from nnunet_dycon.dataset.raw_dataset import RawDataset
from nnunet_dycon.files.text import few
from nnunet_dycon.tools.audit.findings import Finding
from nnunet_dycon.tools.audit.roles import Use


def mask_findings(raw: RawDataset, preprocessed: Path | None, uses: list[Use]) -> list[Finding]:
    """Masks of cases in imagesUn are leaks; those of an in-place split cannot be otherwise and give a warning."""
    findings = []
    unlabeled = set(raw.images("Un"))
    reachable = dict(_masks_in(raw.folder, unlabeled, raw.file_ending))
    if preprocessed is not None:
        reachable |= dict(_masks_in(preprocessed, unlabeled, raw.file_ending))
    for case in sorted(set(reachable.values())):
        files = sorted(str(file) for file, owner in reachable.items() if owner == case)
        findings.append(
            Finding(
                "leak",
                "mask-of-unlabeled",
                f"the mask of unlabelled case {case} can be read: {few(files)}",
                [case],
                "move these files out of the dataset; if they were made by preprocessing, delete the folder and "
                "preprocess again",
            )
        )
    in_place = sorted(frozenset().union(*(use.in_place for use in uses)))
    if in_place:
        findings.append(
            Finding(
                "warning",
                "in-place",
                f"{len(in_place)} unlabelled cases ({few(in_place, 3)}) lie in imagesTr with their masks: "
                "nnU-Net's fingerprint saw these masks (CT normalisation depends on them), and only the trainer keeps "
                "them unseen",
                in_place,
                "for published results make a new dataset: nnunet-dycon split with -t",
            )
        )
    return findings + _prediction_findings(raw, uses)


def _prediction_findings(raw: RawDataset, uses: list[Use]) -> list[Finding]:
    """Masks that ``pseudo-label`` wrote: no case is to be validated on one."""
    predicted = predicted_masks(raw.folder / "labelsTr") & raw.labels("Tr").keys()
    if not predicted:
        return []
    findings = [
        Finding(
            "note", "predicted-masks", f"{len(predicted)} masks of labelsTr are predictions: {few(sorted(predicted))}"
        )
    ]
    for use in uses:
        if validated := sorted(predicted.intersection(use.cases["validation"])):
            message = f"{use.name} validates on masks that are predictions: {few(validated)}"
            fix = "give splits_final.json folds whose val has cases with drawn masks only"
            findings.append(Finding("error", "prediction-as-reference", message, validated, fix))
    return findings


def _masks_in(folder: Path, cases: set[str], file_ending: str) -> Iterator[tuple[Path, str]]:
    """Files in a dataset folder and its subfolders that hold a mask, or foreground locations, of one of the cases."""
    for file in _files(folder):
        case = _owner_of_mask(file, file_ending)
        if case in cases:
            yield file, case


def _files(folder: Path) -> Iterable[Path]:
    if not folder.is_dir():
        return []
    return (path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.is_file())


def _owner_of_mask(file: Path, file_ending: str) -> str | None:
    """Case whose mask a file may hold, judged by its name: raw, nnU-Net's ``CASE_seg``, ``.npz`` and ``.pkl``."""
    name = file.name
    if name.endswith(file_ending) and not file.parent.name.startswith("images"):
        return name.removesuffix(file_ending)
    stem, _, ending = name.partition(".")
    if stem.endswith("_seg"):
        return stem.removesuffix("_seg")
    # .npz holds image and mask, .pkl where the foreground is; nnU-Net writes them for labelled cases
    if ending in ("npz", "pkl") and not file.parent.name.endswith("_unlabeled"):
        return stem
    return None
