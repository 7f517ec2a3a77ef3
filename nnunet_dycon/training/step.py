"""A training step: the crops that go in, what the teacher saw, and what the losses are given and give back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from nnunet_dycon.data.two_stream_loader import checked


@dataclass(frozen=True)
class Crops:
    """A batch on the device."""

    labeled: torch.Tensor
    """(b, channels, X, Y[, Z])"""
    targets: list[torch.Tensor]
    """nnU-Net's targets of the labelled crops, full resolution first, (b, 1 or regions, X, Y[, Z])."""
    unlabeled: torch.Tensor
    """As the student sees them before further views, (U, channels, X, Y[, Z]); none where a step does not use them."""
    weak_unlabeled: torch.Tensor
    """As the teacher sees them, likewise."""

    @classmethod
    def from_batch(cls, batch: dict[str, Any], device: torch.device, *, with_unlabeled: bool = True) -> Crops:
        """Move a batch of the two-stream loader to the device; a UserError if there is none, see ``checked``."""
        target = checked(batch)["target"]
        targets = [i.to(device, non_blocking=True) for i in (target if isinstance(target, list) else [target])]
        labeled = batch["data"].to(device, non_blocking=True)
        if not with_unlabeled:
            return cls(labeled, targets, labeled[:0], labeled[:0])
        unlabeled = batch["unlabeled"].to(device, non_blocking=True)
        weak = batch.get("unlabeled_weak")
        return cls(labeled, targets, unlabeled, unlabeled if weak is None else weak.to(device, non_blocking=True))

    @property
    def images(self) -> torch.Tensor:
        """All crops, labelled first, (b + U, channels, X, Y[, Z])."""
        return torch.cat([self.labeled, self.unlabeled])


@dataclass(frozen=True)
class Taught:
    """What the teacher said of the crops that it has seen: the last ones of the batch, or all."""

    logits: torch.Tensor
    """(T, C, X, Y[, Z])"""
    embeddings: torch.Tensor | None = None
    """(T, N, D)"""

    def with_last(self, logits: torch.Tensor, embeddings: torch.Tensor | None) -> Taught:
        """Other answers for the last crops."""
        if len(logits) == len(self.logits):
            return Taught(logits, embeddings)
        first = slice(0, len(self.logits) - len(logits))
        if embeddings is not None and self.embeddings is not None:
            embeddings = torch.cat([self.embeddings[first], embeddings])
        return Taught(torch.cat([self.logits[first], logits]), embeddings)

    def detach(self) -> Taught:
        """Without gradient."""
        return Taught(self.logits.detach(), None if self.embeddings is None else self.embeddings.detach())


@dataclass(frozen=True)
class Step:
    """What the losses see of a training step. Crops are labelled first, then unlabelled, along the batch axis."""

    progress: float
    """Training progress in [0, 1]."""
    target: torch.Tensor
    """nnU-Net's target of the labelled crops at full resolution, (b, 1 or regions, X, Y[, Z])."""
    student_logits: torch.Tensor
    """(B, C, X, Y[, Z])"""
    teacher: Taught
    """What the teacher said of the last T crops of the batch, without gradient."""
    student_embeddings: torch.Tensor | None = None
    """(B, N, D)"""
    grid: tuple[int, ...] = ()
    """Patches along each axis; N is their product."""

    @property
    def num_labeled(self) -> int:
        """Labelled crops b."""
        return len(self.target)

    def compared(self, *, with_labeled: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Student's and teacher's logits of the unlabelled crops, or of all that the teacher has seen."""
        number = len(self.teacher.logits) if with_labeled else len(self.student_logits) - self.num_labeled
        return self.student_logits[-number:], self.teacher.logits[-number:]


@dataclass(frozen=True)
class Losses:
    """What a step's passes through one network give."""

    supervised: torch.Tensor
    """Scalar that counts from the start."""
    others: dict[str, torch.Tensor] = field(default_factory=dict)
    """Unweighted scalars by name, each multiplied by the setting ``weight_NAME`` and the ramp-up."""
