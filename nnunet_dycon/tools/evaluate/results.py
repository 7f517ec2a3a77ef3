"""What an evaluation returns: the metrics of every case and class, and their summary."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from nnunet_dycon.tools.evaluate.classes import EvaluatedClasses


class Status(str, Enum):
    """Why a metric of a case may be undefined."""

    OK = "ok"
    EMPTY_PREDICTION = "empty prediction"
    EMPTY_REFERENCE = "empty reference"
    BOTH_EMPTY = "both empty"
    MISSING_PREDICTION = "missing prediction"


@dataclass(frozen=True)
class CaseMetrics:
    """One class or region of one case.

    Attributes:
        case: Case name.
        class_name: Class or region.
        status: What is empty or missing.
        values: Metric name to value; NaN where undefined.
        prediction_voxels: Size of the predicted mask (without ignored voxels).
        reference_voxels: Size of the reference mask (without ignored voxels).
    """

    case: str
    class_name: str
    status: Status
    values: dict[str, float]
    prediction_voxels: int
    reference_voxels: int


@dataclass(frozen=True)
class Statistic:
    """Mean and sample standard deviation (n - 1) over the ``n`` cases that define it; NaN if too few."""

    mean: float
    sd: float
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Statistic:
        """Statistic of the values that are not NaN."""
        defined = [value for value in values if not math.isnan(value)]
        return cls(
            mean=statistics.fmean(defined) if defined else math.nan,
            sd=statistics.stdev(defined) if len(defined) > 1 else math.nan,
            n=len(defined),
        )


@dataclass(frozen=True)
class Evaluation:
    """A folder of predictions against a folder of references.

    Attributes:
        predictions: Folder of the predictions.
        references: Folder of the references.
        classes: What was evaluated.
        metrics: Metric names in the order of the report; the distances end in ``_mm`` or ``_voxels``.
        cases: One entry for every case and class, sorted by case.
        missing: Cases without prediction. With ``only_predicted`` they are in no mean, else each counts as an
            empty prediction: Dice and Jaccard 0 where the reference is not empty, distances undefined.
        without_reference: Predicted cases without reference; not evaluated.
        only_predicted: Whether missing cases were left out.
        warnings: Differences of the headers that do not prevent an evaluation.
    """

    predictions: Path
    references: Path
    classes: EvaluatedClasses
    metrics: tuple[str, ...]
    cases: list[CaseMetrics]
    missing: list[str]
    without_reference: list[str]
    only_predicted: bool
    warnings: list[str]

    def of_class(self, class_name: str) -> list[CaseMetrics]:
        """All cases of one class or region."""
        return [i for i in self.cases if i.class_name == class_name]

    @property
    def summary(self) -> dict[str, dict[str, Statistic]]:
        """Class name to metric name to statistic over the cases."""
        return {
            name: {metric: Statistic.of(i.values[metric] for i in self.of_class(name)) for metric in self.metrics}
            for name in self.classes.values
        }

    @property
    def mean_of_classes(self) -> dict[str, float]:
        """Metric name to the mean of the class means (nnU-Net: ``foreground_mean``), NaN if one is."""
        means = self.summary.values()
        return {metric: statistics.fmean(i[metric].mean for i in means) for metric in self.metrics}

    def counts(self, class_name: str) -> dict[Status, int]:
        """How many cases of a class have which status."""
        return dict(Counter(i.status for i in self.of_class(class_name)))
