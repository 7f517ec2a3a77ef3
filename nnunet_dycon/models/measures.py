"""Numbers that say how unsure a prediction is. Volumes are (Z, Y, X), probabilities (C, Z, Y, X)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import entr

from nnunet_dycon.losses.entropy import check_nonlinearity


def entropy_of_probabilities(probabilities: np.ndarray, nonlinearity: str) -> np.ndarray:
    """Entropy of each voxel in nats: of the classes, or the sum of the regions' binary entropies.

    Args:
        probabilities: (C, ...).
        nonlinearity: "softmax" for classes, "sigmoid" for regions.

    Returns:
        Entropy without the first axis, float32.
    """
    check_nonlinearity(nonlinearity)
    total = np.zeros(probabilities.shape[1:], dtype=np.float32)
    for channel in probabilities:
        total += entr(channel)
        if nonlinearity == "sigmoid":
            total += entr(1 - channel)
    return total


def boundary(labels: np.ndarray) -> np.ndarray:
    """Voxels with a face towards a voxel of another label, on both sides of the border; boolean."""
    border = np.zeros(labels.shape, dtype=bool)
    for axis in range(labels.ndim):
        lower = tuple(slice(None, -1) if i == axis else slice(None) for i in range(labels.ndim))
        upper = tuple(slice(1, None) if i == axis else slice(None) for i in range(labels.ndim))
        differ = labels[lower] != labels[upper]
        border[lower] |= differ
        border[upper] |= differ
    return border


def boundary_entropy(entropy: np.ndarray, labels: np.ndarray) -> float:
    """Mean entropy over the predicted boundary in nats; NaN where nothing is predicted."""
    border = boundary(labels)
    return float(entropy[border].mean()) if border.any() else math.nan


def foreground_ml(labels: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """Volume of all labels above 0 in millilitres."""
    return int((labels > 0).sum()) * float(np.prod(spacing_mm)) / 1000


def disagreement(first: np.ndarray, second: np.ndarray, classes: Sequence[int | Sequence[int]]) -> float:
    """1 - Dice between two label maps, averaged over the classes that at least one of them has.

    Args:
        first, second: labels of one shape.
        classes: label values; several of them for a region.

    Returns:
        0 (the same) to 1 (nothing in common); 0 where neither has any of the classes.
    """
    scores = []
    for values in classes:
        a, b = np.isin(first, values), np.isin(second, values)
        if total := int(a.sum()) + int(b.sum()):
            scores.append(1 - 2 * int((a & b).sum()) / total)
    return float(np.mean(scores)) if scores else 0.0
