"""Which cases are labelled and which are not: the key ``unlabeled`` in ``splits_final.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from nnunet_dycon.errors import UserError


def read_splits(preprocessed_dataset_folder_base: str | Path) -> list[dict] | None:
    """Content of ``splits_final.json``, or None where there is none.

    Raises:
        UserError: the file is no list of folds with ``train`` and ``val``.
    """
    file = Path(preprocessed_dataset_folder_base) / "splits_final.json"
    if not file.is_file():
        return None
    try:
        splits = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{file} is no valid JSON ({error}); write it again or delete it") from error
    if not isinstance(splits, list) or any(not {"train", "val"} <= set(fold) for fold in splits):
        raise UserError(f'{file} must be a list of folds, each {{"train": [...], "val": [...]}}')
    return splits


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
                f"unlabelled cases are also {name}: {', '.join(both[:5])}"
                f"{' ...' if len(both) > 5 else ''}. Remove them from imagesUn (or the key 'unlabeled' of "
                "splits_final.json), or from the labelled cases"
            )
