"""Newly labelled cases from imagesUn to imagesTr and labelsTr: ``nnunet-dycon add-labels``."""

from __future__ import annotations

from nnunet_dycon.tools.add_labels.run import AddReport, add_labels

__all__ = ["AddReport", "add_labels"]
