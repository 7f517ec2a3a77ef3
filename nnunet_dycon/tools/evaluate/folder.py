"""Evaluation of a folder of predictions against a folder of references."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.pool import map_cases
from nnunet_dycon.files.text import few
from nnunet_dycon.tools.evaluate.classes import EvaluatedClasses, classes_from_labels, find_classes
from nnunet_dycon.tools.evaluate.images import check_grids, list_cases, list_references, read_label_map
from nnunet_dycon.tools.evaluate.metrics import (
    LITERATURE_METRICS,
    METRICS,
    joint_bounding_box,
    literature_metrics,
    segmentation_metrics,
)
from nnunet_dycon.tools.evaluate.results import MISSING_PREDICTION, STATUS, Evaluation

_LARGEST_COUNTED = 2**16

Values = set[int]


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
    warnings = _check_all_grids(predicted, expected, spacing_matters=not literature)
    run = partial(map_cases, num_processes=num_processes, progress=progress)
    classes = find_classes(predictions, references, labels, dataset_json) or _classes_in(
        run(_values_in, list(expected.values()), description="read labels")
    )
    evaluate = partial(_evaluate_case, classes=classes, literature=literature)
    pairs = [(case, predicted.get(case), path) for case, path in expected.items()]
    results = run(evaluate, [i for i in pairs if i[1] or not only_predicted], description="evaluate")
    return Evaluation(
        predictions=predictions,
        references=references,
        classes=classes,
        metrics=LITERATURE_METRICS if literature else METRICS,
        cases=pd.DataFrame([row for rows, *_ in results for row in rows]),
        missing=sorted(expected.keys() - predicted.keys()),
        without_reference=sorted(predicted.keys() - expected.keys()),
        only_predicted=only_predicted,
        warnings=[*_one_sided(results, classes), *warnings],
    )


def _one_sided(results: Sequence[tuple[Any, Values, Values]], classes: EvaluatedClasses) -> list[str]:
    """A warning for the values that stand on one side only, in all cases that have a prediction."""
    both = [values for _, *values in results if values[0]]
    predicted, expected = (Values().union(*i) - {0, classes.ignore_label} for i in zip(*both, strict=True))
    texts = [
        f"no {missing} holds the {'value' if len(alone) == 1 else 'values'} {few(sorted(alone))}, which {there} hold"
        for missing, there, alone in (
            ("reference", "predictions", predicted - expected),
            ("prediction", "references", expected - predicted),
        )
        if alone
    ]
    if not texts:
        return []
    return [f"{', and '.join(texts)}, in all {len(both)} cases; do both mean the same classes by the same values?"]


def _check_all_grids(
    predicted: Mapping[str, Path], expected: Mapping[str, Path], *, spacing_matters: bool
) -> list[str]:
    """Compare names and headers before anything is computed; returns the warnings."""
    warnings, errors = [], []
    if not (both := predicted.keys() & expected.keys()):
        (one, file), (other, reference) = next(iter(predicted.items())), next(iter(expected.items()))
        raise UserError(
            f"no case of {file.parent} (such as {one}) has a reference of the same name in {reference.parent} (such "
            f"as {other}); are these the right folders?"
        )
    for case in sorted(both):
        try:
            warnings += check_grids(case, predicted[case], expected[case], spacing_matters=spacing_matters)
        except UserError as error:
            errors.append(str(error))
    if errors:
        raise UserError("\n".join(errors))
    return warnings


def _classes_in(found: Iterable[Values]) -> EvaluatedClasses:
    """One class for every value that was found in the references but 0."""
    values = sorted(Values().union(*found) - {0})
    return classes_from_labels({str(i): i for i in values}, "the references", complete=False)


def _values_in(path: Path) -> Values:
    return _values(read_label_map(path)[0])


def _values(voxels: np.ndarray) -> Values:
    """The values of a label map; counting is much faster than sorting, which labels rarely need."""
    if not voxels.size or voxels.min() < 0 or voxels.max() > _LARGEST_COUNTED:
        return set(np.unique(voxels).tolist())
    return set(np.flatnonzero(np.bincount(voxels.ravel())).tolist())


def _evaluate_case(
    files: tuple[str, Path | None, Path], classes: EvaluatedClasses, literature: bool
) -> tuple[list[dict[str, Any]], Values, Values]:
    """Rows of ``Evaluation.cases`` for a case, the values of its prediction (none if it is missing) and reference."""
    case, predicted_file, reference_file = files
    reference, spacing_mm = read_label_map(reference_file)
    prediction = np.zeros_like(reference) if predicted_file is None else read_label_map(predicted_file)[0]
    box = joint_bounding_box(prediction, reference)
    prediction, reference = prediction[box], reference[box]
    expected, predicted = _values(reference), _values(prediction) | {0} if predicted_file else Values()
    _check_values(expected, reference_file, classes)
    _check_values(predicted, predicted_file, classes)
    if classes.ignore_label is not None:
        ignored = reference == classes.ignore_label
        prediction[ignored] = reference[ignored] = 0
    rows = []
    for name, values in classes.values.items():
        masks = np.isin(prediction, values), np.isin(reference, values)
        row = _row(*masks, None if literature else spacing_mm)
        if predicted_file is None:  # the papers' distance 0 is for an empty prediction, not for a missing file
            undefined = dict.fromkeys((LITERATURE_METRICS if literature else METRICS)[2:], math.nan)
            row |= {"status": MISSING_PREDICTION} | undefined
        rows.append({"case": case, "class": name, **row})
    return rows, predicted, expected


def _row(prediction: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, ...] | None) -> dict[str, Any]:
    """Two masks without ignored voxels; without spacing the numbers are those of the papers."""
    sizes = int(prediction.sum()), int(reference.sum())
    if spacing_mm is None:
        numbers = literature_metrics(prediction, reference)
    else:
        numbers = segmentation_metrics(prediction, reference, spacing_mm)
    status = STATUS[sizes[0] > 0, sizes[1] > 0]
    return {"status": status, **numbers, "prediction_voxels": sizes[0], "reference_voxels": sizes[1]}


def _check_values(values: Values, path: Path | None, classes: EvaluatedClasses) -> None:
    """Refuse values that are no labels of the dataset: they would count as background silently."""
    unknown = set() if classes.known_values is None else values - classes.known_values
    if unknown:
        raise UserError(
            f"{path} holds the values {sorted(unknown)[:5]}, which are no labels in {classes.source}; correct the "
            "file, or name the values to evaluate with --labels"
        )
