"""Evaluation of a folder of predictions against a folder of references: label maps on disk become a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from SimpleITK import GetArrayFromImage

from nnunet_dycon.dataset.pseudo_labels import predicted_masks
from nnunet_dycon.dataset.reading import read_header, read_image
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import read_json_object
from nnunet_dycon.files.pool import map_cases
from nnunet_dycon.files.text import few
from nnunet_dycon.tools.evaluate import metrics
from nnunet_dycon.tools.evaluate.classes import EvaluatedClasses, classes_from_labels, find_classes

FILE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".gipl.gz", ".gipl", ".png", ".bmp", ".tiff", ".tif")
# what nnU-Net and this package leave beside predictions, and nothing leaves beside references
PREDICTION_FILES = ("predict_from_raw_data_args.json", "plans.json", "dataset.json", "summary.json", "uncertainty.json")
SPACING_TOLERANCE = 1e-4  # relative; headers keep float32 or a few decimals
POSITION_TOLERANCE = 1e-3  # of the origin in mm, and of the direction
_LARGEST_COUNTED = 2**16

# why a metric of a case may be undefined
EMPTY_PREDICTION, EMPTY_REFERENCE, BOTH_EMPTY = "empty prediction", "empty reference", "both empty"
MISSING_PREDICTION = "missing prediction"
_STATUS = {(True, True): "ok", (False, True): EMPTY_PREDICTION, (True, False): EMPTY_REFERENCE}
"""By whether prediction and reference have foreground."""


@dataclass(frozen=True)
class Evaluation:
    """A folder of predictions against a folder of references.

    Attributes:
        metrics: Metric names in the order of the report; the distances end in ``_mm`` or ``_voxels``.
        cases: One row for every case and class, sorted by case: case, class, status, the metrics (NaN where undefined),
            prediction_voxels and reference_voxels (sizes of the masks without ignored voxels).
        missing: Cases without prediction. With ``only_predicted`` they are in no mean, else each counts as an
            empty prediction: Dice and Jaccard 0 where the reference is not empty, distances undefined.
        without_reference: Predicted cases without reference; not evaluated.
        warnings: What does not prevent an evaluation, but may make it a wrong one.
    """

    predictions: Path
    references: Path
    classes: EvaluatedClasses
    metrics: tuple[str, ...]
    cases: pd.DataFrame
    missing: list[str]
    without_reference: list[str]
    only_predicted: bool
    warnings: list[str]

    @cached_property
    def summary(self) -> pd.DataFrame:
        """By class and metric: mean, sample standard deviation ``sd`` and number ``n`` of the cases that define it."""
        classes = self.cases.groupby("class", sort=False)
        tables = {metric: classes[metric].agg(mean="mean", sd="std", n="count") for metric in self.metrics}
        order = [(name, metric) for name in self.classes.values for metric in self.metrics]
        return pd.concat(tables, names=["metric"]).swaplevel().loc[order]

    @property
    def mean_of_classes(self) -> pd.Series:
        """Metric to the mean of the class means (nnU-Net: ``foreground_mean``), NaN if one is."""
        return self.summary["mean"].groupby("metric", sort=False).agg(lambda means: means.mean(skipna=False))


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
        labels: Classes and regions as in the ``labels`` of a dataset.json; other values count as background.
            Without it: those of ``dataset_json``, else of the dataset.json in ``predictions`` or beside
            ``references``, else every value found in the references.
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
    predicted, expected = _list_cases(predictions), _list_references(references)
    warnings = _check_grids(predicted, expected, spacing_matters=not literature)
    run = partial(map_cases, num_processes=num_processes, progress=progress)
    classes = find_classes(predictions, references, labels, dataset_json)
    if classes is None:
        found = set[int]().union(*run(_values_in, list(expected.values()), description="read labels")) - {0}
        classes = classes_from_labels({str(i): i for i in sorted(found)}, "the references", complete=False)
    evaluate = partial(_evaluate_case, classes=classes, literature=literature)
    wanted = [
        (case, predicted.get(case), path) for case, path in expected.items() if case in predicted or not only_predicted
    ]
    results = run(evaluate, wanted, description="evaluate")
    return Evaluation(
        predictions=predictions,
        references=references,
        classes=classes,
        metrics=metrics.LITERATURE_METRICS if literature else metrics.METRICS,
        cases=pd.DataFrame([row for rows, *_ in results for row in rows]),
        missing=sorted(expected.keys() - predicted.keys()),
        without_reference=sorted(predicted.keys() - expected.keys()),
        only_predicted=only_predicted,
        warnings=[*_one_sided(results, classes), *warnings, *_without_voxel_size(wanted, literature)],
    )


# -------------------------------------------------------------------------------------------- files and their headers


def _list_cases(folder: Path) -> dict[str, Path]:
    """The label maps of a folder by case name (the file name without its ending, of any case), sorted."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; give the folder that holds one label map a case")
    cases: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        ending = next((i for i in FILE_ENDINGS if path.name.lower().endswith(i)), None)
        if ending is None or path.name.startswith("."):
            continue
        case = path.name[: -len(ending)]
        if case in cases:
            raise UserError(f"{folder} has case {case} twice: {cases[case].name}, {path.name}; remove one")
        cases[case] = path
    if not cases:
        raise UserError(f"{folder} has no label maps ({', '.join(FILE_ENDINGS[:3])}, ...); is it the right one?")
    return cases


def _list_references(folder: Path) -> dict[str, Path]:
    """The label maps of a folder of references; masks that are said to be predictions are not among them."""
    cases = _list_cases(folder)
    if found := [name for name in PREDICTION_FILES if (folder / name).is_file()]:
        raise UserError(
            f"{folder} was given as the folder of references, but it holds predictions ({found[0]} lies there). Are "
            "the two folders the wrong way round? Write --references REFERENCES --predictions PREDICTIONS"
        )
    drawn = cases.keys() - predicted_masks(folder)
    if not drawn:
        raise UserError(
            f"all masks of {folder} are predictions (pseudo_labels.json or dataset.json says so); give drawn ones"
        )
    return {case: path for case, path in cases.items() if case in drawn}


def _check_grids(predicted: Mapping[str, Path], expected: Mapping[str, Path], *, spacing_matters: bool) -> list[str]:
    """Compare names and headers before anything is computed; returns the warnings."""
    pairs = [(case, predicted[case], expected[case]) for case in predicted if case in expected]
    if not pairs:
        (one, file), (other, reference) = next(iter(predicted.items())), next(iter(expected.items()))
        raise UserError(
            f"no case of {file.parent} (such as {one}) has a reference of the same name in {reference.parent} (such "
            f"as {other}); are these the right folders?"
        )
    check = partial(_check_grid, spacing_matters=spacing_matters)
    found = map_cases(check, sorted(pairs), num_processes=1, description="headers", progress=False)
    return [warning for of_case in found for warning in of_case]


def _check_grid(files: tuple[str, Path, Path], *, spacing_matters: bool) -> list[str]:
    """Warnings of another spacing, where it does not matter and is no error, of another origin or direction."""
    case, (predicted, expected) = files[0], map(read_header, files[1:])
    if predicted.GetSize() != expected.GetSize():
        raise UserError(
            f"case {case}: the prediction has {predicted.GetSize()} voxels, the reference "
            f"{expected.GetSize()}; predict the images that belong to these references, on their grid"
        )
    warnings, differ = [], f"case {case}: the prediction has {{}} {{}}, the reference {{}}"
    spacings, origins = (predicted.GetSpacing(), expected.GetSpacing()), (predicted.GetOrigin(), expected.GetOrigin())
    if not np.allclose(*spacings, rtol=SPACING_TOLERANCE, atol=0):
        warnings.append(differ.format("spacing", *spacings))
        if spacing_matters:
            raise UserError(f"{warnings[0]}; correct the header that is wrong, or use --literature (no spacing)")
    if not np.allclose(*origins, rtol=0, atol=POSITION_TOLERANCE):
        warnings.append(differ.format("origin", *origins))
    if not np.allclose(predicted.GetDirection(), expected.GetDirection(), rtol=0, atol=POSITION_TOLERANCE):
        warnings.append(f"case {case}: prediction and reference have different directions (is one flipped?)")
    return warnings


# ------------------------------------------------------------------------------------------------- voxels of a case


def _evaluate_case(
    files: tuple[str, Path | None, Path], classes: EvaluatedClasses, literature: bool
) -> tuple[list[dict[str, Any]], set[int], set[int]]:
    """Rows of ``Evaluation.cases`` for a case, the values of its prediction (none if it is missing) and reference."""
    case, predicted_file, reference_file = files
    reference, spacing_mm = _read_label_map(reference_file)
    if record := _spacing_record(predicted_file, reference_file):
        spacing_mm = _recorded_spacing(record)[-reference.ndim :]
    prediction = np.zeros_like(reference) if predicted_file is None else _read_label_map(predicted_file)[0]
    prediction, reference = metrics.cropped(prediction, reference)
    expected = _known_values(reference, reference_file, classes)
    predicted = _known_values(prediction, predicted_file, classes) | {0} if predicted_file else set()
    if classes.ignore_label is not None:
        ignored = reference == classes.ignore_label
        prediction[ignored] = reference[ignored] = 0
    measure = metrics.literature_metrics if literature else partial(metrics.segmentation_metrics, spacing_mm=spacing_mm)
    rows = []
    for name, of_class in classes.values.items():
        masks = np.isin(prediction, of_class), np.isin(reference, of_class)
        sizes, numbers = [int(mask.sum()) for mask in masks], measure(*masks)
        status = _STATUS.get((sizes[0] > 0, sizes[1] > 0), BOTH_EMPTY)
        if predicted_file is None:  # the papers' distance 0 is for an empty prediction, not for a missing file
            status, numbers = MISSING_PREDICTION, numbers | dict.fromkeys(list(numbers)[2:], math.nan)
        row = {"case": case, "class": name, "status": status, **numbers}
        rows.append(row | dict(zip(("prediction_voxels", "reference_voxels"), sizes, strict=True)))
    return rows, predicted, expected


def _spacing_record(predicted: Path | None, reference: Path) -> Path | None:
    """The file in which nnU-Net keeps the voxel size (z, y, x) of a TIFF volume, ``CASE.json``."""
    records = [i.with_suffix(".json") for i in (reference, predicted) if i and i.suffix.lower() in (".tif", ".tiff")]
    return next(filter(Path.is_file, records), None)


def _recorded_spacing(record: Path) -> tuple[float, ...]:
    spacing = read_json_object(record, "correct it").get("spacing")
    if not (isinstance(spacing, list) and len(spacing) == 3 and all(isinstance(i, (int, float)) for i in spacing)):
        form = '{"spacing": [3.0, 1.0, 1.0]}, (z, y, x) in mm'
        raise UserError(f"{record} has no voxel size such as {form}; correct it")
    return tuple(map(float, spacing))


def _without_voxel_size(cases: Sequence[tuple[str, Path | None, Path]], literature: bool) -> list[str]:
    """A warning that distances are no millimetres where a format stores no voxel size."""
    unknown = [reference for _, predicted, reference in cases if not _spacing_record(predicted, reference)]
    formats = {file.suffix.lower() for file in unknown}
    found = sorted(formats & {".png", ".bmp", ".tif", ".tiff"})
    told = bool(found) and not literature
    return [f"{' and '.join(found)} files store no voxel size: distances are in pixels, of 1 mm each"] * told


def _read_label_map(path: Path) -> tuple[np.ndarray, tuple[float, ...]]:
    """Integer voxels (Z, Y, X) and the spacing in mm in the same order; a UserError for what is no label map."""
    image = read_image(path)
    voxels = GetArrayFromImage(image)
    if not np.issubdtype(voxels.dtype, np.integer):
        as_integers = np.nan_to_num(voxels).astype(np.int64)
        if not np.array_equal(as_integers, voxels):
            raise UserError(f"{path} holds values that are not whole numbers; write it as integers")
        voxels = as_integers
    return voxels, image.GetSpacing()[::-1]


def _known_values(voxels: np.ndarray, path: Path, classes: EvaluatedClasses) -> set[int]:
    """The values of a label map; those that are no labels, which would count as background, are refused."""
    values = _values(voxels)
    if unknown := values - (classes.known_values or values):
        raise UserError(
            f"{path} holds the values {sorted(unknown)[:5]}, which are no labels in {classes.source}; correct the "
            "file, or name the values to evaluate with --labels"
        )
    return values


def _values_in(path: Path) -> set[int]:
    return _values(_read_label_map(path)[0])


def _values(voxels: np.ndarray) -> set[int]:
    """The values of a label map; counting is much faster than sorting, which labels rarely need."""
    if not voxels.size or voxels.min() < 0 or voxels.max() > _LARGEST_COUNTED:
        return set(np.unique(voxels).tolist())
    return set(np.flatnonzero(np.bincount(voxels.ravel())).tolist())


def _one_sided(results: Sequence[tuple[Any, set[int], set[int]]], classes: EvaluatedClasses) -> list[str]:
    """A warning for values that only predictions, or only references, hold, in all cases that have both."""
    both = [values for _, *values in results if values[0]]
    predicted, expected = (set[int]().union(*i) - {0, classes.ignore_label} for i in zip(*both, strict=True))
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
