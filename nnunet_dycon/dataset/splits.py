"""Which cases are labelled and which are not: the key ``unlabeled`` in ``splits_final.json``, and imagesUn."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_raw
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_dycon.dataset.preprocessed_files import check_preprocessed_foreground, labeled_cases_in
from nnunet_dycon.dataset.raw_dataset import RawDataset, like_images_un
from nnunet_dycon.dataset.unlabeled_scans import cases_of_images_un, configuration_of
from nnunet_dycon.errors import UserError, did_you_mean
from nnunet_dycon.files.json_files import read_json, read_json_object
from nnunet_dycon.files.text import few

_KEYS = {"train", "val", "unlabeled"}
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')


def read_splits(preprocessed_dataset_folder_base: str | Path) -> list[dict] | None:
    """Content of ``splits_final.json``, or None where there is none.

    Raises:
        UserError: the file is no list of folds with ``train`` and ``val``, or has names that are no case names.
    """
    file = Path(preprocessed_dataset_folder_base) / "splits_final.json"
    if not file.is_file():
        return None
    splits = read_json(file, "write it again or delete it")
    if not isinstance(splits, list) or not all(map(_is_fold, splits)):
        raise UserError(f'{file} must be a list of folds, each {{"train": [...], "val": [...]}}')
    for number, fold in enumerate(splits):
        if like := [key for key in fold.keys() - _KEYS if did_you_mean(key, ["unlabeled"])]:
            raise UserError(f"{file}, fold {number}, has the key {like[0]!r}, which nothing reads; write 'unlabeled'")
        for key in sorted(_KEYS):
            check_case_names(fold.get(key, []), f"{file}, fold {number}, {key}")
    return splits


def read_split_record(folder: Path) -> dict[str, Any] | None:
    """Content of ``split.json``, which says how ``nnunet-dycon split`` made a dataset; None where there is none.

    Raises:
        UserError: the file is damaged or names no labelled, unlabelled, validation and test cases.
    """
    file, fix = folder / "split.json", "remove it, or restore it as nnunet-dycon split wrote it"
    if not file.is_file():
        return None
    cases = (record := read_json_object(file, fix)).get("cases")
    roles = ("labeled", "unlabeled", "validation", "test")
    if not isinstance(cases, dict) or not all(isinstance(cases.get(role), list) for role in roles):
        raise UserError(f"{file} has no cases that are labeled, unlabeled, validation and test; {fix}")
    return record


def check_case_names(names: Iterable[Any], source: str) -> None:
    """Names of cases become names of files, so they must be such, and not lead out of a folder."""
    for name in names:
        if not isinstance(name, str) or not name or name[-1] in ". " or _FORBIDDEN.search(name):
            raise UserError(
                f"{source} has {name!r} for the name of a case; give the bare name, without folder, channel and "
                "ending, of characters that a file's name may have on any system"
            )


def _is_fold(fold: Any) -> bool:
    return (
        isinstance(fold, dict)
        and {"train", "val"} <= set(fold)
        and all(isinstance(fold.get(key, []), list) for key in _KEYS)
    )


def unlabeled_in_splits(splits: Sequence[dict] | None, fold: int | str) -> list[str]:
    """Cases that are unlabelled for a fold although the dataset was preprocessed with their labels.

    Fold "all" trains on every preprocessed label, so there every case counts that any fold names.

    Raises:
        UserError: a fold beyond the file while other folds name unlabelled cases; nnU-Net would draw a random
            split of all cases for it and train on masks that are to stay unseen.
    """
    named: list[list[str]] = [i.get("unlabeled", []) for i in splits or []]
    if fold == "all":
        return sorted({case for cases in named for case in cases})
    if int(fold) < len(named):
        return sorted(named[int(fold)])
    if any(named):
        raise UserError(
            f"splits_final.json has {len(named)} fold(s) and names unlabelled cases, but not for fold {fold}. "
            f"Choose a fold below {len(named)}, or add fold {fold} with its key 'unlabeled'"
        )
    return []


def held_out_in_place(folder: Path, splits: Sequence[dict] | None, fold: int | str) -> list[str]:
    """Cases to be left out of fold "all": test cases, and those without a role, of a dataset that was split in place.

    They lie among the labelled ones.

    Raises:
        UserError: ``splits_final.json`` has no such fold, so that nnU-Net would draw a random one, or the fold trains
            or validates on test cases.
    """
    roles = record["cases"] if (record := read_split_record(folder)) else {}
    tests = roles.get("test", ())
    held_out: list[str] = [*tests, *roles.get("left_out", ())]
    if fold == "all" or not held_out:
        return held_out
    file, fix = folder / "splits_final.json", "or run nnunet-dycon split again with --in-place"
    if int(fold) >= len(splits or []):
        raise UserError(
            f"{file} has no fold {fold}, and split.json holds out {len(held_out)} cases that a random fold would train "
            f"on. Choose a fold that is there, {fix}"
        )
    here = (splits or [])[int(fold)]
    if inside := sorted({*here["train"], *here["val"]} & {*tests}):
        raise UserError(
            f"fold {fold} in {file} has {few(inside)}, which split.json calls test cases: the fold was not made by the "
            f"split that holds them out. Train another fold, {fix} and -f {fold}, or --folds"
        )
    return []


def check_not_moved(raw: RawDataset, labeled: Iterable[str], parts: Sequence[str] = ("Un", "Ts")) -> None:
    """Raise a UserError if a case that is preprocessed with its mask is unlabelled or a test case by now."""
    known = raw.images("Tr").keys()
    for part in parts if known else ():  # the raw dataset may lie elsewhere
        if moved := sorted((set(labeled) & raw.images(part).keys()) - known):
            raise UserError(
                f"{few(moved)}: in images{part} now, not in imagesTr, but still preprocessed with a mask. Plan and "
                f"preprocess again, with the dataset's folder in nnUNet_preprocessed moved away (it may hold a "
                "splits_final.json that names them)"
            )


def check_disjoint(train: Iterable[str], val: Iterable[str], unlabeled: Iterable[str]) -> None:
    """Raise a UserError if an unlabelled case is also a training or a validation case."""
    unlabeled = set(unlabeled)
    for name, cases in (("labelled for training", train), ("a validation case", val)):
        if both := sorted(unlabeled & set(cases)):
            raise UserError(
                f"unlabelled cases are also {name}: {few(both)}. Remove them from imagesUn (or the key 'unlabeled' of "
                "splits_final.json), or from the labelled cases"
            )


def check_fold(
    train: Sequence[str], val: Sequence[str], unlabeled: Sequence[str], *, known: Collection[str], fold: int | str
) -> None:
    """Check what is known of a fold of splits_final.json by the names alone, given all ``known`` labelled cases.

    Raises:
        UserError: no training or validation case, a name that does not exist, or a case with two roles.
    """
    check_disjoint(train, val, unlabeled)
    for role, key, cases in (("training", "train", train), ("validation", "val", val), ("", "unlabeled", unlabeled)):
        if role and not cases:
            raise UserError(
                f"fold {fold} has no {role} case; name labelled cases under '{key}' in splits_final.json (with few "
                "labels the training cases may validate, too)"
            )
        if unknown := sorted(set(cases) - set(known)):
            raise UserError(
                f"fold {fold} of splits_final.json names {few(unknown)} under '{key}', but there is no such labelled "
                f"case{did_you_mean(unknown[0], known)}; correct the name, or preprocess the case"
                + ("" if role else " (those of imagesUn are unlabelled without being named)")
            )


def raw_or_empty(dataset_name: str, dataset_json: dict[str, Any]) -> RawDataset:
    """The raw dataset; where it is not on this machine, one without cases."""
    return RawDataset(Path(nnUNet_raw.get() or "nnUNet_raw", dataset_name), dataset_json)


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

    ``base`` is the dataset's folder in nnUNet_preprocessed; without ``fold`` all of splits_final.json are checked.

    Returns:
        The cases of imagesUn with their sources.
    """
    manager = PlansManager(plans)
    folder = base / configuration_of(manager, configuration_name).data_identifier
    unlabeled = cases_of_images_un(dataset_name, dataset_json, manager, folder)
    preprocessed = labeled_cases_in(folder)
    raw = raw_or_empty(dataset_name, dataset_json)
    check_not_moved(raw, preprocessed, ["Un"])
    check_disjoint([*preprocessed, *raw.images("Tr")], (), unlabeled)
    splits = read_splits(base) or []
    for i in [fold] if fold is not None else range(len(splits)) or ["all"]:
        in_splits = unlabeled_in_splits(splits, i)
        if i != "all" and int(i) < len(splits):
            train, val = splits[int(i)]["train"], splits[int(i)]["val"]
            check_disjoint(train, val, unlabeled)
            check_fold(train, val, in_splits, known=preprocessed or raw.images("Tr"), fold=i)
            check_preprocessed_foreground(folder, train)
        _check_any_unlabeled([*unlabeled, *in_splits], raw, f" in fold {i}" if splits or i == fold else "")
    return unlabeled


def _check_any_unlabeled(cases: Sequence[str], raw: RawDataset, where: str) -> None:
    if not cases:
        raise UserError(
            f"{raw.name} has no unlabelled case{where}: no scan in {raw.folder / 'imagesUn'}"
            f"{like_images_un(raw.folder)}, nor a fold of splits_final.json that names cases under 'unlabeled'. Put "
            "scans without masks there, or train on the labelled cases alone with -tr nnUNetTrainerSupervised"
        )
