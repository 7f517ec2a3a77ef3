"""Masks of unlabelled cases that could be read: in the raw dataset and in what was preprocessed of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from nnunet_dycon.dataset.pseudo_labels import predicted_masks
from nnunet_dycon.dataset.raw_dataset import RawDataset
from nnunet_dycon.dataset.scan_files import Finding
from nnunet_dycon.files.text import few
from nnunet_dycon.tools.audit.roles import Use


def mask_findings(raw: RawDataset, preprocessed: Path | None, uses: list[Use]) -> Iterator[Finding]:
    """Masks of cases in imagesUn are leaks; those of an in-place split cannot be otherwise and give a warning."""
    unlabeled, reachable = raw.images("Un"), defaultdict(list)
    for folder in (raw.folder, *([preprocessed] if preprocessed else [])):
        for file in (*folder.glob("*"), *folder.glob("*/*")):
            case = _owner_of_mask(file, raw.file_ending)
            if case in unlabeled and file.is_file():
                reachable[case].append(str(file))
    for case, files in sorted(reachable.items()):
        message = f"the mask of unlabelled case {case} can be read: {few(sorted(files))}"
        fix = (
            "move these files out of the dataset; if they were made by preprocessing, delete the folder and preprocess "
            "again"
        )
        yield Finding("leak", "mask-of-unlabeled", message, [case], fix)
    if in_place := sorted(frozenset().union(*(use.in_place for use in uses))):
        message = (
            f"{len(in_place)} unlabelled cases ({few(in_place, 3)}) lie in imagesTr with their masks: nnU-Net's "
            "fingerprint saw these masks (CT normalisation depends on them), and only the trainer keeps them unseen"
        )
        fix = "for published results make a new dataset: nnunet-dycon split with -t"
        yield Finding("warning", "in-place", message, in_place, fix)
    yield from _prediction_findings(raw, uses)


def _prediction_findings(raw: RawDataset, uses: list[Use]) -> Iterator[Finding]:
    """Masks that ``pseudo-label`` wrote: no case is to be validated on one."""
    predicted = predicted_masks(raw.folder / "labelsTr") & raw.labels("Tr").keys()
    if predicted:
        message = f"{len(predicted)} masks of labelsTr are predictions: {few(sorted(predicted))}"
        yield Finding("note", "predicted-masks", message)
    for use in uses:
        if validated := sorted(predicted.intersection(use.cases["validation"])):
            message = f"{use.name} validates on masks that are predictions: {few(validated)}"
            fix = "give splits_final.json folds whose val has cases with drawn masks only"
            yield Finding("error", "prediction-as-reference", message, validated, fix)


def _owner_of_mask(file: Path, file_ending: str) -> str | None:
    """Case whose mask, or foreground locations, a file may hold, judged by its name: raw, or as nnU-Net writes them."""
    name = file.name
    if name.endswith(file_ending) and not file.parent.name.startswith("images"):
        return name.removesuffix(file_ending)
    stem, _, ending = name.partition(".")
    if stem.endswith("_seg"):
        return stem.removesuffix("_seg")
    # .npz holds image and mask, .pkl where the foreground is; nnU-Net writes them for labelled cases
    return stem if ending in ("npz", "pkl") and not file.parent.name.endswith("_unlabeled") else None
