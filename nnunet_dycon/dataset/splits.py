"""Which cases are labelled and which are not: the key ``unlabeled`` in ``splits_final.json``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from nnunet_dycon.dataset.case_names import check_case_names
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import read_json
from nnunet_dycon.files.text import few


def read_splits(preprocessed_dataset_folder_base: str | Path) -> list[dict] | None:
    """Content of ``splits_final.json``, or None where there is none.

    Raises:
        UserError: the file is no list of folds with ``train`` and ``val``, or has names that are no case names.
    """
    file = Path(preprocessed_dataset_folder_base) / "splits_final.json"
    if not file.is_file():
        return None
    splits = read_json(file, "write it again or delete it")
    if not isinstance(splits, list) or not all(_is_fold(fold) for fold in splits):
        raise UserError(f'{file} must be a list of folds, each {{"train": [...], "val": [...]}}')
    for number, fold in enumerate(splits):
        for key in ("train", "val", "unlabeled"):
            check_case_names(fold.get(key, []), f"{file}, fold {number}, {key}")
    return splits


def _is_fold(fold: Any) -> bool:
    return (
        isinstance(fold, dict)
        and {"train", "val"} <= set(fold)
        and all(isinstance(fold.get(key, []), list) for key in ("train", "val", "unlabeled"))
    )


def unlabeled_in_splits(splits: Sequence[dict] | None, fold: int | str) -> list[str]:
    """Cases that are unlabelled for a fold although the dataset was preprocessed with their labels.

    Fold "all" trains on every preprocessed label, so there every case counts that any fold names.

    Raises:
        UserError: a fold beyond the file while other folds name unlabelled cases; nnU-Net would draw a random
            split of all cases for it and train on masks that are to stay unseen.
    """
    splits = splits or []
    if fold == "all":
        return sorted({case for i in splits for case in i.get("unlabeled", [])})
    if int(fold) < len(splits):
        return sorted(splits[int(fold)].get("unlabeled", []))
    if any(i.get("unlabeled") for i in splits):
        raise UserError(
            f"splits_final.json has {len(splits)} fold(s) and names unlabelled cases, but not for fold {fold}. "
            f"Choose a fold below {len(splits)}, or add fold {fold} with its key 'unlabeled'"
        )
    return []


def check_disjoint(train: Iterable[str], val: Iterable[str], unlabeled: Iterable[str]) -> None:
    """Raise a UserError if an unlabelled case is also a training or a validation case."""
    unlabeled = set(unlabeled)
    for name, cases in (("labelled for training", train), ("a validation case", val)):
        both = sorted(unlabeled & set(cases))
        if both:
            raise UserError(
                f"unlabelled cases are also {name}: {few(both)}. Remove them from imagesUn (or the key 'unlabeled' of "
                "splits_final.json), or from the labelled cases"
            )
