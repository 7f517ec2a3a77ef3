"""What an evaluation returns, as tables: every case and class, their summary, and differences between runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.evaluate.classes import EvaluatedClasses

# why a metric of a case may be undefined
EMPTY_PREDICTION, EMPTY_REFERENCE, BOTH_EMPTY = "empty prediction", "empty reference", "both empty"
MISSING_PREDICTION = "missing prediction"
STATUS = {
    (True, True): "ok",
    (False, True): EMPTY_PREDICTION,
    (True, False): EMPTY_REFERENCE,
    (False, False): BOTH_EMPTY,
}
"""By whether prediction and reference have foreground."""


@dataclass(frozen=True)
class Evaluation:
    """A folder of predictions against a folder of references.

    Attributes:
        predictions: Folder of the predictions.
        references: Folder of the references.
        classes: What was evaluated.
        metrics: Metric names in the order of the report; the distances end in ``_mm`` or ``_voxels``.
        cases: One row for every case and class, sorted by case: case, class, status, the metrics (NaN where undefined),
            prediction_voxels and reference_voxels (sizes of the masks without ignored voxels).
        missing: Cases without prediction. With ``only_predicted`` they are in no mean, else each counts as an
            empty prediction: Dice and Jaccard 0 where the reference is not empty, distances undefined.
        without_reference: Predicted cases without reference; not evaluated.
        only_predicted: Whether missing cases were left out.
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
        """Classes by (metric, statistic); mean, sample standard deviation and number of the cases that define it."""
        table = self.cases.groupby("class", sort=False)[list(self.metrics)].agg(["mean", "std", "count"])
        return table.rename(columns={"std": "sd", "count": "n"}, level=1).reindex(list(self.classes.values))

    @cached_property
    def mean_of_classes(self) -> pd.Series:
        """Metric to the mean of the class means (nnU-Net: ``foreground_mean``), NaN if one is."""
        return self.summary.xs("mean", axis=1, level=1).mean(skipna=False)[list(self.metrics)]


def compare_runs(evaluations: Mapping[str, Evaluation]) -> pd.DataFrame:
    """Differences of each run to the first one, cases joined by name.

    Args:
        evaluations: Run name to evaluation of the same references; two or more.

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
        _check_comparable(first_name, first, name, other)
    return pd.concat([_differences(first, other).assign(run=name) for name, other in others], ignore_index=True)


def _check_comparable(first_name: str, first: Evaluation, name: str, other: Evaluation) -> None:
    parts: dict[str, list[object]] = {
        "references": [i.references.resolve() for i in (first, other)],
        "classes": [(i.classes.values, i.classes.ignore_label) for i in (first, other)],
        "metrics": [i.metrics for i in (first, other)],
    }
    if different := [what for what, (of_first, of_other) in parts.items() if of_first != of_other]:
        raise UserError(
            f"{first_name} and {name} were evaluated with different {' and '.join(different)}; evaluate both "
            "the same way, for the classes with one --dataset-json or --labels"
        )


def _differences(first: Evaluation, other: Evaluation) -> pd.DataFrame:
    """The second minus the first."""
    keys = ["case", "class", "metric"]
    before, after = (i.cases.melt(keys[:2], list(i.metrics), "metric").set_index(keys)["value"] for i in (first, other))
    before, after = before.align(after)
    groups = (after - before).groupby(keys[1:])
    unpaired = (before.notna() ^ after.notna()).groupby(keys[1:]).sum()
    table = groups.agg(mean="mean", sd="std", n="count", wilcoxon_p=wilcoxon_p).assign(unpaired=unpaired)
    return table.loc[[(name, metric) for name in first.classes.values for metric in first.metrics]].reset_index()


def wilcoxon_p(differences: Sequence[float] | pd.Series) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test, not corrected for several tests.

    Undefined differences and those of 0 are left out: 1 if all are 0, NaN if all are undefined.
    """
    from scipy.stats import wilcoxon  # half a second, which spawned workers need not spend

    values = np.asarray(differences, dtype=float)
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan")
    return float(wilcoxon(values).pvalue) if values.any() else 1.0


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
