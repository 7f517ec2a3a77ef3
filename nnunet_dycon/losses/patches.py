"""From voxels to the patches that FeCL contrasts: labels and uncertainty on the feature map's own grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

UNLABELED = -1


def pool_to_grid(maps: torch.Tensor, grid: Sequence[int]) -> torch.Tensor:
    """Mean of each patch: (B, C, X, Y[, Z]) to (B, C, N) with N = product of ``grid``, in C order."""
    if len(grid) == 2:
        return F.adaptive_avg_pool2d(maps, (grid[0], grid[1])).flatten(2)
    return F.adaptive_avg_pool3d(maps, (grid[0], grid[1], grid[2])).flatten(2)


def patch_labels(
    labels: torch.Tensor,
    classes: Sequence[int],
    grid: Sequence[int],
    *,
    foreground_share: float | None = None,
    min_purity: float = 0.0,
) -> torch.Tensor:
    """Class of each patch: the one with the largest share of its labelled voxels.

    Args:
        labels: (B, X, Y[, Z]) integers; values outside ``classes`` (an ignore label, -1) do not count.
        classes: label values, background 0 first.
        grid: patches along each axis.
        foreground_share: share of foreground among the labelled voxels from which the largest foreground class
            wins over background, so that small foreground is not lost in mixed patches; None: plain majority.
        min_purity: smallest share the winning class must have.

    Returns:
        (B, N) integers: a value of ``classes``, or -1 for a patch without labelled voxels or below ``min_purity``.
    """
    shares = torch.cat([pool_to_grid((labels == value)[:, None].float(), grid) for value in classes], dim=1)
    labeled = shares.sum(1)
    shares = shares / labeled.clamp(min=torch.finfo(shares.dtype).tiny)[:, None]
    share, winner = shares.max(1)
    if foreground_share is not None:
        best_share, best_foreground = shares[:, 1:].max(1)
        is_foreground = shares[:, 1:].sum(1) >= foreground_share
        winner = torch.where(is_foreground, best_foreground + 1, torch.zeros_like(winner))
        share = torch.where(is_foreground, best_share, shares[:, 0])
    values = winner.clone()
    for index, value in enumerate(classes):  # without a table on the device, which the host would wait for
        values.masked_fill_(winner == index, value)
    return values.masked_fill((labeled == 0) | (share < min_purity), UNLABELED)


def regions_to_labels(regions: torch.Tensor, class_order: Sequence[int]) -> torch.Tensor:
    """Label map of overlapping regions, as nnU-Net exports it: later regions overwrite earlier ones.

    Args:
        regions: (B, R, X, Y[, Z]), nonzero inside a region.
        class_order: label of each region, dataset.json's ``regions_class_order``.

    Returns:
        (B, X, Y[, Z]) integers, 0 outside all regions.
    """
    labels = torch.zeros(regions[:, 0].shape, dtype=torch.long, device=regions.device)
    for region, value in zip(regions.unbind(1), class_order, strict=True):
        labels = labels.masked_fill(region > 0, value)
    return labels


def predicted_labels(
    logits: torch.Tensor, *, class_order: Sequence[int] | None = None, min_confidence: float = 0.0
) -> torch.Tensor:
    """Label map of a prediction.

    Args:
        logits: (B, C, X, Y[, Z]).
        class_order: for regions, the label of each region; None for classes.
        min_confidence: voxels whose prediction has a smaller probability get -1.

    Returns:
        (B, X, Y[, Z]) integers.
    """
    labels = _largest_channel(logits) if class_order is None else regions_to_labels(logits > 0, class_order)
    if min_confidence <= 0:
        return labels
    if class_order is None:
        confidence = F.softmax(logits.float(), dim=1).amax(1)
    else:
        confidence = torch.sigmoid(logits.float().abs()).amin(1)
    return labels.masked_fill(confidence < min_confidence, UNLABELED)


def _largest_channel(logits: torch.Tensor) -> torch.Tensor:
    """``logits.argmax(1)``, channel by channel, which is several times faster on a CPU."""
    largest, labels = logits[:, 0], torch.zeros_like(logits[:, 0], dtype=torch.long)
    for channel in range(1, logits.shape[1]):
        labels.masked_fill_(logits[:, channel] > largest, channel)
        largest = torch.maximum(largest, logits[:, channel])
    return labels
