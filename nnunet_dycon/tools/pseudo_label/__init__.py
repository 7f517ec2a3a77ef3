"""Predictions as labels: a new nnU-Net dataset whose unlabelled scans have a model's predictions for masks."""

from nnunet_dycon.tools.pseudo_label.dataset import PseudoLabels, new_pseudo_labeled_dataset, pseudo_label

__all__ = ["PseudoLabels", "new_pseudo_labeled_dataset", "pseudo_label"]
