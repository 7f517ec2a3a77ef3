"""Evaluations as text and as files: tables, JSON (undefined is null), CSV (undefined is ``nan``)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from nnunet_dycon.files.text import few, text_table
from nnunet_dycon.files.whole_files import write_text
from nnunet_dycon.tools.evaluate.metrics import heading, scale
from nnunet_dycon.tools.evaluate.results import (
    BOTH_EMPTY,
    EMPTY_PREDICTION,
    EMPTY_REFERENCE,
    Evaluation,
    compare_runs,
)

FEWEST_PAIRS = 6
"""With fewer no p-value of Wilcoxon's signed-rank test is below 0.05."""
_STATISTICS = ("mean", "sd", "n")


class Report(NamedTuple):
    """An evaluation, or a comparison of several, to print and to keep."""

    text: str
    content: dict[str, Any]
    """In JSON's types."""
    rows: pd.DataFrame
    """One for each (run,) case and class."""

    def write(self, file: Path) -> None:
        """``FILE.json`` and ``FILE.csv``, each whole or not at all, and their folder."""
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(json.dumps(self.content, indent=2, allow_nan=False) + "\n", Path(f"{file}.json"))
        write_text(self.rows.to_csv(index=False, na_rep="nan", lineterminator="\n"), Path(f"{file}.csv"))


def evaluation_report(evaluation: Evaluation) -> Report:
    """Mean ± standard deviation per class, then what is missing or empty."""
    number = evaluation.cases["case"].nunique()
    rows = [
        [str(name), str(number), *(_summary_cell(i, row[i], number) for i in evaluation.metrics)]
        for name, row in evaluation.summary.iterrows()
    ]
    if len(rows) > 1:
        means = [f"{scale(metric) * value:.2f}" for metric, value in evaluation.mean_of_classes.items()]
        rows.append(["mean of classes", "", *means])
    table = text_table(["class", "cases", *map(heading, evaluation.metrics)], rows)
    text = "\n".join([table, _definition(evaluation.metrics), *_notes(evaluation)])
    return Report(text, _content(evaluation), evaluation.cases)


def comparison_report(evaluations: Mapping[str, Evaluation]) -> Report:
    """For each class and metric the runs below each other, with the paired differences to the first run.

    Raises:
        UserError: As ``compare_runs``.
    """
    differences = compare_runs(evaluations)
    cells = {(row["class"], row["metric"], row["run"]): _difference_cells(row) for _, row in differences.iterrows()}
    (first_name, first), *_ = evaluations.items()
    rows = [
        [
            class_name,
            heading(metric),
            name,
            _summary_cell(metric, evaluation.summary.loc[class_name, metric], evaluation.cases["case"].nunique()),
            *cells.get((class_name, metric, name), ("", "", "")),
        ]
        for class_name in first.classes.values
        for metric in first.metrics
        for name, evaluation in evaluations.items()
    ]
    header = ["class", "metric", "run", "mean ± SD", f"difference to {first_name}", "pairs", "Wilcoxon p"]
    notes = [f"{name}: {note}" for name, i in evaluations.items() for note in _notes(i)]
    p_value = "p-values are two-sided and not corrected for several tests."
    if (differences["n"] < FEWEST_PAIRS).any():
        p_value += f" With fewer than {FEWEST_PAIRS} pairs none can be below 0.05, so there is none: label more cases."
    cases = pd.concat({name: i.cases for name, i in evaluations.items()}, names=["run", None]).reset_index("run")
    text = "\n".join([text_table(header, rows), _definition(first.metrics), p_value, *notes])
    return Report(text, _comparison_content(evaluations, differences), cases)


def _comparison_content(evaluations: Mapping[str, Evaluation], differences: pd.DataFrame) -> dict[str, Any]:
    rows = [
        {key: row[key] for key in ("class", "metric", "run")}
        | {"difference": {key: row[key] for key in _STATISTICS}}
        | {key: row[key] for key in ("unpaired", "wilcoxon_p")}
        for row in _plain(differences).to_dict("records")
    ]
    runs = {name: _content(evaluation) for name, evaluation in evaluations.items()}
    return {"first_run": next(iter(evaluations)), "differences": rows, "runs": runs}


def _content(evaluation: Evaluation) -> dict[str, Any]:
    cases: dict[str, dict[str, Any]] = {}
    for (case, name), row in _plain(evaluation.cases.set_index(["case", "class"])).to_dict("index").items():
        cases.setdefault(case, {})[name] = row
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
            name: {metric: {key: row[metric, key] for key in _STATISTICS} for metric in evaluation.metrics}
            | {"status": counts[name].to_dict()}
            for name, row in _plain(evaluation.summary).to_dict("index").items()
        },
        "mean_of_classes": _plain(evaluation.mean_of_classes).to_dict(),
        "cases": cases,
    }


def _plain(table: Any) -> Any:
    """A table, or a column, with Python's own types, None for NaN."""
    return table.astype(object).where(table.notna(), None)


def _difference_cells(difference: pd.Series) -> list[str]:
    pairs = f"{difference['n']}" + (f" ({difference['unpaired']} unpaired)" if difference["unpaired"] else "")
    p_value = f"{difference['wilcoxon_p']:.2g}" if difference["n"] >= FEWEST_PAIRS else "too few pairs"
    return [_mean_sd(difference["metric"], difference, sign="+"), pairs, p_value]


def _notes(evaluation: Evaluation) -> list[str]:
    """One line for each thing a reader of the means has to know."""
    left_out = "left out of all means" if evaluation.only_predicted else "counted as empty predictions, Dice 0"
    notes = [("missing predictions", left_out, evaluation.missing)]
    zero = "all metrics 0, as published: these distances are no perfect ones"
    wrong, undefined = "Dice 0, distances undefined and in no mean", "all metrics undefined and in no mean"
    as_published = "HD95_voxels" in evaluation.metrics
    effects = {
        EMPTY_PREDICTION: zero if as_published else wrong,
        EMPTY_REFERENCE: wrong,
        BOTH_EMPTY: zero if as_published else undefined,
    }
    groups = evaluation.cases.groupby(["class", "status"])["case"].agg(list).to_dict()
    for name in evaluation.classes.values:
        notes += [(f"{name}, {i}", effect, groups.get((name, i), [])) for i, effect in effects.items()]
    notes.append(("predictions without reference", "not evaluated", evaluation.without_reference))
    return [f"{what} ({effect}): {len(cases)}: {few(cases)}" for what, effect, cases in notes if cases]


def _mean_sd(metric: str, statistic: pd.Series, sign: str = "") -> str:
    """``91.33 ± 2.10``; ``undefined`` where no case defines the metric."""
    if statistic["n"] == 0:
        return "undefined"
    mean, sd = scale(metric) * statistic["mean"], scale(metric) * statistic["sd"]
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
