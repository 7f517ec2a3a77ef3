"""Evaluation of segmentations: Dice, Jaccard, HD95 and ASD of masks, folders and several runs."""

from nnunet_dycon.tools.evaluate.classes import EvaluatedClasses, parse_labels
from nnunet_dycon.tools.evaluate.folder import evaluate_folder
from nnunet_dycon.tools.evaluate.metrics import literature_metrics, segmentation_metrics, surface_distances
from nnunet_dycon.tools.evaluate.report import comparison_table, evaluation_table, write_comparison, write_evaluation
from nnunet_dycon.tools.evaluate.results import Comparison, Evaluation, Status, compare_runs, run_names

__all__ = [
    "Comparison",
    "EvaluatedClasses",
    "Evaluation",
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
