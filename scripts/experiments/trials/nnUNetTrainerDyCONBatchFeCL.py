"""A trial: FeCL across the crops of a batch, where a crop without foreground has partners, too."""

from __future__ import annotations

import torch

from nnunet_dycon.losses import FeCLoss
from nnunet_dycon.trainers import nnUNetTrainerDyCON


class BatchFeCLoss(FeCLoss):
    """FeCL whose student's term takes all patches of the batch for those of one crop; the teacher's stays as it is."""

    def forward(
        self,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        teacher_embeddings: torch.Tensor | None = None,
        uncertainty: torch.Tensor | None = None,
    ) -> torch.Tensor:
        apart = super().forward(embeddings, labels, None, uncertainty)
        teacher_term = super().forward(embeddings, labels, teacher_embeddings, uncertainty) - apart
        flat = None if uncertainty is None else uncertainty.flatten()[None]
        return super().forward(embeddings.flatten(0, 1)[None], labels.flatten()[None], None, flat) + teacher_term


class nnUNetTrainerDyCONBatchFeCL(nnUNetTrainerDyCON):
    """DyCON whose FeCL contrasts patches across crops; not across the processes of a distributed training."""

    def initialize(self) -> None:
        super().initialize()
        self.fecl = BatchFeCLoss(**self.fecl.settings._asdict())
