"""Numbers that say how unsure a prediction is. Volumes are (Z, Y, X)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from skimage.segmentation import find_boundaries


def boundary_entropy(entropy: np.ndarray, labels: np.ndarray) -> float:
    """Mean entropy in nats over the voxels on both sides of predicted borders; NaN where nothing is predicted."""
    border = find_boundaries(labels, connectivity=1, mode="thick")
    return float(entropy[border].mean()) if border.any() else math.nan


def foreground_ml(labels: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """Volume of all labels above 0 in millilitres.

    NaN for a two-dimensional image, whose slice nnU-Net makes 999 times as thick as a pixel is wide.
    """
    if len(labels) == 1 and spacing_mm[0] >= 999 * max(spacing_mm[1:]):
        return math.nan
    return int((labels > 0).sum()) * float(np.prod(spacing_mm)) / 1000


def disagreement(first: np.ndarray, second: np.ndarray, classes: Sequence[int | Sequence[int]]) -> float:
    """1 - Dice between two label maps, averaged over the classes (one label value, or several) that either has.

    It is 0 (the same) to 1 (nothing in common), and 0 where neither has any of the classes.
    """
    scores = []
    for values in classes:
        a, b = np.isin(first, values), np.isin(second, values)
        if total := int(a.sum()) + int(b.sum()):
            scores.append(1 - 2 * int((a & b).sum()) / total)
    return float(np.mean(scores)) if scores else 0.0
