"""The cases a suggestion is about: preprocessed images of unlabelled ones, and of those the model learned from."""

from __future__ import annotations

from pathlib import Path

from nnunetv2.paths import nnUNet_raw
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

from nnunet_dycon.dataset.raw_dataset import RawDataset, environment_folder
from nnunet_dycon.dataset.splits import read_splits, unlabeled_in_splits
from nnunet_dycon.dataset.unlabeled_preprocessing import preprocess_unlabeled
from nnunet_dycon.dataset.unlabeled_scans import (
    configuration_of,
    find_raw_scans,
    preprocessed_unlabeled_folder,
    raw_unlabeled_folder,
)
from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.suggest.model import TrainedModel
from nnunet_dycon.tools.suggest.scan_view import Turn, turn_of

_READER_WITH_DIRECTIONS = "SimpleITKIO"  # others reorder the axes in their own way


def preprocessed_folder(model: TrainedModel) -> Path:
    """Folder of the preprocessed labelled cases of the model's configuration."""
    configuration = configuration_of(model.predictor.plans_manager, model.configuration)
    return environment_folder("nnUNet_preprocessed") / model.dataset / configuration.data_identifier


def unlabeled_images(model: TrainedModel, *, num_processes: int, progress: bool) -> dict[str, Path]:
    """Preprocessed image of each case in imagesUn, preprocessed now by the model's plans where needed.

    Raises:
        UserError: there is none, or it cannot be preprocessed.
    """
    predictor, folder = model.predictor, preprocessed_folder(model)
    cases = preprocess_unlabeled(
        model.dataset,
        model.configuration,
        predictor.plans_manager.plans,
        predictor.dataset_json,
        folder,
        num_processes=num_processes,
        progress=progress,
    )
    if not cases:
        raise UserError(
            f"{model.dataset} has no unlabelled case to choose from: put scans without masks into imagesUn of the raw "
            "dataset (cases under 'unlabeled' in splits_final.json have masks already)"
        )
    return {case: preprocessed_unlabeled_folder(folder) / f"{case}.b2nd" for case in cases}


def labeled_images(model: TrainedModel) -> dict[str, Path]:
    """Preprocessed image of each case whose mask the model was trained with, as far as they are there.

    Without ``splits_final.json`` and for fold "all" these are all labelled cases; validation cases are none of them.
    """
    folder = preprocessed_folder(model)
    if not folder.is_dir():
        return {}
    present = set(infer_dataset_class(str(folder)).get_identifiers(str(folder)))
    splits = read_splits(folder.parent)
    cases: set[str] = set()
    for fold in model.folds:
        if splits is not None and fold != "all" and int(fold) < len(splits):
            cases |= set(splits[int(fold)]["train"])
        else:
            cases |= present - set(unlabeled_in_splits(splits, fold))
    return {case: file for case in sorted(cases & present) if (file := folder / f"{case}.b2nd").is_file()}


def labeled_but_not_preprocessed(model: TrainedModel) -> list[str]:
    """Cases in imagesTr whose images the suggestion cannot look at, because they are not preprocessed."""
    if not nnUNet_raw.is_set():
        return []
    raw = RawDataset(environment_folder("nnUNet_raw") / model.dataset, model.predictor.dataset_json)
    folder = preprocessed_folder(model)
    return [case for case in raw.images("Tr") if not (folder / f"{case}.b2nd").is_file()]


def turns(model: TrainedModel) -> dict[str, Turn]:
    """How to show each case in imagesUn; empty where the raw scans are not there or store no direction."""
    plans, raw = model.predictor.plans_manager, raw_unlabeled_folder(model.dataset)
    if raw is None or plans.plans["image_reader_writer"] != _READER_WITH_DIRECTIONS:
        return {}
    scans = find_raw_scans(raw, model.predictor.dataset_json, plans)
    return {case: turn_of(files[0], plans.transpose_forward) for case, files in scans.items()}
