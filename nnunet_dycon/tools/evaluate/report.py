"""Evaluations as files and as text: JSON (undefined is null), CSV (undefined is ``nan``), tables."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_dycon.files.text import few, text_table
from nnunet_dycon.files.whole_files import write_text
from nnunet_dycon.tools.evaluate.results import FEWEST_PAIRS, Comparison, Evaluation, Status


def write_evaluation(evaluation: Evaluation, json_path: Path, csv_path: Path) -> None:
    """Write everything as JSON and one row per case and class as CSV."""
    _write(evaluation_as_dict(evaluation), evaluation.cases, json_path, csv_path)


def write_comparison(comparison: Comparison, json_path: Path, csv_path: Path) -> None:
    """Write all evaluations and differences as JSON and one row per run, case and class as CSV."""
    cases = pd.concat({name: i.cases for name, i in comparison.evaluations.items()}, names=["run", None])
    _write(comparison_as_dict(comparison), cases.reset_index("run"), json_path, csv_path)


def _write(content: dict[str, Any], table: pd.DataFrame, json_path: Path, csv_path: Path) -> None:
    """Both files, each whole or not at all, and their folder."""
    json_path.parent.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", json_path)
    write_text(table.to_csv(index=False, na_rep="nan", lineterminator="\n"), csv_path)


def evaluation_as_dict(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation in JSON's types."""
    cases: dict[str, dict[str, Any]] = {}
    for row in evaluation.cases.to_dict("records"):
        case, name = row.pop("case"), row.pop("class")
        cases.setdefault(case, {})[name] = {key: _number(value) for key, value in row.items()}
    counts = evaluation.cases.groupby(["class", "status"]).size()
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
            name: {metric: _statistic(row[metric]) for metric in evaluation.metrics}
            | {"status": {status: int(n) for status, n in counts[name].items()}}
            for name, row in evaluation.summary.iterrows()
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
                **{key: row[key] for key in ("class", "metric", "run")},
                "difference": _statistic(row),
                "unpaired": row["unpaired"],
                "wilcoxon_p": _number(row["wilcoxon_p"]),
            }
            for row in comparison.differences.to_dict("records")
        ],
        "runs": {name: evaluation_as_dict(evaluation) for name, evaluation in comparison.evaluations.items()},
    }


def evaluation_table(evaluation: Evaluation) -> str:
    """Mean ± standard deviation per class, then what is missing or empty."""
    sizes = evaluation.cases.groupby("class").size()
    rows = [
        [str(name), str(sizes[name]), *(_summary_cell(i, row[i], sizes[name]) for i in evaluation.metrics)]
        for name, row in evaluation.summary.iterrows()
    ]
    if len(rows) > 1:
        means = [f"{_scale(metric) * value:.2f}" for metric, value in evaluation.mean_of_classes.items()]
        rows.append(["mean of classes", "", *means])
    header = ["class", "cases", *map(_heading, evaluation.metrics)]
    return "\n".join([text_table(header, rows), _definition(evaluation.metrics), *_notes(evaluation)])


def comparison_table(comparison: Comparison) -> str:
    """For each class and metric the runs below each other, with the paired differences to the first run."""
    (first_name, first), *_ = comparison.evaluations.items()
    differences = {(i["class"], i["metric"], i["run"]): i for i in comparison.differences.to_dict("records")}
    header = ["class", "metric", "run", "mean ± SD", f"difference to {first_name}", "pairs", "Wilcoxon p"]
    sizes = {name: i.cases.groupby("class").size() for name, i in comparison.evaluations.items()}
    rows = [
        [
            class_name,
            _heading(metric),
            name,
            _summary_cell(metric, evaluation.summary.loc[class_name, metric], sizes[name][class_name]),
            *_difference_cells(metric, differences.get((class_name, metric, name))),
        ]
        for class_name in first.classes.values
        for metric in first.metrics
        for name, evaluation in comparison.evaluations.items()
    ]
    notes = [f"{name}: {note}" for name, i in comparison.evaluations.items() for note in _notes(i)]
    p_value = "p-values are two-sided and not corrected for several tests."
    if (comparison.differences["n"] < FEWEST_PAIRS).any():
        p_value += f" With fewer than {FEWEST_PAIRS} pairs none can be below 0.05, so there is none: label more cases."
    return "\n".join([text_table(header, rows), _definition(first.metrics), p_value, *notes])


def _difference_cells(metric: str, difference: Mapping[str, Any] | None) -> list[str]:
    if difference is None:
        return ["", "", ""]
    pairs = f"{difference['n']}" + (f" ({difference['unpaired']} unpaired)" if difference["unpaired"] else "")
    p_value = f"{difference['wilcoxon_p']:.2g}" if difference["n"] >= FEWEST_PAIRS else "too few pairs"
    return [_mean_sd(metric, difference, sign="+"), pairs, p_value]


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
    groups = evaluation.cases.groupby(["class", "status"])["case"].agg(list).to_dict()
    for name in evaluation.classes.values:
        for status, effect in effects.items():
            if cases := groups.get((name, status.value)):
                notes.append(_listing(f"{name}, {status.value}", cases, effect))
    if evaluation.without_reference:
        notes.append(_listing("predictions without reference", evaluation.without_reference, "not evaluated"))
    return notes


def _listing(what: str, cases: Sequence[str], effect: str) -> str:
    return f"{what} ({effect}): {len(cases)}: {few(cases)}"


def _heading(metric: str) -> str:
    """``HD95_mm`` -> ``HD95 mm``, ``Dice`` -> ``Dice %``."""
    name, _, unit = metric.partition("_")
    return f"{name} {unit or '%'}"


def _scale(metric: str) -> int:
    return 1 if "_" in metric else 100


def _mean_sd(metric: str, statistic: Mapping[str, Any] | pd.Series, sign: str = "") -> str:
    """``91.33 ± 2.10``; ``undefined`` where no case defines the metric."""
    if statistic["n"] == 0:
        return "undefined"
    mean, sd = _scale(metric) * statistic["mean"], _scale(metric) * statistic["sd"]
    return f"{mean:{sign}.2f}" if math.isnan(sd) else f"{mean:{sign}.2f} ± {sd:.2f}"


def _summary_cell(metric: str, statistic: pd.Series, n_cases: int) -> str:
    """Mean ± standard deviation, with the number of cases where some of them do not define the metric."""
    is_partial = 0 < statistic["n"] < n_cases
    return _mean_sd(metric, statistic) + (f" (n={statistic['n']:.0f})" if is_partial else "")


def _definition(metrics: Sequence[str]) -> str:
    """What the distances are, in one line."""
    if "HD95_voxels" in metrics:
        return "Distances in voxels as published (MedPy): HD95 of both directions, ASD from prediction to reference."
    return "Distances in mm: 95th percentile and mean of the surface distances of both directions pooled."


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _statistic(statistic: Mapping[str, Any] | pd.Series) -> dict[str, float | None]:
    return {"mean": _number(statistic["mean"]), "sd": _number(statistic["sd"]), "n": int(statistic["n"])}
