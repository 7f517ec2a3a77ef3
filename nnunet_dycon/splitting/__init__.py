"""Labelled/unlabelled splits of a fully labelled dataset: ``nnunet-dycon split``."""

from __future__ import annotations

from nnunet_dycon.splitting.division import CasePool, Division, divide
from nnunet_dycon.splitting.in_place import split_in_place
from nnunet_dycon.splitting.new_dataset import split_into_new_dataset
from nnunet_dycon.splitting.options import SplitOptions
from nnunet_dycon.splitting.record import SplitReport

__all__ = [
    "CasePool",
    "Division",
    "SplitOptions",
    "SplitReport",
    "divide",
    "split_in_place",
    "split_into_new_dataset",
]
