"""Masks that are predictions: where a dataset says so, in dataset.json and in a file beside its masks.

A mask that was corrected by hand is a reference from then on: take its case out of both lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_dycon.dataset.raw_dataset import RawDataset, link_case
from nnunet_dycon.files.json_files import read_json_object, write_json

KEY = "pseudo_labels"
FILE = f"{KEY}.json"


def predicted_masks(folder: Path) -> set[str]:
    """Cases whose mask in a folder is a prediction, as its ``pseudo_labels.json`` or the dataset.json above it says.

    Raises:
        UserError: One of these files is damaged.
    """
    entries = [read_json_object(folder / FILE, "write it again")] if (folder / FILE).is_file() else []
    dataset_json = folder.resolve().parent / "dataset.json"
    if folder.name == "labelsTr" and dataset_json.is_file():
        entries.append(read_json_object(dataset_json, "correct it").get(KEY, {}))
    return {case for entry in entries for case in entry.get("cases", [])}


def write_pseudo_labeled_dataset(
    source: RawDataset,
    target: Path,
    masks: Path,
    scans: Mapping[str, Sequence[Path]],
    *,
    entry: Mapping[str, Any],
    labels: Mapping[str, Any],
) -> None:
    """Write a dataset's cases with more labelled ones, whose masks are predictions.

    Args:
        source: The dataset. Its scans that get no mask stay in imagesUn, its test cases in imagesTs and labelsTs.
        target: New folder.
        masks: Folder of the predicted masks.
        scans: Channel files of the predicted cases.
        entry: What dataset.json and ``labelsTr/pseudo_labels.json`` say of the predictions, beside their cases.
        labels: Those of the new dataset.json.
    """
    unlabeled = {case: files for case, files in source.images("Un").items() if case not in scans}
    images: dict[str, dict[str, Any]] = {
        "Tr": source.images("Tr") | dict(scans),
        "Un": unlabeled,
        "Ts": source.images("Ts"),
    }
    for part, cases in images.items():
        for case, files in cases.items():
            link_case(files, target / f"images{part}", case)
    for part in ("Tr", "Ts"):
        for case, file in source.labels(part).items():
            link_case([file], target / f"labels{part}", case)
    for case in scans:
        link_case([masks / f"{case}{source.file_ending}"], target / "labelsTr", case)
    mark = {**entry, "cases": sorted({*predicted_masks(source.folder / "labelsTr"), *scans})}
    write_json(mark, target / "labelsTr" / FILE)
    num_training = len(source.labels("Tr")) + len(scans)
    changed = {"labels": dict(labels), "numTraining": num_training, KEY: mark}
    write_json(source.dataset_json | changed, target / "dataset.json")
