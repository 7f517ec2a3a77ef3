"""Dice, Jaccard, HD95 and ASD of two binary masks.

P and R are the sets of surface voxels of prediction and reference: foreground voxels with a background voxel
among their face neighbours; outside the image is background (as in MedPy). d(P, R) holds, for each voxel of
P, the distance between its centre and the nearest centre in R.

==============  ==============================================  ==========================================
metric          :func:`segmentation_metrics`, mm                 :func:`literature_metrics`, voxels
==============  ==============================================  ==========================================
HD95            95th percentile of d(P, R) and d(R, P) pooled   the same without spacing
ASD             mean of d(P, R) and d(R, P) pooled              mean of d(P, R) alone
both empty      all undefined                                   Dice, Jaccard, HD95 and ASD 0
no prediction   Dice, Jaccard 0, distances undefined            Dice, Jaccard, HD95 and ASD 0
no reference    Dice, Jaccard 0, distances undefined            Dice, Jaccard 0, distances undefined
==============  ==============================================  ==========================================

Undefined is NaN. Both empty is undefined as in nnU-Net's own evaluation. The pooled ASD is the field's
average symmetric surface distance, the sum of both directions over |P| + |R|. MedPy's ``assd`` is another
one, the mean of the two directed means.

``prediction`` and ``reference`` are masks of one shape and any number of axes everywhere, whose foreground is what
is not 0, and ``spacing_mm`` is the voxel size along each array axis (of SimpleITK: ``image.GetSpacing()[::-1]``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt, generate_binary_structure
from scipy.spatial import KDTree

METRICS = ("Dice", "Jaccard", "HD95_mm", "ASD_mm")
LITERATURE_METRICS = ("Dice", "Jaccard", "HD95_voxels", "ASD_voxels")


def heading(metric: str) -> str:
    """``HD95_mm`` -> ``HD95 mm``, ``Dice`` -> ``Dice %``."""
    return metric.replace("_", " ") if "_" in metric else f"{metric} %"


def scale(metric: str) -> int:
    """What a value is multiplied with for ``heading``."""
    return 1 if "_" in metric else 100


# A KD-tree of the surface voxels is about four times faster than a distance transform of the box for an organ
# (surface: 5 % of its box) and about four times slower for a noisy mask (30 %); they are even near 10 %.
DENSE_SURFACE_FRACTION = 0.1


def segmentation_metrics(
    prediction: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float]
) -> dict[str, float]:
    """Overlap and symmetric surface distances in mm; the module's text says what empty masks give.

    Returns:
        ``Dice``, ``Jaccard`` (0 to 1), ``HD95_mm``, ``ASD_mm``.

    Raises:
        ValueError: The shapes differ, or the spacing does not fit them.
    """
    prediction, reference = (mask.astype(bool) for mask in cropped(prediction, reference))
    if not (prediction.any() and reference.any()):
        overlap = math.nan if prediction.any() == reference.any() else 0.0
        return dict(zip(METRICS, (overlap, overlap, math.nan, math.nan), strict=True))
    pooled_mm = np.concatenate(surface_distances(prediction, reference, spacing_mm))
    return dict(zip(METRICS, _measured(prediction, reference, pooled_mm, pooled_mm), strict=True))


def literature_metrics(prediction: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """The numbers of published semi-supervised papers: MedPy's dc, jc, hd95 and asd without spacing.

    Returns:
        ``Dice``, ``Jaccard`` (0 to 1), ``HD95_voxels``, ``ASD_voxels``. As in the published code an empty
        prediction gives 0 four times, which makes its distances perfect. The distances to an empty reference,
        where MedPy fails, are NaN.

    Raises:
        ValueError: The shapes differ.
    """
    prediction, reference = (mask.astype(bool) for mask in cropped(prediction, reference))
    if not (prediction.any() and reference.any()):
        distance = math.nan if prediction.any() else 0.0
        return dict(zip(LITERATURE_METRICS, (0.0, 0.0, distance, distance), strict=True))
    to_reference, to_prediction = surface_distances(prediction, reference, (1.0,) * reference.ndim)
    pooled = np.concatenate([to_reference, to_prediction])
    return dict(zip(LITERATURE_METRICS, _measured(prediction, reference, pooled, to_reference), strict=True))


def _measured(
    prediction: np.ndarray, reference: np.ndarray, pooled: np.ndarray, averaged: np.ndarray
) -> tuple[float, float, float, float]:
    """Dice and Jaccard of two masks with foreground, HD95 of the pooled distances, ASD of the averaged ones."""
    intersection = np.count_nonzero(prediction & reference)
    total = np.count_nonzero(prediction) + np.count_nonzero(reference)
    overlap = 2 * intersection / total, intersection / (total - intersection)
    return *overlap, float(np.percentile(pooled, 95)), float(averaged.mean())


def surface_distances(
    prediction: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Distances between the surfaces of two masks, computed inside their joint bounding box.

    Returns:
        d(P, R), one distance in mm for each surface voxel of the prediction, and d(R, P), one for each of the
        reference, both in array order.

    Raises:
        ValueError: The shapes differ, the spacing does not fit them, or a mask is empty.
    """
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if spacing.shape != (np.ndim(reference),) or not (spacing > 0).all():
        raise ValueError(f"{np.ndim(reference)} positive voxel sizes are needed, spacing_mm is {spacing_mm}")
    prediction, reference = (mask.astype(bool) for mask in cropped(prediction, reference))
    if not (prediction.any() and reference.any()):
        raise ValueError("the distance to the surface of an empty mask is undefined")
    faces = generate_binary_structure(reference.ndim, 1)
    of_p, of_r = (mask ^ binary_erosion(mask, faces) for mask in (prediction, reference))
    if np.count_nonzero(of_p) + np.count_nonzero(of_r) > DENSE_SURFACE_FRACTION * reference.size:
        to_r, to_p = (distance_transform_edt(~surface, sampling=spacing) for surface in (of_r, of_p))
        return to_r[of_p], to_p[of_r]
    p, r = (np.argwhere(surface) * spacing for surface in (of_p, of_r))
    return KDTree(r, balanced_tree=False).query(p)[0], KDTree(p, balanced_tree=False).query(r)[0]


def cropped(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays inside the smallest box around what is not 0 in either; their first voxel if all is 0.

    Raises:
        ValueError: The shapes differ, or have no axes.
    """
    if first.shape != second.shape or first.ndim == 0:
        raise ValueError(f"masks of one shape are needed, got {first.shape} and {second.shape}")
    either, box = np.logical_or(first, second), [slice(0, 1)] * first.ndim
    for axis in range(first.ndim):  # in what is left by the axes before, so that later ones read less
        others = tuple(i for i in range(first.ndim) if i != axis)
        hits = np.flatnonzero(either[tuple(box[:axis])].any(axis=others))
        if hits.size:
            box[axis] = slice(int(hits[0]), int(hits[-1]) + 1)
    return first[tuple(box)], second[tuple(box)]
