"""The order in which to label: uncertain scans that resemble neither a labelled scan nor each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pick:
    """A place in the order.

    Attributes:
        case: name.
        uncertainty: mean entropy in and around the predicted foreground, 0 to 1.
        distance: of its features to the nearest labelled or earlier case when it was picked; NaN where there is none.
        nearest: that case, or an empty text.
    """

    case: str
    uncertainty: float
    distance: float
    nearest: str


def rank_cases(
    uncertainty: Mapping[str, float],
    features: Mapping[str, np.ndarray],
    labeled_features: Mapping[str, np.ndarray],
    *,
    diversity: float = 1.0,
) -> list[Pick]:
    """Order all cases greedily: next is the one with the largest uncertainty x distance^diversity.

    The distance is that to the nearest case that is labelled or picked already (farthest-first traversal, which solves
    the k-centre problem up to a factor of 2, here weighted). A product needs no scale for either: doubling all
    distances or all entropies changes nothing. A copy of a picked or labelled scan has distance 0 and comes last.
    Ties go to the larger uncertainty, then to the name. Without any labelled case the most uncertain one is first.

    Args:
        uncertainty: by case, not negative.
        features: (D,) by case, of the same cases.
        labeled_features: (D,) of cases that have a mask.
        diversity: 0 orders by uncertainty alone; larger values look more at the distance.

    Raises:
        ValueError: features of other cases than the uncertainties, or a negative diversity.
    """
    if set(uncertainty) != set(features):
        raise ValueError(f"uncertainties of {sorted(uncertainty)}, features of {sorted(features)}")
    if diversity < 0:
        raise ValueError(f"diversity must not be negative, got {diversity}")
    cases = sorted(uncertainty, key=lambda case: (-uncertainty[case], case))
    if not cases:
        return []
    unsure = np.array([uncertainty[case] for case in cases])
    points = np.stack([features[case] for case in cases])
    distance, nearest = np.full(len(cases), np.inf), [""] * len(cases)
    for name, point in sorted(labeled_features.items()):
        _approach(distance, nearest, points, point, name)
    open_cases, picks = np.ones(len(cases), bool), []
    for _ in cases:
        gain = unsure * (distance**diversity if np.isfinite(distance).all() else 1.0)
        i = int(np.where(open_cases, gain, -1.0).argmax())
        picks.append(Pick(cases[i], float(unsure[i]), _finite(distance[i]), nearest[i]))
        open_cases[i] = False
        _approach(distance, nearest, points, points[i], cases[i])
    return picks


def _approach(distance: np.ndarray, nearest: list[str], points: np.ndarray, point: np.ndarray, name: str) -> None:
    """Take a labelled or picked case into account, in place."""
    to_point = np.linalg.norm(points - point, axis=1)
    for i in np.flatnonzero(to_point < distance):
        distance[i], nearest[i] = to_point[i], name


def _finite(value: float) -> float:
    return float(value) if np.isfinite(value) else float("nan")
