"""CutMix for consistency: the student sees a box of another unlabelled crop pasted in (French et al., 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nnunet_dycon.training.step import Crops

SHARES = (0.25, 0.5)
"""Smallest and largest share of a crop that is pasted in."""


def cutmix(
    crops: Crops, teacher_logits: torch.Tensor, teacher_embeddings: torch.Tensor | None, grid: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Mix the unlabelled crops that the student will see, and in the same way what the teacher said of them.

    Args:
        crops: the batch, whose ``images`` are replaced.
        teacher_logits: (B taught, C, X, Y[, Z]), the unlabelled crops last.
        teacher_embeddings: (B taught, N, D) on ``grid``.
        grid: patches along each axis.

    Returns:
        Logits and embeddings for the mixed crops.
    """
    shape = crops.images.shape[2:]
    box = random_box(shape, SHARES[0] + (SHARES[1] - SHARES[0]) * float(torch.rand(())))
    first = crops.num_labeled - len(crops.images)  # of the unlabelled crops, counted from the end
    crops.images = torch.cat([crops.images[:first], paste_box(crops.images[first:], box)])
    logits = torch.cat([teacher_logits[:first], paste_box(teacher_logits[first:], box)])
    if teacher_embeddings is not None:
        mixed = paste_patches(teacher_embeddings[first:], box, shape, grid)
        teacher_embeddings = torch.cat([teacher_embeddings[:first], mixed])
    return logits, teacher_embeddings


def random_box(shape: Sequence[int], share: float) -> tuple[slice, ...]:
    """A box of ``share`` of the volume at a random place, with the proportions of ``shape``; one slice an axis."""
    sides = [max(1, round(n * share ** (1 / len(shape)))) for n in shape]
    starts = [int(torch.randint(0, n - side + 1, ())) for n, side in zip(shape, sides, strict=True)]
    return tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))


def paste_box(maps: torch.Tensor, box: Sequence[slice]) -> torch.Tensor:
    """(B, C, X, Y[, Z]) with the box of each crop taken from its neighbour in the batch; images or logits alike."""
    mixed = maps.clone()
    inside = (slice(None), slice(None), *box)
    mixed[inside] = maps.roll(1, 0)[inside]
    return mixed


def paste_patches(
    embeddings: torch.Tensor, box: Sequence[slice], shape: Sequence[int], grid: Sequence[int]
) -> torch.Tensor:
    """The same for patch embeddings (B, N, D) on ``grid``, for the box of a crop of ``shape``."""
    scaled = []
    for part, n, cells in zip(box, shape, grid, strict=True):
        size = n / cells
        scaled.append(slice(round(part.start / size), max(1, round(part.stop / size))))
    batch, _, dim = embeddings.shape
    maps = embeddings.transpose(1, 2).reshape(batch, dim, *grid)
    return paste_box(maps, scaled).flatten(2).transpose(1, 2)
