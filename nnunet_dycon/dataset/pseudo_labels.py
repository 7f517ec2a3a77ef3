"""Masks that are predictions: where a dataset says so, in dataset.json and in a file beside its masks.

A mask that was corrected by hand is a reference from then on: take its case out of both lists.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_dycon.dataset.raw_dataset import RawDataset, link_dataset
from nnunet_dycon.dataset.unlabeled_scans import source_of
from nnunet_dycon.files.json_files import read_json_object, write_json

KEY = "pseudo_labels"
FILE = f"{KEY}.json"
_FOLDERS = ("labelsTr", "labelsTs", "gt_segmentations")


def predicted_masks(folder: Path) -> set[str]:
    """Cases whose mask in a folder is a prediction, by its ``pseudo_labels.json`` or the dataset.json above it.

    The folder may be ``labelsTr`` or ``labelsTs`` of a raw dataset, or ``gt_segmentations`` of a preprocessed one.

    Raises:
        UserError: One of these files is damaged.
    """
    entries = [read_json_object(folder / FILE, "write it again")] if (folder / FILE).is_file() else []
    dataset_json = folder.resolve().parent / "dataset.json"
    if folder.name in _FOLDERS and dataset_json.is_file():
        entries.append(read_json_object(dataset_json, "correct it").get(KEY, {}))
    return {case for entry in entries for case in entry.get("cases", [])}


def predicted_cases(dataset: RawDataset) -> set[str]:
    """Cases whose mask in labelsTr or labelsTs is a prediction; a UserError as ``predicted_masks``."""
    return {
        case
        for part in ("Tr", "Ts")
        for case in predicted_masks(dataset.folder / f"labels{part}") & dataset.labels(part).keys()
    }


def write_pseudo_labeled_dataset(
    source: RawDataset,
    target: Path,
    masks: Path,
    scans: Mapping[str, Sequence[Path]],
    *,
    entry: Mapping[str, Any],
    labels: Mapping[str, Any],
) -> None:
    """Write a dataset's cases with more labelled ones, ``scans`` whose masks are predictions.

    Its other scans stay in imagesUn and in the folders there, its test cases in imagesTs and labelsTs. dataset.json
    and ``labelsTr/pseudo_labels.json`` say of the predictions what ``entry`` has, and their cases.
    """
    labeled = source.labels("Tr") | {case: masks / f"{case}{source.file_ending}" for case in scans}
    unlabeled: dict[str, dict[str, list[Path]]] = defaultdict(dict)
    for case, images in source.images("Un").items():
        if case not in scans:
            unlabeled[source_of(images)][case] = images
    files: dict[str, Mapping[str, Sequence[Path]]] = {
        "imagesTr": source.images("Tr") | dict(scans),
        **{f"imagesUn/{folder}": of_folder for folder, of_folder in unlabeled.items()},
        "imagesTs": source.images("Ts"),
        "labelsTr": {case: [mask] for case, mask in labeled.items()},
        "labelsTs": {case: [mask] for case, mask in source.labels("Ts").items()},
    }
    mark = {**entry, "cases": sorted({*predicted_masks(source.folder / "labelsTr"), *scans})}
    link_dataset(target, source.dataset_json | {"labels": dict(labels), KEY: mark}, files)
    write_json(mark, target / "labelsTr" / FILE)
