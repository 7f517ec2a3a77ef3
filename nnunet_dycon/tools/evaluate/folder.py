"""Evaluation of a folder of predictions against a folder of references."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.pool import map_cases
from nnunet_dycon.files.text import few
from nnunet_dycon.tools.evaluate.classes import (
    EvaluatedClasses,
    classes_from_dataset_json,
    classes_from_labels,
    find_dataset_json,
)
from nnunet_dycon.tools.evaluate.images import check_grids, list_cases, list_references, read_label_map
from nnunet_dycon.tools.evaluate.metrics import (
    LITERATURE_METRICS,
    METRICS,
    joint_bounding_box,
    literature_metrics,
    segmentation_metrics,
)
from nnunet_dycon.tools.evaluate.results import Evaluation, Status

_LARGEST_COUNTED = 2**16


@dataclass(frozen=True)
class _Task:
    """One case, in a form that reaches a spawned process."""

    case: str
    prediction: Path | None
    reference: Path
    classes: EvaluatedClasses
    literature: bool


@dataclass(frozen=True)
class _CaseResult:
    """Rows of ``Evaluation.cases``, and the values of prediction (none if it is missing) and reference."""

    rows: list[dict[str, Any]]
    predicted: set[int]
    expected: set[int]


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
        UserError: A folder is wrong (one for the other), no case is predicted, grids differ, or a file cannot be read
            or holds values that are no labels. The message names all cases concerned.
    """
    predictions, references = Path(predictions), Path(references)
    if predictions.resolve() == references.resolve():
        raise UserError(f"{predictions} was given for both, predictions and references; give two folders")
    predicted, expected = list_cases(predictions), list_references(references)
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
    results = run(_evaluate_case, tasks, description="evaluate")
    return Evaluation(
        predictions=predictions,
        references=references,
        classes=classes,
        metrics=LITERATURE_METRICS if literature else METRICS,
        cases=pd.DataFrame([row for result in results for row in result.rows]),
        missing=sorted(expected.keys() - predicted.keys()),
        without_reference=sorted(predicted.keys() - expected.keys()),
        only_predicted=only_predicted,
        warnings=[*_one_sided(results, classes), *warnings],
    )


def _one_sided(results: Sequence[_CaseResult], classes: EvaluatedClasses) -> list[str]:
    """A warning for the values that stand on one side only, in all cases that have a prediction."""
    both = [result for result in results if result.predicted]
    meaningless = {0, classes.ignore_label}
    predicted = set[int]().union(*(i.predicted for i in both)) - meaningless
    expected = set[int]().union(*(i.expected for i in both)) - meaningless
    texts = [
        f"no {missing} holds the {'value' if len(values) == 1 else 'values'} {few(sorted(values))}, which {there} hold"
        for missing, there, values in (
            ("reference", "predictions", predicted - expected),
            ("prediction", "references", expected - predicted),
        )
        if values
    ]
    if not texts:
        return []
    return [f"{', and '.join(texts)}, in all {len(both)} cases; do both mean the same classes by the same values?"]


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
    return _values(read_label_map(path)[0])


def _values(voxels: np.ndarray) -> set[int]:
    """The values of a label map; counting is much faster than sorting, which labels rarely need."""
    if not voxels.size or voxels.min() < 0 or voxels.max() > _LARGEST_COUNTED:
        return set(np.unique(voxels).tolist())
    return set(np.flatnonzero(np.bincount(voxels.ravel())).tolist())


def _evaluate_case(task: _Task) -> _CaseResult:
    """All classes of one case."""
    reference, spacing_mm = read_label_map(task.reference)
    prediction = np.zeros_like(reference) if task.prediction is None else read_label_map(task.prediction)[0]
    box = joint_bounding_box(prediction, reference)
    prediction, reference = prediction[box], reference[box]
    expected, predicted = _values(reference), _values(prediction) | {0} if task.prediction else set[int]()
    _check_values(expected, task.reference, task.classes)
    if task.prediction is not None:
        _check_values(predicted, task.prediction, task.classes)
    if task.classes.ignore_label is not None:
        ignored = reference == task.classes.ignore_label
        prediction[ignored] = reference[ignored] = 0
    rows = [
        _evaluate_class(task, name, np.isin(prediction, values), np.isin(reference, values), spacing_mm)
        for name, values in task.classes.values.items()
    ]
    return _CaseResult(rows, predicted, expected)


def _check_values(values: set[int], path: Path, classes: EvaluatedClasses) -> None:
    """Refuse values that are no labels of the dataset: they would count as background silently."""
    unknown = set() if classes.known_values is None else values - classes.known_values
    if unknown:
        raise UserError(
            f"{path} holds the values {sorted(unknown)[:5]}, which are no labels in {classes.source}; correct the "
            "file, or name the values to evaluate with --labels"
        )


def _evaluate_class(
    task: _Task, name: str, prediction: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, ...]
) -> dict[str, Any]:
    """One class of one case, a row of ``Evaluation.cases``; masks without ignored voxels."""
    if task.literature:
        values = literature_metrics(prediction, reference)
    else:
        values = segmentation_metrics(prediction, reference, spacing_mm)
    if task.prediction is None:  # the papers' distance 0 is for an empty prediction, not for a missing file
        values |= {metric: math.nan for metric in values if metric not in ("Dice", "Jaccard")}
    sizes = {"prediction_voxels": int(prediction.sum()), "reference_voxels": int(reference.sum())}
    return {"case": task.case, "class": name, "status": _status(task, *sizes.values()).value, **values, **sizes}


def _status(task: _Task, prediction_voxels: int, reference_voxels: int) -> Status:
    if task.prediction is None:
        return Status.MISSING_PREDICTION
    if prediction_voxels and reference_voxels:
        return Status.OK
    if prediction_voxels:
        return Status.EMPTY_REFERENCE
    return Status.EMPTY_PREDICTION if reference_voxels else Status.BOTH_EMPTY
