"""Evaluation of segmentations: Dice, Jaccard, HD95 and ASD of masks, folders and several runs."""

from nnunet_dycon.evaluation.classes import EvaluatedClasses, parse_labels
from nnunet_dycon.evaluation.compare import Comparison, PairedDifference, compare_runs, run_names
from nnunet_dycon.evaluation.folder import evaluate_folder
from nnunet_dycon.evaluation.metrics import literature_metrics, segmentation_metrics, surface_distances
from nnunet_dycon.evaluation.report import (
    comparison_table,
    evaluation_table,
    write_comparison,
    write_evaluation,
)
from nnunet_dycon.evaluation.results import CaseMetrics, Evaluation, Statistic, Status

__all__ = [
    "CaseMetrics",
    "Comparison",
    "EvaluatedClasses",
    "Evaluation",
    "PairedDifference",
    "Statistic",
    "Status",
    "compare_runs",
    "comparison_table",
    "evaluate_folder",
    "evaluation_table",
    "literature_metrics",
    "parse_labels",
    "run_names",
    "segmentation_metrics",
    "surface_distances",
    "write_comparison",
    "write_evaluation",
]
