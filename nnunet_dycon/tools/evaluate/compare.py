"""Several evaluations side by side: paired differences to the first one and their significance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.evaluate.results import Evaluation, Statistic


@dataclass(frozen=True)
class PairedDifference:
    """One metric of one class: a run minus the first run, case by case.

    Attributes:
        class_name: Class or region.
        metric: Metric name.
        run: Name of the run.
        difference: Statistic of run minus first run over the cases where the metric is defined in both; ``n``
            is the number of these pairs.
        unpaired: Cases where the metric is defined in only one of the two, so that they are in no difference.
        wilcoxon_p: Two-sided p-value of Wilcoxon's signed-rank test on the pairs, not corrected for several
            tests; 1 if all differences are 0, NaN without pairs. With fewer than 6 pairs it exceeds 0.05.
    """

    class_name: str
    metric: str
    run: str
    difference: Statistic
    unpaired: int
    wilcoxon_p: float


@dataclass(frozen=True)
class Comparison:
    """Evaluations by run name (the first one is what the others are compared with) and their differences."""

    evaluations: dict[str, Evaluation]
    differences: list[PairedDifference]


def compare_runs(evaluations: Mapping[str, Evaluation]) -> Comparison:
    """Compare evaluations of the same references, cases joined by name.

    Args:
        evaluations: Run name to evaluation; two or more.

    Raises:
        UserError: There are fewer than two, or they differ in references, classes or metrics.
    """
    if len(evaluations) < 2:
        raise UserError(f"a comparison needs two runs or more, got {len(evaluations)}")
    (first_name, first), *others = evaluations.items()
    differences = []
    for name, other in others:
        _check_comparable(first_name, first, name, other)
        differences += [
            _difference(first, other, name, class_name, metric)
            for class_name in first.classes.values
            for metric in first.metrics
        ]
    return Comparison(dict(evaluations), differences)


def _check_comparable(first_name: str, first: Evaluation, name: str, other: Evaluation) -> None:
    same = {
        "references": first.references.resolve() == other.references.resolve(),
        "classes": (first.classes.values, first.classes.ignore_label)
        == (other.classes.values, other.classes.ignore_label),
        "metrics": first.metrics == other.metrics,
    }
    different = [what for what, is_same in same.items() if not is_same]
    if different:
        raise UserError(
            f"{first_name} and {name} were evaluated with different {' and '.join(different)}; evaluate both "
            "the same way, for the classes with one --dataset-json or --labels"
        )


def _difference(first: Evaluation, other: Evaluation, run: str, class_name: str, metric: str) -> PairedDifference:
    """One metric of one class."""
    before, after = (
        {i.case: i.values[metric] for i in evaluation.of_class(class_name) if not math.isnan(i.values[metric])}
        for evaluation in (first, other)
    )
    pairs = [after[case] - before[case] for case in sorted(before.keys() & after.keys())]
    unpaired = len(before.keys() ^ after.keys())
    return PairedDifference(class_name, metric, run, Statistic.of(pairs), unpaired, wilcoxon_p(pairs))


def wilcoxon_p(differences: Sequence[float]) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test; differences of 0 are left out, as Wilcoxon did."""
    from scipy.stats import wilcoxon  # half a second, which spawned workers need not spend

    if not differences:
        return math.nan
    if not np.any(differences):
        return 1.0
    return float(wilcoxon(differences).pvalue)


def run_names(folders: Sequence[Path]) -> list[str]:
    """Short names for folders: the last parts of their paths that tell them apart, less what all share.

    ``a/fold_0/validation`` and ``b/fold_0/validation`` are ``a`` and ``b``.

    Raises:
        UserError: A folder is given twice.
    """
    parts = [folder.resolve().parts for folder in folders]
    if len(set(parts)) < len(parts):
        raise UserError("a folder is given twice; give every run once")
    shared = next((i for i, last in enumerate(_from_the_end(parts)) if len(set(last)) > 1), 0)
    kept = [part[: len(part) - shared] for part in parts]
    n = next(n for n in range(1, max(map(len, kept)) + 1) if len({part[-n:] for part in kept}) == len(kept))
    return ["/".join(part[-n:]) for part in kept]


def _from_the_end(parts: Sequence[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """The last parts of all paths, then the parts before, ..."""
    return zip(*(reversed(part) for part in parts), strict=False)
