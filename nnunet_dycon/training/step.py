"""A training step: the crops that go in, and what the semi-supervised losses see of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from nnunet_dycon.data.two_stream_loader import checked


@dataclass
class Crops:
    """A batch on the device."""

    images: torch.Tensor
    """Crops as the student sees them, labelled first, (B, channels, X, Y[, Z])."""
    num_labeled: int
    """Labelled crops b."""
    targets: list[torch.Tensor]
    """nnU-Net's targets of the labelled crops, full resolution first, (b, 1 or regions, X, Y[, Z])."""
    weak_unlabeled: torch.Tensor
    """Unlabelled crops as the teacher sees them, (B - b, channels, X, Y[, Z])."""

    @classmethod
    def from_batch(cls, batch: dict[str, Any], device: torch.device) -> Crops:
        """Move a batch of the two-stream loader to the device; a UserError if there is none, see ``checked``."""
        target = checked(batch)["target"]
        targets = [i.to(device, non_blocking=True) for i in (target if isinstance(target, list) else [target])]
        labeled, unlabeled = (batch[i].to(device, non_blocking=True) for i in ("data", "unlabeled"))
        weak = batch.get("unlabeled_weak")
        weak = unlabeled if weak is None else weak.to(device, non_blocking=True)
        return cls(torch.cat([labeled, unlabeled]), len(labeled), targets, weak)


@dataclass
class Step:
    """What the losses see of a training step. Crops are labelled first, then unlabelled, along the batch axis."""

    progress: float
    """Training progress in [0, 1]."""
    num_labeled: int
    """Labelled crops b."""
    taught: slice
    """Crops of the batch that the teacher has seen."""
    target: torch.Tensor
    """nnU-Net's target of the labelled crops at full resolution, (b, 1 or regions, X, Y[, Z])."""
    student_logits: torch.Tensor
    """(B, C, X, Y[, Z])"""
    teacher_logits: torch.Tensor
    """(B taught, C, X, Y[, Z])"""
    student_embeddings: torch.Tensor | None
    """(B, N, D)"""
    teacher_embeddings: torch.Tensor | None
    """(B taught, N, D)"""
    grid: tuple[int, ...]
    """Patches along each axis; N is their product."""
