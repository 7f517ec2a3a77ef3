"""Evaluation of a folder of predictions against a folder of references."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.pool import map_cases
from nnunet_dycon.tools.evaluate.classes import (
    EvaluatedClasses,
    classes_from_dataset_json,
    classes_from_labels,
    find_dataset_json,
)
from nnunet_dycon.tools.evaluate.images import check_grids, check_values, list_cases, read_label_map
from nnunet_dycon.tools.evaluate.metrics import (
    LITERATURE_METRICS,
    METRICS,
    joint_bounding_box,
    literature_metrics,
    segmentation_metrics,
)
from nnunet_dycon.tools.evaluate.results import CaseMetrics, Evaluation, Status


@dataclass(frozen=True)
class _Task:
    """One case, in a form that reaches a spawned process."""

    case: str
    prediction: Path | None
    reference: Path
    classes: EvaluatedClasses
    literature: bool


def evaluate_folder(
    predictions: str | Path,
    references: str | Path,
    *,
    labels: Mapping[str, int | Sequence[int]] | None = None,
    dataset_json: str | Path | None = None,
    literature: bool = False,
    only_predicted: bool = False,
    num_processes: int = 1,
    progress: bool = False,
) -> Evaluation:
    """Evaluate a folder of label maps against a folder of references; cases are joined by file name.

    Args:
        predictions: Folder of predicted label maps.
        references: Folder of reference label maps.
        labels: Classes and regions as in the ``labels`` of a dataset.json; other values count as background.
            Without it: those of ``dataset_json``, else of the dataset.json in ``predictions`` or beside
            ``references``, else every value found in the references.
        dataset_json: The dataset.json to use.
        literature: MedPy's voxel numbers as in published papers instead of millimetres.
        only_predicted: Leave cases without prediction out instead of counting them as empty predictions.
        num_processes: Worker processes (spawned: with more than 1 a script needs the usual main guard).
        progress: Show progress bars on stderr.

    Raises:
        UserError: A folder is wrong, no case is predicted, grids differ, or a file cannot be read or holds
            values that are no labels. The message names all cases concerned.
    """
    predictions, references = Path(predictions), Path(references)
    predicted, expected = list_cases(predictions), list_cases(references)
    missing = sorted(expected.keys() - predicted.keys())
    _check_overlap(predictions, references, predicted, expected)
    warnings = _check_all_grids(predicted, expected, spacing_matters=not literature)
    run = partial(map_cases, num_processes=num_processes, progress=progress)
    classes = _find_classes(predictions, references, labels, dataset_json) or _classes_in(
        run(_values_in, list(expected.values()), description="read labels")
    )
    tasks = [
        _Task(case, predicted.get(case), path, classes, literature)
        for case, path in expected.items()
        if case in predicted or not only_predicted
    ]
    return Evaluation(
        predictions=predictions,
        references=references,
        classes=classes,
        metrics=LITERATURE_METRICS if literature else METRICS,
        cases=[row for rows in run(_evaluate_case, tasks, description="evaluate") for row in rows],
        missing=missing,
        without_reference=sorted(predicted.keys() - expected.keys()),
        only_predicted=only_predicted,
        warnings=warnings,
    )


def _check_overlap(
    predictions: Path, references: Path, predicted: Mapping[str, Path], expected: Mapping[str, Path]
) -> None:
    if not predicted.keys() & expected.keys():
        raise UserError(
            f"no case of {predictions} (such as {next(iter(predicted))}) has a reference of the same name in "
            f"{references} (such as {next(iter(expected))}); are these the right folders?"
        )


def _check_all_grids(
    predicted: Mapping[str, Path], expected: Mapping[str, Path], *, spacing_matters: bool
) -> list[str]:
    """Compare all headers before anything is computed; returns the warnings."""
    warnings, errors = [], []
    for case in sorted(predicted.keys() & expected.keys()):
        try:
            warnings += check_grids(case, predicted[case], expected[case], spacing_matters=spacing_matters)
        except UserError as error:
            errors.append(str(error))
    if errors:
        raise UserError("\n".join(errors))
    return warnings


def _find_classes(
    predictions: Path,
    references: Path,
    labels: Mapping[str, int | Sequence[int]] | None,
    dataset_json: str | Path | None,
) -> EvaluatedClasses | None:
    """The classes as given or as in the nearest dataset.json, or None."""
    if labels is not None:
        return classes_from_labels(labels, "the given labels", complete=False)
    path = find_dataset_json(predictions, references) if dataset_json is None else Path(dataset_json)
    return None if path is None else classes_from_dataset_json(path)


def _classes_in(found: Iterable[set[int]]) -> EvaluatedClasses:
    """One class for every value that was found in the references but 0."""
    values = sorted(set[int]().union(*found) - {0})
    return classes_from_labels({str(i): i for i in values}, "the references", complete=False)


def _values_in(path: Path) -> set[int]:
    return set(np.unique(read_label_map(path)[0]).tolist())


def _evaluate_case(task: _Task) -> list[CaseMetrics]:
    """All classes of one case."""
    reference, spacing_mm = read_label_map(task.reference)
    prediction = np.zeros_like(reference) if task.prediction is None else read_label_map(task.prediction)[0]
    box = joint_bounding_box(prediction, reference)
    prediction, reference = prediction[box], reference[box]
    check_values(reference, task.reference, task.classes)
    if task.prediction is not None:
        check_values(prediction, task.prediction, task.classes)
    if task.classes.ignore_label is not None:
        ignored = reference == task.classes.ignore_label
        prediction[ignored] = reference[ignored] = 0
    return [
        _evaluate_class(task, name, np.isin(prediction, values), np.isin(reference, values), spacing_mm)
        for name, values in task.classes.values.items()
    ]


def _evaluate_class(
    task: _Task, name: str, prediction: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, ...]
) -> CaseMetrics:
    """One class of one case; masks without ignored voxels."""
    if task.literature:
        values = literature_metrics(prediction, reference)
    else:
        values = segmentation_metrics(prediction, reference, spacing_mm)
    if task.prediction is None:  # the papers' distance 0 is for an empty prediction, not for a missing file
        values |= {metric: math.nan for metric in values if metric not in ("Dice", "Jaccard")}
    sizes = int(np.count_nonzero(prediction)), int(np.count_nonzero(reference))
    return CaseMetrics(task.case, name, _status(task, *sizes), values, *sizes)


def _status(task: _Task, prediction_voxels: int, reference_voxels: int) -> Status:
    if task.prediction is None:
        return Status.MISSING_PREDICTION
    if prediction_voxels and reference_voxels:
        return Status.OK
    if prediction_voxels:
        return Status.EMPTY_REFERENCE
    return Status.EMPTY_PREDICTION if reference_voxels else Status.BOTH_EMPTY
