"""Evaluation of segmentations: Dice, Jaccard, HD95 and ASD of masks, folders and several runs."""

from nnunet_dycon.tools.evaluate.classes import parse_labels
from nnunet_dycon.tools.evaluate.folder import Evaluation, evaluate_folder
from nnunet_dycon.tools.evaluate.metrics import literature_metrics, segmentation_metrics, surface_distances
from nnunet_dycon.tools.evaluate.report import compare_runs, comparison_report, evaluation_report, run_names

__all__ = [
    "Evaluation",
    "compare_runs",
    "comparison_report",
    "evaluate_folder",
    "evaluation_report",
    "literature_metrics",
    "parse_labels",
    "run_names",
    "segmentation_metrics",
    "surface_distances",
]
