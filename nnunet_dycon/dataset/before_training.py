"""Everything that names and small files can tell, checked before the first scan is preprocessed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_dycon.dataset.preprocessed_files import check_preprocessed_foreground, labeled_cases_in
from nnunet_dycon.dataset.raw_dataset import RawDataset
from nnunet_dycon.dataset.splits import check_disjoint, check_fold, read_splits, unlabeled_in_splits
from nnunet_dycon.dataset.unlabeled_scans import (
    configuration_of,
    find_raw_scans,
    preprocessed_unlabeled_folder,
    raw_unlabeled_folder,
    recorded_source,
    source_of,
    where_unlabeled_scans_belong,
)
from nnunet_dycon.errors import UserError


def check_before_training(
    dataset_name: str,
    configuration_name: str,
    plans: dict[str, Any],
    dataset_json: dict[str, Any],
    base: Path,
    *,
    fold: int | str | None = None,
) -> dict[str, str]:
    """Refuse what training would stumble over: in imagesUn, the labelled cases and splits_final.json.

    Args:
        base: the dataset's folder in nnUNet_preprocessed.
        fold: the fold that is trained; None checks all that splits_final.json has.

    Returns:
        The cases of imagesUn, or of those that were preprocessed where it is not here, with their sources.

    Raises:
        UserError: naming file or case, cause and fix.
    """
    manager = PlansManager(plans)
    folder = base / configuration_of(manager, configuration_name).data_identifier
    unlabeled = _cases_of_images_un(dataset_name, dataset_json, manager, folder)
    preprocessed = labeled_cases_in(folder)
    raw_folder = raw_unlabeled_folder(dataset_name)
    raw = set(RawDataset(raw_folder.parent, dataset_json).images("Tr")) if raw_folder else set()
    check_disjoint(preprocessed | raw, (), unlabeled)
    splits = read_splits(base)
    for i in _folds(splits, fold):
        in_splits = unlabeled_in_splits(splits, i)
        if splits is not None and i != "all":
            train, val = splits[int(i)]["train"], splits[int(i)]["val"]
            known = preprocessed or raw
            check_fold(train, val, [*unlabeled, *in_splits], known=known, fold=i)
            check_preprocessed_foreground(folder, train)
        if not unlabeled and not in_splits:
            raise no_unlabeled_case(dataset_name, i)
    return unlabeled


def no_unlabeled_case(dataset_name: str, fold: int | str) -> UserError:
    """The error that says where they belong, and how to train without them."""
    return UserError(
        f"{dataset_name} has no unlabelled case in fold {fold}: {where_unlabeled_scans_belong(dataset_name)}, nor a "
        "fold of splits_final.json that names cases under 'unlabeled'. Put scans without masks there, or train on the "
        "labelled cases alone with -tr nnUNetTrainerSupervised"
    )


def _cases_of_images_un(
    dataset_name: str, dataset_json: dict[str, Any], plans: PlansManager, folder: Path
) -> dict[str, str]:
    raw_folder = raw_unlabeled_folder(dataset_name)
    if raw_folder is not None:
        scans = find_raw_scans(raw_folder, dataset_json, plans, with_sources=True)
        return {case: source_of(files, raw_folder) for case, files in scans.items()}
    records = sorted(preprocessed_unlabeled_folder(folder).glob("*.json"))
    return {file.stem: recorded_source(file) for file in records}


def _folds(splits: list[dict] | None, fold: int | str | None) -> Sequence[int | str]:
    """Those to check: the one that is trained, else all of the file, and "all" where there is none."""
    if fold is None:
        return range(len(splits)) if splits else ["all"]
    beyond = splits is not None and fold != "all" and int(fold) >= len(splits)
    return [fold] if not beyond or any(i.get("unlabeled") for i in splits or []) else ["all"]
