"""A dataset with a model's predictions for masks: what the second stage of self-training trains on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunet_dycon.dataset.pseudo_labels import predicted_masks, write_pseudo_labeled_dataset
from nnunet_dycon.dataset.raw_dataset import (
    RawDataset,
    channel_names,
    check_new_dataset,
    environment_folder,
    label_values,
)
from nnunet_dycon.dataset.splits import read_splits
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import write_json
from nnunet_dycon.files.text import few
from nnunet_dycon.files.whole_files import check_writable, partial_folder, whole, whole_folders
from nnunet_dycon.models.prediction import find_scans, segment_scans
from nnunet_dycon.models.trained_model import TrainedModel


class PseudoLabels(NamedTuple):
    """The new raw dataset, the cases whose mask is a prediction, and the value of the voxels left out, if any."""

    folder: Path
    cases: list[str]
    ignore_label: int | None


def new_pseudo_labeled_dataset(
    model: TrainedModel,
    source: RawDataset,
    dataset_id: int,
    *,
    name: str | None = None,
    images: Path | None = None,
    min_confidence: float = 0.0,
    progress: bool = False,
) -> PseudoLabels:
    """``pseudo_label`` into ``nnUNet_raw/DatasetXXX_Name``, with folds that validate on no prediction.

    Dataset and folds appear together or not at all.

    Raises:
        UserError: As ``pseudo_label``, or the ID is in use.
    """
    name = name or f"{source.name.split('_', 1)[-1]}_pseudo"
    check_new_dataset(dataset_id, name, "-t")
    target = source.folder.with_name(f"Dataset{dataset_id:03d}_{name}")
    root = environment_folder("nnUNet_preprocessed")
    check_writable(root)
    folds = folds_without_predictions(source, read_splits(root / source.name))
    with (
        _predicted(model, source, target, images, min_confidence, progress) as (labels, write),
        whole_folders(root / target.name, target) as (preprocessed, folder),
    ):
        write(folder)
        preprocessed.mkdir()
        if (in_place := root / source.name / "split.json").is_file():  # whose test cases stay such
            shutil.copy(in_place, preprocessed)
        splits = [fold | {"train": [*fold["train"], *labels.cases]} for fold in folds]
        write_json(splits, preprocessed / "splits_final.json")
    return labels


def folds_without_predictions(source: RawDataset, splits: list[dict] | None) -> list[dict[str, list[str]]]:
    """The source's folds; without, nnU-Net's, or for few cases one that validates on what it trains on."""
    if splits is not None:
        return splits
    predicted = predicted_masks(source.folder / "labelsTr")
    cases = sorted(source.labels("Tr").keys() - predicted)
    folds = [{"train": cases, "val": cases}]
    if len(cases) >= 5:
        folds = generate_crossval_split(cases, seed=12345, n_splits=5)
    return [{"train": [*map(str, i["train"]), *sorted(predicted)], "val": [*map(str, i["val"])]} for i in folds]


def pseudo_label(
    model: TrainedModel,
    source: RawDataset,
    target: Path,
    *,
    images: Path | None = None,
    min_confidence: float = 0.0,
    progress: bool = False,
) -> PseudoLabels:
    """Predict unlabelled scans and write a dataset, whole or not at all, in which the predictions are masks.

    The new dataset, the folder ``target``, has all cases of ``source``, and says of each predicted mask that it is one.

    Args:
        images: Folder of the scans to predict; None is imagesUn of ``source``.
        min_confidence: Voxels whose most probable class (of regions: whose least sure region) is less probable get
            nnU-Net's ignore label; 0 keeps all.

    Raises:
        UserError: There is no scan, one has the name of a labelled or a test case, the model has other classes,
            channels or another file ending, or ``target`` exists.
    """
    with (
        _predicted(model, source, target, images, min_confidence, progress) as (labels, write),
        whole(target) as folder,
    ):
        write(folder)
    return labels


@contextmanager
def _predicted(
    model: TrainedModel, source: RawDataset, target: Path, images: Path | None, min_confidence: float, progress: bool
) -> Iterator[tuple[PseudoLabels, Callable[[Path], None]]]:
    """What the new dataset is to hold, and what writes it into a folder; the predictions are there meanwhile."""
    if not 0 <= min_confidence < 1:
        raise UserError(f"--min-confidence {min_confidence}: give a probability from 0 to below 1")
    if target.exists():
        raise UserError(f"{target} exists; choose another dataset ID, or remove it")
    _check_model(model, source)
    images = images or source.folder / "imagesUn"
    scans = find_scans(model, images, "put the unlabelled scans there, or give another folder with -i")
    for part, role in (("Tr", "labelled"), ("Ts", "test")):
        if both := scans.keys() & source.images(part).keys():
            raise UserError(f"{few(sorted(both))}: in {images} and a {role} case of {source.name}; rename or remove it")
    labels, ignore_label, change = dict(source.dataset_json["labels"]), None, None
    if min_confidence > 0:
        ignore_label = labels.setdefault("ignore", label_values(source.dataset_json)[-1] + 1)  # nnU-Net: the highest
        regions = model.predictor.label_manager.has_regions
        change = partial(_ignore_unsure, ignore_label=ignore_label, min_confidence=min_confidence, regions=regions)
    target.parent.mkdir(parents=True, exist_ok=True)
    with partial_folder(target.parent, f"{target.name}-masks") as masks:
        segment_scans(model, scans, masks, change=change, progress=progress)
        entry = {"model": str(model.folder), "min_confidence": min_confidence}
        write = partial(write_pseudo_labeled_dataset, source, masks=masks, scans=scans, entry=entry, labels=labels)
        yield PseudoLabels(target, list(scans), ignore_label), write


def _check_model(model: TrainedModel, source: RawDataset) -> None:
    """Classes, channels and files must be the same; the ignore label is no class, and no model predicts it."""
    contents = (model.dataset_json, source.dataset_json)
    predicts, labels = ({name: i["labels"][name] for name in i["labels"] if name != "ignore"} for i in contents)
    if predicts != labels:
        raise UserError(
            f"the model predicts {list(predicts)}, {source.name} has {list(labels)}; take a model of the same classes"
        )
    trained_on, has = (f"{len(channel_names(i))} channel(s) in {i['file_ending']} files" for i in contents)
    if trained_on != has:
        raise UserError(
            f"the model was trained on {trained_on}, {source.name} has {has}; convert the dataset, or take a model "
            "that was trained on such files"
        )


def _ignore_unsure(
    mask: np.ndarray, probabilities: np.ndarray, *, ignore_label: int, min_confidence: float, regions: bool
) -> np.ndarray:
    """The mask (Z, Y, X), ignored where the probabilities (C, Z, Y, X), of classes or of regions, are less sure."""
    probabilities = np.asarray(probabilities)
    confidence = np.maximum(probabilities, 1 - probabilities).min(0) if regions else probabilities.max(0)
    return np.where(confidence < min_confidence, ignore_label, mask).astype(mask.dtype)
