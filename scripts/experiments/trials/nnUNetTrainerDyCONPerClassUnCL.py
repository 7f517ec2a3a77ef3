"""A trial: UnCL that counts each class the same and is divided by its own weights, so that foreground counts."""

from __future__ import annotations

import torch

from nnunet_dycon.losses import UnCLoss, entropy
from nnunet_dycon.trainers import nnUNetTrainerDyCON
from nnunet_dycon.trainers.dycon import DyCONSettings


class PerClassUnCLoss(UnCLoss):
    """mean_c sum_i m_ic w_i (p_s - p_t)^2 / sum_i m_ic w_i, with w_i = 1 / (exp(beta H_s) + exp(beta H_t)).

    A voxel belongs to class c by m_ic, the larger of the two probabilities; w and m get no gradient. For softmax alone.
    """

    def forward(self, student_logits: torch.Tensor, teacher_logits: torch.Tensor, beta: float) -> torch.Tensor:
        p, q = student_logits.float().softmax(1), teacher_logits.float().softmax(1)
        unsure = (entropy(student_logits.detach()) * beta).exp() + (entropy(teacher_logits) * beta).exp()
        weight = torch.maximum(p, q).detach() / unsure[:, None]
        axes = [0, *range(2, p.ndim)]
        return ((weight * (p - q).square()).sum(axes) / weight.sum(axes).clamp(min=1.0)).mean()


class nnUNetTrainerDyCONPerClassUnCL(nnUNetTrainerDyCON):
    """DyCON with UnCL per class."""

    default_settings = DyCONSettings(weight_uncl=2.0)

    def initialize(self) -> None:
        super().initialize()
        self.uncl = PerClassUnCLoss()
