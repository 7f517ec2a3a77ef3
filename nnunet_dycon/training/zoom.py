"""Zoomed view for consistency: of a crop seen larger or smaller, the prediction must be larger or smaller."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from nnunetv2.configuration import ANISO_THRESHOLD

from nnunet_dycon.training.step import Crops


def zoom(
    crops: Crops,
    teacher_logits: torch.Tensor,
    teacher_embeddings: torch.Tensor | None,
    grid: Sequence[int],
    largest: float,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Zoom the unlabelled crops that the student will see, and in the same way what the teacher said of them.

    Args:
        crops: the batch, whose ``images`` are replaced.
        teacher_logits: (B taught, C, X, Y[, Z]), the unlabelled crops last.
        teacher_embeddings: (B taught, N, D) on ``grid``.
        grid: patches along each axis.
        largest: each crop is magnified by a factor between ``1 / largest`` and ``largest``.

    Returns:
        Logits and embeddings for the zoomed crops.
    """
    first = crops.num_labeled - len(crops.images)  # of the unlabelled crops, counted from the end
    factors = random_factors(-first, crops.images.shape[2:], largest)

    channels = crops.images.shape[1]
    seen = magnify(torch.cat([crops.images[first:], teacher_logits[first:]], 1), factors)  # at once is faster
    crops.images = torch.cat([crops.images[:first], seen[:, :channels].to(crops.images.dtype)])
    teacher_logits = torch.cat([teacher_logits[:first], seen[:, channels:].to(teacher_logits.dtype)])
    if teacher_embeddings is not None:
        batch, _, dim = teacher_embeddings.shape
        maps = teacher_embeddings.transpose(1, 2).reshape(batch, dim, *grid)
        maps = torch.cat([maps[:first], magnify(maps[first:], factors)])
        teacher_embeddings = F.normalize(maps.flatten(2).transpose(1, 2), dim=2)
    return teacher_logits, teacher_embeddings


def random_factors(batch: int, shape: Sequence[int], largest: float) -> torch.Tensor:
    """Log-uniform magnification (B, axes); 1 across slices so thick that nnU-Net augments in the plane only."""
    factors = torch.exp((2 * torch.rand(batch, 1) - 1) * math.log(largest)).repeat(1, len(shape))
    if len(shape) == 3 and max(shape) / shape[0] > ANISO_THRESHOLD:
        factors[:, 0] = 1
    return factors


def magnify(maps: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """(B, C, X, Y[, Z]) seen larger by ``factors`` (B, axes) about the centre; mirrored at the border where smaller."""
    device = torch.device("cpu") if maps.device.type == "mps" else maps.device  # which has no 3D grid_sample
    shrinkage = torch.diag_embed(1 / factors.flip(1))  # grid_sample counts axes from the last
    affine = torch.cat([shrinkage, torch.zeros(*factors.shape, 1)], dim=2).to(device)
    with torch.autocast(device.type, enabled=False):
        places = F.affine_grid(affine, list(maps.shape), align_corners=False)
        seen = F.grid_sample(maps.to(device).float(), places, padding_mode="reflection", align_corners=False)
    return seen.to(maps.device, maps.dtype)
