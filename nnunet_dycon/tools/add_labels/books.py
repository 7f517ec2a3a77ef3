"""What else names or caches the cases: dataset.json, split.json, splits_final.json, preprocessed unlabelled images.

Each function may be called again after an interruption. ``folder`` is that of the dataset in nnUNet_preprocessed, None
where there is none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunet_dycon.dataset.commands import PLANS, planning, preprocessing
from nnunet_dycon.dataset.raw_dataset import RawDataset
from nnunet_dycon.dataset.splits import read_split_record, read_splits
from nnunet_dycon.files.json_files import read_json, write_json


def check_books(raw: RawDataset, folder: Path | None) -> None:
    """Read what is to be updated or read later, before anything is moved.

    Raises:
        UserError: split.json, splits_final.json or another JSON file of the preprocessed folder is damaged.
    """
    read_split_record(raw.folder)
    if folder is not None:
        read_splits(folder)
        _plans(folder)


def keep_books(raw: RawDataset, folder: Path | None, cases: Sequence[str]) -> list[int] | None:
    """Name the cases as labelled ones everywhere, and delete what was preprocessed of them as unlabelled ones.

    Returns:
        Numbers of the folds that now train on them; None where there is no ``splits_final.json``.
    """
    if (record := read_split_record(raw.folder)) is not None:
        roles = record["cases"]
        roles["labeled"] = _with(roles["labeled"], cases)
        roles["unlabeled"] = [case for case in roles["unlabeled"] if case not in set(cases)]
        record["labels_added"] = _with(record.get("labels_added", []), cases)
        write_json(record, raw.folder / "split.json")
    if folder is None:
        return None
    for case in cases:
        for ending in (".json", ".b2nd"):  # the record first: without it the image counts as not there
            for file in folder.glob(f"*_unlabeled/{case}{ending}"):
                file.unlink()
    return update_splits(folder, cases)


def update_dataset_json(raw: RawDataset) -> None:
    """Set numTraining to the number of cases in imagesTr."""
    write_json(raw.dataset_json | {"numTraining": len(raw.images("Tr"))}, raw.folder / "dataset.json")


def update_splits(folder: Path, cases: Sequence[str]) -> list[int] | None:
    """Add the cases to the training cases of every fold of ``splits_final.json`` that does not validate on them.

    Validation cases stay the same, so that results before and after compare, and no case gets two roles.

    Returns:
        Numbers of the folds that now train on them; None where there is no such file.
    """
    splits = read_splits(folder)
    if splits is None:
        return None
    new = [fold | {"train": _with(fold["train"], [i for i in cases if i not in fold["val"]])} for fold in splits]
    if new != splits:
        write_json(new, folder / "splits_final.json")
    return [i for i, fold in enumerate(new) if set(cases) & set(fold["train"])]


def _with(names: Sequence[str], more: Sequence[str]) -> list[str]:
    return [*dict.fromkeys([*names, *more])]


def preprocessing_commands(folder: Path | None, name: str) -> str:
    """What to run next: nnU-Net's preprocessing of every configuration that was preprocessed before."""
    otherwise = planning(name, PLANS, "--verify_dataset_integrity")
    if folder is None:
        return otherwise
    first: dict[Path, tuple[str, str]] = {}  # data that plans share is named once
    for plans, content in sorted(_plans(folder).items(), key=lambda i: (len(i[0]), i[0])):
        for configuration, values in content["configurations"].items():
            first.setdefault(folder / str(values.get("data_identifier")), (plans, configuration))
    found: dict[str, list[str]] = defaultdict(list)
    for data, (plans, configuration) in first.items():
        if data.is_dir():
            found[plans].append(configuration)
    return "; ".join(preprocessing(name, " ".join(names), plans) for plans, names in found.items()) or otherwise


def _plans(folder: Path) -> dict[str, dict[str, Any]]:
    contents = {file.stem: read_json(file, "correct or delete it") for file in folder.glob("*.json")}
    return {name: i for name, i in contents.items() if isinstance(i, dict) and "configurations" in i}
