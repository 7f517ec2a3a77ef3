"""Evaluations side by side, as text and as files: tables, JSON (undefined is null), CSV (undefined is ``nan``)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.text import few, text_table
from nnunet_dycon.files.whole_files import write_text
from nnunet_dycon.tools.evaluate.folder import BOTH_EMPTY, EMPTY_PREDICTION, EMPTY_REFERENCE, Evaluation
from nnunet_dycon.tools.evaluate.metrics import LITERATURE_METRICS, METRICS, heading, scale

FEWEST_PAIRS = 6
"""With fewer no p-value of Wilcoxon's signed-rank test is below 0.05."""
DEFINITIONS: dict[tuple[str, ...], str] = {
    METRICS: "Distances in mm: 95th percentile and mean of the surface distances of both directions pooled.",
    LITERATURE_METRICS: (
        "Distances in voxels as published (MedPy): HD95 of both directions, ASD from prediction to reference."
    ),
}


class Report(NamedTuple):
    """An evaluation, or a comparison of several, to print and to keep."""

    text: str
    warnings: list[str]
    content: dict[str, Any]  # in JSON's types
    rows: pd.DataFrame  # one for each (run,) case and class

    def write(self, file: Path) -> None:
        """``FILE.json`` and ``FILE.csv``, each whole or not at all, and their folder."""
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(json.dumps(self.content, indent=2, allow_nan=False) + "\n", Path(f"{file}.json"))
        write_text(self.rows.to_csv(index=False, na_rep="nan", lineterminator="\n"), Path(f"{file}.csv"))


def evaluation_report(evaluation: Evaluation) -> Report:
    """Mean ± standard deviation per class, then what is missing or empty."""
    number, cells, metrics = str(evaluation.cases["case"].nunique()), _summary_cells(evaluation), evaluation.metrics
    rows = [[name, number, *(cells[name, metric] for metric in metrics)] for name in evaluation.classes.values]
    if len(rows) > 1:
        means = [f"{scale(metric) * value:.2f}" for metric, value in evaluation.mean_of_classes.items()]
        rows.append(["mean of classes", "", *means])
    table = text_table(["class", "cases", *map(heading, metrics)], rows)
    text = "\n".join([table, DEFINITIONS[metrics], *_notes(evaluation)])
    return Report(text, evaluation.warnings, _content(evaluation), evaluation.cases)


def comparison_report(evaluations: Mapping[str, Evaluation]) -> Report:
    """For each class and metric the runs below each other, with the paired differences to the first run.

    Raises:
        UserError: As ``compare_runs``.
    """
    differences = compare_runs(evaluations)
    (first_name, first), *_ = evaluations.items()
    header = ["class", "metric", "run", "mean ± SD", f"difference to {first_name}", "pairs", "Wilcoxon p"]
    p_value = "p-values are two-sided and not corrected for several tests."
    if (differences["n"] < FEWEST_PAIRS).any():
        p_value += f" With fewer than {FEWEST_PAIRS} pairs none can be below 0.05, so there is none: label more cases."
    notes = [f"{run}: {note}" for run, i in evaluations.items() for note in _notes(i)]
    warnings = [f"{run}: {warning}" for run, i in evaluations.items() for warning in i.warnings]
    table = text_table(header, _comparison_rows(evaluations, differences))
    text = "\n".join([table, DEFINITIONS[first.metrics], p_value, *notes])
    changes = _plain(differences)
    changes["difference"] = changes[["mean", "sd", "n"]].to_dict("records")
    columns = ["class", "metric", "run", "difference", "unpaired", "wilcoxon_p"]
    runs = {run: _content(evaluation) for run, evaluation in evaluations.items()}
    content = {"first_run": first_name, "differences": changes[columns].to_dict("records"), "runs": runs}
    cases = pd.concat({run: i.cases for run, i in evaluations.items()}, names=["run", None]).reset_index("run")
    return Report(text, warnings, content, cases)


def _summary_cells(evaluation: Evaluation) -> dict[Any, str]:
    """By class and metric ``_mean_sd``, with the number of cases where some of them do not define the metric."""
    number = evaluation.cases["case"].nunique()
    return {
        key: _mean_sd(key[1], row) + (f" (n={row['n']:.0f})" if 0 < row["n"] < number else "")
        for key, row in evaluation.summary.iterrows()
    }


def _comparison_rows(evaluations: Mapping[str, Evaluation], differences: pd.DataFrame) -> list[list[str]]:
    changes = {key: _change(row) for key, row in differences.set_index(["class", "metric", "run"]).iterrows()}
    cells = {run: _summary_cells(evaluation) for run, evaluation in evaluations.items()}
    return [
        [name, heading(metric), run, cells[run][name, metric], *changes.get((name, metric, run), ("", "", ""))]
        for name, metric in next(iter(evaluations.values())).summary.index
        for run in evaluations
    ]


def _mean_sd(metric: str, statistic: pd.Series, sign: str = "") -> str:
    """``91.33 ± 2.10``; ``undefined`` where no case defines the metric."""
    if statistic["n"] == 0:
        return "undefined"
    mean, sd = scale(metric) * statistic["mean"], scale(metric) * statistic["sd"]
    return f"{mean:{sign}.2f}" if math.isnan(sd) else f"{mean:{sign}.2f} ± {sd:.2f}"


def _change(difference: pd.Series) -> list[str]:
    """Cells for a difference; the index of its row is class, metric and run."""
    pairs = f"{difference['n']:.0f}" + (f" ({difference['unpaired']:.0f} unpaired)" if difference["unpaired"] else "")
    p_value = f"{difference['wilcoxon_p']:.2g}" if difference["n"] >= FEWEST_PAIRS else "too few pairs"
    return [_mean_sd(difference.name[1], difference, sign="+"), pairs, p_value]


def _notes(evaluation: Evaluation) -> list[str]:
    """One line for each thing a reader of the means has to know."""
    wrong, undefined = "Dice 0, distances undefined and in no mean", "all metrics undefined and in no mean"
    effects = {EMPTY_PREDICTION: wrong, EMPTY_REFERENCE: wrong, BOTH_EMPTY: undefined}
    if evaluation.metrics == LITERATURE_METRICS:
        zero = "all metrics 0, as published: these distances are no perfect ones"
        effects |= {EMPTY_PREDICTION: zero, BOTH_EMPTY: zero}
    left_out = "left out of all means" if evaluation.only_predicted else "counted as empty predictions, Dice 0"
    notes = [("missing predictions", left_out, evaluation.missing)]
    groups = evaluation.cases.groupby(["class", "status"])["case"].agg(list).to_dict()
    for name in evaluation.classes.values:
        notes += [(f"{name}, {i}", effect, groups.get((name, i), [])) for i, effect in effects.items()]
    notes.append(("predictions without reference", "not evaluated", evaluation.without_reference))
    return [f"{what} ({effect}): {len(cases)}: {few(cases)}" for what, effect, cases in notes if cases]


def _content(evaluation: Evaluation) -> dict[str, Any]:
    summary, cases = _plain(evaluation.summary), _plain(evaluation.cases.set_index("class"))
    counts = evaluation.cases.groupby(["class", "status"]).size()
    return {
        "predictions": str(evaluation.predictions),
        "references": str(evaluation.references),
        "classes": {name: list(values) for name, values in evaluation.classes.values.items()},
        "classes_from": evaluation.classes.source,
        "ignore_label": evaluation.classes.ignore_label,
        "definition": DEFINITIONS[evaluation.metrics],
        "missing_predictions": evaluation.missing,
        "missing_predictions_count": "not at all" if evaluation.only_predicted else "as empty predictions",
        "predictions_without_reference": evaluation.without_reference,
        "warnings": evaluation.warnings,
        "summary": {
            name: summary.loc[name].to_dict("index") | {"status": counts[name].to_dict()}
            for name in evaluation.classes.values
        },
        "mean_of_classes": _plain(evaluation.mean_of_classes).to_dict(),
        "cases": {case: rows.drop(columns="case").to_dict("index") for case, rows in cases.groupby("case", sort=False)},
    }


def _plain(table: Any) -> Any:
    """A table, or a column, with Python's own types, None for NaN."""
    return table.astype(object).where(table.notna(), None)


def compare_runs(evaluations: Mapping[str, Evaluation]) -> pd.DataFrame:
    """Differences of each run, two or more by name, to the first one, cases joined by name.

    Returns:
        One row for every class, metric and run: class, metric, run, mean, sd and n over the cases where the metric is
        defined in both; ``unpaired``, the cases where only one defines it; and ``wilcoxon_p``.

    Raises:
        UserError: There are fewer than two, or they differ in references, classes or metrics.
    """
    if len(evaluations) < 2:
        raise UserError(f"a comparison needs two runs or more, got {len(evaluations)}")
    (first_name, first), *others = evaluations.items()
    for name, other in others:
        if different := [what for what, value in _basis(first).items() if _basis(other)[what] != value]:
            raise UserError(
                f"{first_name} and {name} were evaluated with different {' and '.join(different)}; evaluate both "
                "the same way, for the classes with one --dataset-json or --labels"
            )
    return pd.concat([_differences(first, other).assign(run=name) for name, other in others], ignore_index=True)


def _basis(evaluation: Evaluation) -> dict[str, object]:
    classes = evaluation.classes.values, evaluation.classes.ignore_label
    return {"references": evaluation.references.resolve(), "classes": classes, "metrics": evaluation.metrics}


def _differences(first: Evaluation, other: Evaluation) -> pd.DataFrame:
    """The second minus the first."""
    keys = ["case", "class", "metric"]
    before, after = (i.cases.melt(keys[:2], list(i.metrics), "metric").set_index(keys)["value"] for i in (first, other))
    before, after = before.align(after)
    unpaired = (before.notna() ^ after.notna()).groupby(keys[1:]).sum()
    table = (after - before).groupby(keys[1:]).agg(mean="mean", sd="std", n="count", wilcoxon_p=wilcoxon_p)
    return table.assign(unpaired=unpaired).loc[first.summary.index].reset_index()


def wilcoxon_p(differences: Sequence[float] | pd.Series) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test, not corrected for several tests.

    Undefined differences and those of 0 are left out: 1 if all are 0, NaN if all are undefined.
    """
    from scipy.stats import wilcoxon  # half a second, which spawned workers need not spend

    values = pd.Series(differences, dtype=float).dropna()
    if not values.any():
        return 1.0 if len(values) else math.nan
    return float(wilcoxon(values).pvalue)


def run_names(folders: Sequence[Path]) -> list[str]:
    """Short names for folders: the last parts of their paths that tell them apart, less what all share.

    ``a/fold_0/validation`` and ``b/fold_0/validation`` are ``a`` and ``b``.

    Raises:
        UserError: A folder is given twice.
    """
    parts = [folder.resolve().parts for folder in folders]
    if len(set(parts)) < len(parts):
        raise UserError("a folder is given twice; give every run once")
    while len({part[-1] for part in parts}) == 1 < min(len(parts), *map(len, parts)):
        parts = [part[:-1] for part in parts]
    length = next(n for n in count(1) if len({part[-n:] for part in parts}) == len(parts))
    return ["/".join(part[-length:]) for part in parts]
