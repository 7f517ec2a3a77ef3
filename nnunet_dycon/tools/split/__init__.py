"""Labelled/unlabelled splits of a fully labelled dataset: ``nnunet-dycon split``."""

from __future__ import annotations

from nnunet_dycon.tools.split.division import CasePool, Division, divide
from nnunet_dycon.tools.split.in_place import split_in_place
from nnunet_dycon.tools.split.new_dataset import split_into_new_dataset
from nnunet_dycon.tools.split.options import SplitOptions
from nnunet_dycon.tools.split.report import SplitReport

__all__ = [
    "CasePool",
    "Division",
    "SplitOptions",
    "SplitReport",
    "divide",
    "split_in_place",
    "split_into_new_dataset",
]
