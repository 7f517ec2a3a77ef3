"""A training step: the crops that go in, and what the semi-supervised losses see of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch


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
