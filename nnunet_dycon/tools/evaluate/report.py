"""Evaluations as files and as text: JSON (undefined is null), CSV (undefined is ``nan``), tables."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from nnunet_dycon.files.whole_files import write_text
from nnunet_dycon.tools.evaluate.compare import Comparison, PairedDifference
from nnunet_dycon.tools.evaluate.results import CaseMetrics, Evaluation, Statistic, Status

CLASS_COLUMNS = ("case", "class", "status")
SIZE_COLUMNS = ("prediction_voxels", "reference_voxels")


def write_evaluation(evaluation: Evaluation, json_path: Path, csv_path: Path) -> None:
    """Write everything as JSON and one row per case and class as CSV."""
    _write(json_path, json.dumps(evaluation_as_dict(evaluation), indent=2, allow_nan=False) + "\n")
    rows = [_csv_row(case, evaluation.metrics) for case in evaluation.cases]
    _write(csv_path, _as_csv((*CLASS_COLUMNS, *evaluation.metrics, *SIZE_COLUMNS), rows))


def write_comparison(comparison: Comparison, json_path: Path, csv_path: Path) -> None:
    """Write all evaluations and differences as JSON and one row per run, case and class as CSV."""
    _write(json_path, json.dumps(comparison_as_dict(comparison), indent=2, allow_nan=False) + "\n")
    metrics = next(iter(comparison.evaluations.values())).metrics
    rows = [
        (name, *_csv_row(case, metrics))
        for name, evaluation in comparison.evaluations.items()
        for case in evaluation.cases
    ]
    _write(csv_path, _as_csv(("run", *CLASS_COLUMNS, *metrics, *SIZE_COLUMNS), rows))


def evaluation_as_dict(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation in JSON's types."""
    cases: dict[str, dict[str, Any]] = {}
    for i in evaluation.cases:
        sizes = {"prediction_voxels": i.prediction_voxels, "reference_voxels": i.reference_voxels}
        values = {metric: _number(value) for metric, value in i.values.items()}
        cases.setdefault(i.case, {})[i.class_name] = {"status": i.status.value, **values, **sizes}
    return {
        "predictions": str(evaluation.predictions),
        "references": str(evaluation.references),
        "classes": {name: list(values) for name, values in evaluation.classes.values.items()},
        "classes_from": evaluation.classes.source,
        "ignore_label": evaluation.classes.ignore_label,
        "definition": _definition(evaluation.metrics),
        "missing_predictions": evaluation.missing,
        "missing_predictions_count": "not at all" if evaluation.only_predicted else "as empty predictions",
        "predictions_without_reference": evaluation.without_reference,
        "warnings": evaluation.warnings,
        "summary": {
            name: {
                **{metric: _statistic(statistic) for metric, statistic in statistics.items()},
                "status": {status.value: n for status, n in evaluation.counts(name).items()},
            }
            for name, statistics in evaluation.summary.items()
        },
        "mean_of_classes": {metric: _number(value) for metric, value in evaluation.mean_of_classes.items()},
        "cases": cases,
    }


def comparison_as_dict(comparison: Comparison) -> dict[str, Any]:
    """The comparison in JSON's types."""
    return {
        "first_run": next(iter(comparison.evaluations)),
        "differences": [
            {
                "class": i.class_name,
                "metric": i.metric,
                "run": i.run,
                "difference": _statistic(i.difference),
                "unpaired": i.unpaired,
                "wilcoxon_p": _number(i.wilcoxon_p),
            }
            for i in comparison.differences
        ],
        "runs": {name: evaluation_as_dict(evaluation) for name, evaluation in comparison.evaluations.items()},
    }


def evaluation_table(evaluation: Evaluation) -> str:
    """Mean ± standard deviation per class, then what is missing, empty or doubtful."""
    rows = [
        [name, str(len(evaluation.of_class(name))), *(_summary_cell(evaluation, name, m) for m in statistics)]
        for name, statistics in evaluation.summary.items()
    ]
    if len(rows) > 1:
        means = [f"{_scaled(metric, value):.2f}" for metric, value in evaluation.mean_of_classes.items()]
        rows.append(["mean of classes", "", *means])
    header = ["class", "cases", *map(_heading, evaluation.metrics)]
    return "\n".join([_as_table(header, rows), _definition(evaluation.metrics), *_notes(evaluation)])


def comparison_table(comparison: Comparison) -> str:
    """For each class and metric the runs below each other, with the paired differences to the first run."""
    (first_name, first), *_ = comparison.evaluations.items()
    differences = {(i.class_name, i.metric, i.run): i for i in comparison.differences}
    header = ["class", "metric", "run", "mean ± SD", f"difference to {first_name}", "pairs", "Wilcoxon p"]
    rows = [
        [
            class_name,
            _heading(metric),
            name,
            _summary_cell(evaluation, class_name, metric),
            *_difference_cells(differences.get((class_name, metric, name))),
        ]
        for class_name in first.classes.values
        for metric in first.metrics
        for name, evaluation in comparison.evaluations.items()
    ]
    notes = [f"{name}: {note}" for name, i in comparison.evaluations.items() for note in _notes(i)]
    p_value = "p-values are two-sided and not corrected for several tests."
    return "\n".join([_as_table(header, rows), _definition(first.metrics), p_value, *notes])


def _difference_cells(difference: PairedDifference | None) -> list[str]:
    if difference is None:
        return ["", "", ""]
    pairs = f"{difference.difference.n}" + (f" ({difference.unpaired} unpaired)" if difference.unpaired else "")
    return [
        _mean_sd(difference.metric, difference.difference, sign="+"),
        pairs,
        f"{difference.wilcoxon_p:.2g}",
    ]


def _notes(evaluation: Evaluation) -> list[str]:
    """One line for each thing a reader of the means has to know."""
    notes = []
    if evaluation.missing:
        how = "left out of all means" if evaluation.only_predicted else "counted as empty predictions, Dice 0"
        notes.append(_listing("missing predictions", evaluation.missing, how))
    effects = {
        Status.EMPTY_PREDICTION: "Dice 0, distances undefined and in no mean",
        Status.EMPTY_REFERENCE: "Dice 0, distances undefined and in no mean",
        Status.BOTH_EMPTY: "all metrics undefined and in no mean",
    }
    if "HD95_voxels" in evaluation.metrics:
        effects[Status.EMPTY_PREDICTION] = "all metrics 0, as published: these distances are no perfect ones"
        effects[Status.BOTH_EMPTY] = effects[Status.EMPTY_PREDICTION]
    for name in evaluation.classes.values:
        for status, effect in effects.items():
            cases = [i.case for i in evaluation.of_class(name) if i.status is status]
            notes += [_listing(f"{name}, {status.value}", cases, effect)] if cases else []
    if evaluation.without_reference:
        notes.append(_listing("predictions without reference", evaluation.without_reference, "not evaluated"))
    return notes + [f"warning: {text}" for text in evaluation.warnings]


def _listing(what: str, cases: Sequence[str], effect: str, n_shown: int = 5) -> str:
    more = f" and {len(cases) - n_shown} more" if len(cases) > n_shown else ""
    return f"{what} ({effect}): {len(cases)}: {', '.join(cases[:n_shown])}{more}"


def _heading(metric: str) -> str:
    """``HD95_mm`` -> ``HD95 mm``, ``Dice`` -> ``Dice %``."""
    name, _, unit = metric.partition("_")
    return f"{name} {unit or '%'}"


def _scaled(metric: str, value: float) -> float:
    return value if "_" in metric else 100 * value


def _mean_sd(metric: str, statistic: Statistic, sign: str = "") -> str:
    """``91.33 ± 2.10``; ``undefined`` where no case defines the metric."""
    if statistic.n == 0:
        return "undefined"
    mean, sd = _scaled(metric, statistic.mean), _scaled(metric, statistic.sd)
    return f"{mean:{sign}.2f}" if math.isnan(sd) else f"{mean:{sign}.2f} ± {sd:.2f}"


def _summary_cell(evaluation: Evaluation, class_name: str, metric: str) -> str:
    """Mean ± standard deviation, with the number of cases where some of them do not define the metric."""
    statistic = evaluation.summary[class_name][metric]
    is_partial = 0 < statistic.n < len(evaluation.of_class(class_name))
    return _mean_sd(metric, statistic) + (f" (n={statistic.n})" if is_partial else "")


def _definition(metrics: Sequence[str]) -> str:
    """What the distances are, in one line."""
    if "HD95_voxels" in metrics:
        return "Distances in voxels as published (MedPy): HD95 of both directions, ASD from prediction to reference."
    return "Distances in mm: 95th percentile and mean of the surface distances of both directions pooled."


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _statistic(statistic: Statistic) -> dict[str, float | None]:
    return {"mean": _number(statistic.mean), "sd": _number(statistic.sd), "n": statistic.n}


def _csv_row(case: CaseMetrics, metrics: Sequence[str]) -> tuple[object, ...]:
    values = (case.values[metric] for metric in metrics)
    return (
        case.case,
        case.class_name,
        case.status.value,
        *values,
        case.prediction_voxels,
        case.reference_voxels,
    )


def _as_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def _as_table(header: list[str], rows: list[list[str]]) -> str:
    """Left-aligned columns, two spaces apart, a rule below the header."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _write(path: Path, text: str) -> None:
    """Write a file, whole or not at all, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(text, path)
